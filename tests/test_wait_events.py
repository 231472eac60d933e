"""Which events end a wait: names, classes, conditions, those that come early (G6)."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from parking import builder, send, state
from pydantic import BaseModel
from watching import transitions

from flowstore import WorkflowEvent


class Decision(BaseModel):
    by: str = "alex"
    level: int = 1


class Approved(Decision):
    note: str = ""


@pytest.fixture
def script(make, clock):
    return builder(make, clock)


async def test_events_that_come_early_are_found(script):
    """Before the handler gets to its wait, or while it waits for something else."""
    got = []
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(event, ctx):
        started.set()
        await go_on.wait()
        got.append((await ctx.wait_for("a")).data)
        got.append((await ctx.wait_for("c")).data)
        got.append((await ctx.wait_for("b")).data)

    workflow = script(handler)
    async with workflow:
        await workflow.send(WorkflowEvent("a", "too early"), correlation_id="r")
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await started.wait()
        for name in "bab":
            await workflow.send(WorkflowEvent(name, f"{name}!"), correlation_id="r")
        go_on.set()
        await workflow.run("r").wait()
        assert got == ["a!"]
        assert await send(workflow, "c", "c!") == "idle"
    assert got[-3:] == ["a!", "c!", "b!"]


async def test_each_event_ends_one_wait_of_a_handler(script):
    async def handler(event, ctx):
        found = [(await ctx.wait_for("x")).data for _ in range(3)]
        found.append((await ctx.wait_for("y")).data)
        found.append((await ctx.wait_for("x")).data)
        ctx.state["found"] = found

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        for number in range(1, 6):
            await send(workflow, "x", number)
        assert await send(workflow, "y", 0) == "idle"
    assert (await state(workflow))["found"] == [1, 2, 3, 0, 4]


async def test_its_own_event_does_not_end_its_wait(script):
    async def handler(event, ctx):
        if event.data == "first":
            ctx.state["found"] = (await ctx.wait_for("go")).data

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go", "first") == "waiting"
        assert await send(workflow, "go", "second") == "idle"
    assert await state(workflow) == {"found": "second"}


async def test_what_it_emits_itself_ends_its_wait(script):
    async def handler(event, ctx):
        ctx.emit(WorkflowEvent("x", "own"))
        ctx.state["found"] = (await ctx.wait_for("x")).data

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "idle"
    assert await state(workflow) == {"found": "own"}


WHERE = [
    ({"by": "alex"}, {"by": "alex", "more": 1}, True),
    ({"by": "alex"}, {"by": "sam"}, False),
    ({"by": "alex"}, {}, False),
    ({"by": None}, {}, False),
    ({"by": None}, {"by": None}, True),
    ({"n": 1}, {"n": True}, False),
    ({"n": 1}, {"n": 1.0}, False),
    ({"n": 0}, {"n": False}, False),
    ({"n": {"b": [1, 2], "a": 1}}, {"n": {"a": 1, "b": [1, 2]}}, True),
    ({"n": {"a": 1}}, {"n": {"a": 1, "b": 2}}, False),
    ({"n": [True]}, {"n": [1]}, False),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ({"a": 1}, None, False),
    ({"a": 1}, "a", False),
    ({"a": 1}, ["a"], False),
    ({}, None, True),
]


@pytest.mark.parametrize(("where", "data", "fits"), WHERE)
async def test_a_mapping_says_what_the_data_must_have(script, where, data, fits):
    async def handler(event, ctx):
        ctx.state["found"] = (await ctx.wait_for("x", where=where)).data

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "x", data) == ("idle" if fits else "waiting")
    assert await state(workflow) == ({"found": data} if fits else {})


async def is_two(event):
    await asyncio.sleep(0)
    return event.data == 2


@pytest.mark.parametrize("where", [lambda event: event.data == 2, is_two])
async def test_a_function_says_whether_it_is_the_one(script, where):
    async def handler(event, ctx):
        ctx.state["tries"] = 1
        ctx.state["found"] = (await ctx.wait_for("x", where=where)).data
        ctx.state["again"] = (await ctx.wait_for("x", where=lambda event: True)).data

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        for number in (1, 3):
            assert await send(workflow, "x", number) == "waiting"
        assert await transitions(workflow, "r") == [(1, "h", 1, "parked")]
        assert await send(workflow, "x", 2) == "idle"
    assert await state(workflow) == {"tries": 1, "found": 2, "again": 1}


async def test_a_class_fits_with_its_subclasses_and_gives_typed_objects(script, make):
    """Also in a process that has not met the class yet."""

    async def handler(event, ctx):
        found = await ctx.wait_for(Decision, where={"by": "alex"})
        exact = await ctx.wait_for(Approved, where=lambda each: each.level > 1)
        ctx.state["found"] = [type(found).__name__, type(exact).__name__, exact.note]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
    await workflow.close()
    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "unrelated") == "waiting"
        assert await send(workflow, Approved(by="sam")) == "waiting"
        assert await send(workflow, Approved(by="alex")) == "waiting"
        assert await send(workflow, Decision(level=2)) == "waiting"
    await workflow.close()
    workflow = script(handler)
    async with workflow:
        assert await send(workflow, Approved(level=2, note="fine")) == "idle"
    assert await state(workflow) == {"found": ["Approved", "Approved", "fine"]}


async def test_any_event_can_be_waited_for(script):
    async def handler(event, ctx):
        ctx.state["found"] = (await ctx.wait_for("*")).name

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "whatever") == "idle"
    assert await state(workflow) == {"found": "whatever"}


async def test_events_of_other_runs_wake_no_one(script):
    async def handler(event, ctx):
        ctx.state["found"] = (await ctx.wait_for("x")).data

    workflow = script(handler)
    async with workflow:
        for run in ("a", "b", "c"):
            await send(workflow, "go", run=run)
        await send(workflow, "x", 1, run="b")
        await send(workflow, "x", 2, run="d")
        found = [await workflow.run(run).status() for run in "abcd"]
    assert found == ["waiting", "idle", "waiting", "idle"]


async def test_several_handlers_wait_for_one_event(script):
    async def handler(event, ctx):
        got = await ctx.wait_for("x")
        ctx.state.setdefault("order", []).append([event.data, got.data])

    workflow = script(handler)
    async with workflow:
        for number in range(12):
            await send(workflow, "go", number)
        assert await send(workflow, "x", "x") == "idle"
    assert (await state(workflow))["order"] == [[number, "x"] for number in range(12)]
