"""ctx.postpone: an event that came early is handled again later, as if for the first time."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from failing import THRICE
from parking import builder, parked, path_of, send, state
from watching import drops, log, query, transitions

from flowstore import WorkflowEvent
from flowstore.errors import ConfigurationError, EventTypeError
from flowstore.testing import crash

HOUR = 3600.0


@dataclass
class Created:
    order: str = "o"


@dataclass
class Imported(Created):
    source: str = "file"


@pytest.fixture
def script(make, clock):
    return builder(make, clock)


async def passing(workflow, clock, seconds):
    await clock.advance(seconds)
    await send(workflow, "flush", run="flush")  # behind what was fired
    return (await workflow.run("r").wait(timeout=20)).status


async def test_the_event_is_handled_again_when_the_other_has_come_and_nothing_else_counts(script):
    steps = []

    async def handler(event, ctx):
        ctx.state["tries"] = ctx.state.get("tries", 0) + 1
        ctx.emit(WorkflowEvent("shipped"))
        ctx.schedule(WorkflowEvent("reminder"), delay=HOUR)
        await ctx.step("ask", lambda: steps.append(1))
        yield WorkflowEvent.progress("ship", "tried")
        if "count" not in ctx.state:
            ctx.drop("too early")
            ctx.complete("not really")
            ctx.postpone(until="note")
            return
        ctx.state["position"] = event.position

    workflow = script(handler)
    async with workflow:
        await send(workflow, "other")
        await send(workflow, "other")
        assert await send(workflow, "go") == "waiting"
        assert await state(workflow) == {}
        assert query(path_of(workflow), "SELECT count(*) FROM timer") == [(0,)]
        assert await send(workflow, "other") == "waiting"
        await send(workflow, "note")
    assert await state(workflow) == {"count": 1, "tries": 1, "position": 3}
    names = [name for _, name in await log(workflow, "r")]
    assert names[2:] == ["go", "progress", "other", "note", "shipped"]
    assert steps == [1]
    assert await drops(workflow, "r") == []
    assert query(path_of(workflow), "SELECT count(*) FROM timer") == [(1,)]
    assert (await transitions(workflow, "r"))[0] == (3, "h", 1, "postponed")
    assert (await transitions(workflow, "r"))[-1] == (6, "h@3", 1, "handled")


async def test_it_comes_behind_the_handlers_of_the_awaited_event_and_in_order(script):
    async def handler(event, ctx):
        if "count" not in ctx.state:
            ctx.postpone(until="note")
        else:
            ctx.state.setdefault("order", []).append(event.data)

    workflow = script(handler)
    async with workflow:
        for number in range(11):
            await send(workflow, "go", number)
        assert await send(workflow, "note") == "idle"
    assert (await state(workflow))["order"] == list(range(11))


@pytest.mark.parametrize("event", [Created(), Imported()])
async def test_until_an_event_of_a_class_or_a_subclass(script, event):
    async def handler(_, ctx):
        ctx.state["tries"] = 1
        if ctx.state.get("created") is None:
            ctx.postpone(until=Created)

    workflow = script(handler)

    async def created(event, ctx):
        ctx.state["created"] = event.order

    workflow.register(Created, created)
    async with workflow:
        assert await send(workflow, "go") == "waiting"
        assert await send(workflow, event) == "idle"
    assert await state(workflow) == {"created": "o", "tries": 1}


async def test_until_a_time_has_come(script, clock):
    opening = datetime(2030, 1, 1, 9, tzinfo=UTC)

    async def handler(event, ctx):
        if ctx.now() < opening:
            ctx.postpone(until=opening)
            return
        ctx.state["handled"] = str(ctx.now())

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await passing(workflow, clock, 8 * HOUR) == "waiting"
        assert await passing(workflow, clock, HOUR) == "idle"
    assert await state(workflow) == {"handled": "2030-01-01 09:00:00+00:00"}
    outcomes = [outcome for *_, outcome in await transitions(workflow, "r")]
    assert outcomes == ["postponed", "handled"]


@pytest.mark.parametrize("wait", [60, 60.0, timedelta(minutes=1)])
async def test_for_so_long_again_and_again(script, clock, wait):
    async def handler(event, ctx):
        yield WorkflowEvent.progress("poll", "again")
        minutes = (ctx.now() - event.created_at).total_seconds() / 60
        if minutes < 5:
            ctx.postpone(wait)
        else:
            ctx.state["minutes"] = minutes

    workflow = script(handler)
    async with workflow:
        await send(workflow, "note")
        await send(workflow, "go")
        for _ in range(4):
            assert await passing(workflow, clock, 60) == "waiting"
        assert await passing(workflow, clock, 60) == "idle"
        assert await passing(workflow, clock, HOUR) == "idle"
    assert await state(workflow) == {"count": 1, "minutes": 5.0}
    names = [name for _, name in await log(workflow, "r")]
    assert names.count("wait.expired") == 5
    assert parked(workflow) == []


async def test_until_the_next_one_of_its_own_name(script):
    async def handler(event, ctx):
        if event.data == "first" and not ctx.state.get("seen"):
            ctx.postpone(until="go")
            return
        ctx.state.setdefault("seen", []).append(event.data)

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go", "first") == "waiting"
        assert await send(workflow, "go", "second") == "idle"
    assert await state(workflow) == {"seen": ["second", "first"]}


async def test_the_last_word_counts(script, clock):
    async def handler(event, ctx):
        if "count" not in ctx.state:
            ctx.postpone(HOUR)
            ctx.postpone(until="note")

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert query(path_of(workflow), "SELECT count(*) FROM timer") == [(0,)]
        assert await send(workflow, "note") == "idle"


async def test_a_failure_after_it_is_a_failure(script, clock):
    """It is tried again at once, as any other, and is not put off."""

    async def handler(event, ctx):
        ctx.postpone(until="note")
        if ctx.attempt < 3:
            raise ConnectionError("no answer")

    workflow = script(handler, retry=THRICE)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        for _ in range(2):
            await clock.until_asleep()
            assert parked(workflow) == []
            await clock.advance(2)
        assert (await workflow.run("r").wait()).status == "waiting"
        assert parked(workflow) == [(1, "h", "postpone", "note")]
    outcomes = [outcome for *_, outcome in await transitions(workflow, "r")]
    assert outcomes == ["retried", "retried", "postponed"]


async def test_it_is_tried_again_when_it_fails_the_second_time(script, clock):
    steps = []

    async def handler(event, ctx):
        await ctx.step("a", lambda: steps.append(ctx.attempt))
        if "count" not in ctx.state:
            ctx.postpone(until="note")
            return
        if ctx.attempt == 1:
            raise ConnectionError("no answer")
        ctx.state["done"] = ctx.attempt

    workflow = script(handler, retry=THRICE)
    async with workflow:
        await send(workflow, "go")
        await workflow.send(WorkflowEvent("note"), correlation_id="r")
        await clock.until_asleep()
        while await workflow.run("r").status() == "running":
            await clock.advance(1)
        assert (await workflow.run("r").wait()).status == "idle"
    assert await state(workflow) == {"count": 1, "done": 2}
    assert steps == [1]


async def test_closing_the_run_ends_it(script, clock):
    async def handler(event, ctx):
        ctx.postpone(HOUR)

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        await workflow.run("r").cancel("no longer wanted")
        assert parked(workflow) == []
        await clock.advance(2 * HOUR)
        assert await workflow.run("r").status() == "cancelled"
    assert await log(workflow, "r") == [(1, "go")]


async def test_one_that_was_postponed_can_wait(script):
    """And it finds what has come since its event."""

    async def handler(event, ctx):
        if "count" not in ctx.state:
            ctx.postpone(until="note")
            return
        ctx.state["found"] = [(await ctx.wait_for("x")).data, (await ctx.wait_for("x")).data]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "x", 0)
        await send(workflow, "go")
        await send(workflow, "x", 1)
        assert await send(workflow, "note") == "waiting"
        assert await send(workflow, "x", 2) == "idle"
    assert await state(workflow) == {"count": 1, "found": [1, 2]}


async def test_one_that_has_waited_cannot_be_postponed(script):
    async def handler(event, ctx):
        await ctx.wait_for("x")
        ctx.postpone(until="y")

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "x") == "failed"
    ((error,),) = query(path_of(workflow), "SELECT error FROM transition WHERE error IS NOT NULL")
    assert "ctx.wait_for" in error


@pytest.mark.parametrize(
    "until",
    ["", -1, float("nan"), True, None, [], datetime(2030, 1, 1), int],  # noqa: DTZ001
)
async def test_wrong_arguments_are_refused(script, until):
    errors = []

    async def handler(event, ctx):
        with pytest.raises((ConfigurationError, EventTypeError)) as caught:
            ctx.postpone(until)
        errors.append(caught.value)

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "idle"
    assert len(errors) == 1


async def test_a_plain_function_can_postpone_and_the_process_may_end_between(script):
    def handler(event, ctx):
        ctx.state["tries"] = ctx.attempt
        if ctx.state.get("count", 0) < 2:
            ctx.postpone(until="note")

    for name, expected in (("go", "waiting"), ("note", "waiting"), ("note", "idle")):
        workflow = script(handler)
        async with workflow:
            assert await send(workflow, name) == expected
            await crash(workflow)
    assert await state(script(handler)) == {"count": 2, "tries": 1}


async def test_the_end_of_another_wait_does_not_end_it(script, clock):
    tries = []

    async def handler(event, ctx):
        tries.append(event.data)
        if event.data == 2:
            ctx.postpone(10)
        elif "count" not in ctx.state:
            ctx.postpone(until="note")

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go", 1)
        await send(workflow, "go", 2)
        await passing(workflow, clock, 10)
        await passing(workflow, clock, 10)
    assert tries == [1, 2, 2, 2]
