"""ctx.wait_for: a handler that waits is parked, and goes on where it was (G2, G3, G4)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from parking import builder, parked, path_of, send, state
from pydantic import BaseModel
from sqlalchemy import text
from watching import drops, log, query, transitions

from flowstore import WorkflowEvent
from flowstore.errors import FlowstoreError


class ModelState(BaseModel):
    seen: list[str] = []
    marks: dict[str, int] = {}
    count: int = 0


@dataclass
class DataState:
    seen: list[str] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    count: int = 0


@pytest.fixture
def script(make, clock):
    return builder(make, clock)


# --- parking and going on ----------------------------------------------------------------


async def test_what_was_done_before_the_wait_is_committed_when_it_is_parked_and_once(script):
    """G2, G3: events, state, steps, timers and statements; none of them is done again."""
    calls = []

    async def handler(event, ctx):
        ctx.state["before"] = ctx.state.get("before", 0) + 1
        ctx.emit(WorkflowEvent("emitted", {"n": 1}))
        ctx.schedule(WorkflowEvent("later"), delay=9_000.0, key="k")
        ctx.execute(text("INSERT INTO mine (what) VALUES ('before')"))
        answer = await ctx.step("ask", lambda: calls.append(1) or "answer")
        found = await ctx.wait_for("x")
        ctx.state["behind"] = [answer, found.data, found.position]
        ctx.emit(WorkflowEvent("emitted", {"n": 2}))
        ctx.execute(text("INSERT INTO mine (what) VALUES ('behind')"))

    workflow = script(handler)

    @workflow.on("make")
    async def make_table(event, ctx):
        ctx.execute(text("CREATE TABLE mine (what TEXT)"))

    path = path_of(workflow)
    async with workflow:
        await send(workflow, "make", run="other")
        assert await send(workflow, "go") == "waiting"
        assert await state(workflow) == {"before": 1}
        assert await log(workflow, "r") == [(1, "go"), (2, "emitted")]
        assert query(path, "SELECT what FROM mine") == [("before",)]
        assert query(path, "SELECT count(*) FROM timer") == [(1,)]
        await send(workflow, "y")
        assert await send(workflow, "x", "data") == "waiting"  # for its timer
    assert await state(workflow) == {"before": 1, "behind": ["answer", "data", 4]}
    assert calls == [1]
    assert query(path, "SELECT what FROM mine") == [("before",), ("behind",)]
    assert query(path, "SELECT key FROM timer") == [("k",)]
    assert [each async for each in workflow.run("r").events()][-1].id == "1/h/2"
    assert await transitions(workflow, "r") == [(1, "h", 1, "parked"), (4, "h@1", 1, "handled")]
    assert await drops(workflow, "r") == []
    assert parked(workflow) == []


async def test_the_run_goes_on_with_later_events_while_a_handler_waits(script):
    async def handler(event, ctx):
        await ctx.wait_for("x")
        ctx.state["seen"] = ctx.state["count"]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        for _ in range(5):
            assert await send(workflow, "note") == "waiting"
        assert await send(workflow, "x") == "idle"
    assert await state(workflow) == {"count": 5, "seen": 5}


async def test_other_handlers_of_the_event_come_first(script):
    async def handler(event, ctx):
        await ctx.wait_for("note")
        ctx.state["seen"] = ctx.state["count"]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        await send(workflow, "note")
    assert await state(workflow) == {"count": 1, "seen": 1}


@pytest.mark.parametrize("kind", [dict, ModelState, DataState])
async def test_whoever_holds_the_state_or_a_part_of_it_sees_it_live_behind_the_wait(script, kind):
    async def handler(event, ctx):
        held = ctx.state
        ctx["seen"] = ["before"]
        ctx["marks"] = {"a": 1}
        seen, marks = ctx["seen"], ctx["marks"]
        await ctx.wait_for("x")
        assert held is ctx.state
        assert seen is ctx["seen"]
        assert ctx["count"] == 2
        seen.append("one")
        marks["b"] = 2
        await ctx.wait_for("x")
        assert ctx["count"] == 3
        seen.append("two")
        marks["c"] = ctx["count"]
        ctx["count"] = 0

    workflow = script(handler, state=kind)
    async with workflow:
        for name in ("go", "note", "note", "x", "note", "x"):
            await send(workflow, name)
    found = await state(workflow)
    found = found if kind is dict else {name: getattr(found, name) for name in ("seen", "marks")}
    assert found["seen"] == ["before", "one", "two"]
    assert found["marks"] == {"a": 1, "b": 2, "c": 3}


async def test_replayed_it_sees_the_state_of_each_moment(script):
    """What it saw between two waits it sees again, so that it takes the same way."""
    ways = []

    async def handler(event, ctx):
        first = ctx.state.get("count", 0)
        await ctx.wait_for("x")
        second = ctx.state.get("count", 0)
        ctx.state["own"] = second
        await ctx.wait_for("y" if second else "never")
        third = (ctx.state.get("count", 0), ctx.state["own"])
        await ctx.wait_for("z")
        ways.append((first, second, third, ctx.state["count"]))

    workflow = script(handler)
    async with workflow:
        for name in ("go", "note", "x", "note", "note", "y", "note", "z"):
            await send(workflow, name)
    assert ways == [(0, 1, (3, 1), 4)]


async def test_the_state_of_each_moment_is_found_with_snapshots_between(script):
    seen = []

    async def handler(event, ctx):
        for _ in range(3):
            seen.append(ctx.state.get("size", 0))
            await ctx.wait_for("x")
        seen.append(ctx.state.get("size", 0))

    workflow = script(handler)

    @workflow.on("grow")
    async def grow(event, ctx):
        ctx.state["size"] = ctx.state.get("size", 0) + 1
        ctx.state["text"] = str(ctx.state["size"]) * 20_000

    async with workflow:
        await send(workflow, "go")
        for _ in range(3):
            for _ in range(4):
                await send(workflow, "grow")
            await send(workflow, "x")
    assert len(query(path_of(workflow), "SELECT position FROM snapshot")) > 2
    assert seen == [0, 0, 4, 0, 4, 8, 0, 4, 8, 12]


async def test_what_a_parked_handler_does_on_its_way_out_is_void(script):
    """`finally`, `except BaseException` and `async with` run, and nothing of it counts."""
    errors = []

    async def handler(event, ctx):
        held = ctx.state
        held["before"] = 1
        try:
            await ctx.wait_for("x")
        except BaseException:
            held["caught"] = True
            try:
                ctx.emit(WorkflowEvent("never"))
            except FlowstoreError as error:
                errors.append(str(error))
            raise
        finally:
            held["left"] = held.get("left", 0) + 1
        ctx.state["done"] = True

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "waiting"
        assert await state(workflow) == {"before": 1}
        await send(workflow, "note")
        assert await send(workflow, "x") == "idle"
    assert await state(workflow) == {"before": 1, "count": 1, "left": 1, "done": True}
    assert len(errors) == 1
    assert "has ended" in errors[0]


async def test_a_handler_cannot_swallow_that_it_is_parked(script):
    async def handler(event, ctx):
        with contextlib.suppress(BaseException):  # as users should not
            await ctx.wait_for("x")
        ctx.logger.info("goes on")
        raise ValueError("on the way out")

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "waiting"
    assert [name for _, name in await log(workflow, "r")] == ["go"]


async def test_an_async_generator_waits_between_what_it_yields(script):
    async def handler(event, ctx):
        yield WorkflowEvent("one")
        yield WorkflowEvent.progress("step", "half")
        found = await ctx.wait_for("x")
        yield WorkflowEvent("two", found.data)
        await ctx.wait_for("x")
        yield WorkflowEvent("three")

    workflow = script(handler)
    async with workflow:
        for name in ("go", "x", "x"):
            await send(workflow, name, 7)
    names = [name for _, name in await log(workflow, "r")]
    assert sorted(names[:3]) == ["go", "one", "progress"]
    assert names[3:] == ["x", "two", "x", "three"]
    assert await drops(workflow, "r") == []


async def test_progress_is_reported_once_each_in_one_process(script):
    async def handler(event, ctx):
        for number in range(3):
            yield WorkflowEvent.progress("step", str(number))
            await ctx.wait_for("x")

    workflow = script(handler)
    async with workflow:
        for name in ("note", "note", "go", "x", "x", "x"):
            await send(workflow, name)
    told = [e.data["description"] async for e in workflow.run("r").events() if e.name == "progress"]
    assert told == ["0", "1", "2"]


# --- time and chance -----------------------------------------------------------------------


async def test_time_and_chance_are_the_same_when_it_is_replayed(script, clock):
    told: list[list[Any]] = []

    async def handler(event, ctx):
        seen = [ctx.now(), ctx.random.random()]
        told.append(seen)
        for _ in range(2):
            await ctx.wait_for("x")
            seen += [ctx.now(), ctx.random.random()]

    workflow = script(handler)
    async with workflow:
        began = clock.moment
        await send(workflow, "go")
        await clock.advance(60)
        first = clock.moment
        await send(workflow, "x")
        await clock.advance(60)
        await send(workflow, "x")
    assert told[-1][::2] == [began, first, clock.moment]
    assert len(set(told[-1][1::2])) == 3
    assert told == [told[-1][:2], told[-1][:4], told[-1]]


async def test_what_was_arranged_before_the_wait_is_not_arranged_again(script, clock):
    async def handler(event, ctx):
        ctx.schedule(WorkflowEvent("note"), delay=5)
        ctx.cancel("other")
        await ctx.wait_for("x")
        ctx.schedule(WorkflowEvent("note"), delay=5)
        await ctx.wait_for("x")

    workflow = script(handler)

    @workflow.on("set")
    async def keep(event, ctx):
        ctx.schedule(WorkflowEvent("kept"), delay=9_000, key="other")

    path = path_of(workflow)
    async with workflow:
        await send(workflow, "go")
        await clock.advance(5)
        await send(workflow, "set")
        await send(workflow, "x")
        assert query(path, "SELECT key FROM timer ORDER BY due_at") == [("1/h/s2",), ("other",)]
        await clock.advance(5)
        await send(workflow, "x")
        assert query(path, "SELECT key FROM timer") == [("other",)]
    assert await state(workflow) == {"count": 2}
