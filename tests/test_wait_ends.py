"""How waits end otherwise: timeouts, failures, closed runs, handlers that have changed (G3, G7)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from failing import THRICE, fail_once
from parking import builder, parked, path_of, send, state
from watching import log, query, transitions

from flowstore import WorkflowEvent
from flowstore.errors import WaitExpiredError

DAY = 24 * 3600.0


@pytest.fixture
def script(make, clock):
    return builder(make, clock)


async def passing(workflow, clock, seconds):
    """Let time pass, and wait until what has come due is handled."""
    await clock.advance(seconds)
    await send(workflow, "flush", run="flush")  # behind what was fired
    return (await workflow.run("r").wait(timeout=20)).status


async def patient(event, ctx):
    try:
        ctx.state["found"] = (await ctx.wait_for("x", timeout=60)).data
    except TimeoutError as error:
        ctx.state["late"] = [str(error), (ctx.now() - ctx.event.created_at).total_seconds()]
        ctx.state["found"] = (await ctx.wait_for("x", timeout=60)).data


def timers(workflow):
    return query(path_of(workflow), "SELECT count(*) FROM timer")[0][0]


# --- timeouts ---------------------------------------------------------------------------


async def test_a_wait_whose_time_is_over_raises_and_the_handler_goes_on(script, clock):
    workflow = script(patient)
    async with workflow:
        await send(workflow, "go")
        assert await passing(workflow, clock, 59) == "waiting"
        assert await state(workflow) == {}
        assert await passing(workflow, clock, 1) == "waiting"
        assert timers(workflow) == 1
        assert await send(workflow, "x", 1) == "idle"
        assert timers(workflow) == 0
        assert await passing(workflow, clock, DAY) == "idle"
    assert await state(workflow) == {"late": ["'x' has not come in time", 60.0], "found": 1}
    assert [name for _, name in await log(workflow, "r")] == ["go", "wait.expired", "x"]


async def test_the_timer_is_gone_when_the_event_came_first(script, clock):
    workflow = script(patient)
    async with workflow:
        await send(workflow, "go")
        assert timers(workflow) == 1
        assert await send(workflow, "x", 1) == "idle"
        assert timers(workflow) == 0


async def test_a_wait_that_expires_uncaught_is_a_failure(script, clock):
    async def handler(event, ctx):
        await ctx.wait_for("x", timeout=60)

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await passing(workflow, clock, 60) == "failed"
    assert await transitions(workflow, "r") == [(1, "h", 1, "parked"), (2, "h@1", 1, "dead")]
    assert parked(workflow) == []


@pytest.mark.parametrize("first", ["event", "timeout"])
async def test_event_and_timeout_at_the_same_time_the_first_in_the_log_counts(script, clock, first):
    busy, go_on = asyncio.Event(), asyncio.Event()
    workflow = script(patient)

    @workflow.on("block")
    async def block(event, ctx):
        busy.set()
        await go_on.wait()

    async with workflow:
        await send(workflow, "go")
        await workflow.send(WorkflowEvent("block"), correlation_id="r")
        await busy.wait()
        if first == "event":
            await workflow.send(WorkflowEvent("x", 1), correlation_id="r")
        await clock.advance(60)
        await send(workflow, "flush", run="flush")
        if first == "timeout":
            await workflow.send(WorkflowEvent("x", 1), correlation_id="r")
        go_on.set()
        assert (await workflow.run("r").wait(timeout=20)).status == "idle"
        assert timers(workflow) == 0
    found = await state(workflow)
    assert found["found"] == 1
    assert ("late" in found) == (first == "timeout")
    assert len(await log(workflow, "r")) == 4


async def test_a_clock_set_back_or_ahead_by_days_ends_the_wait_once(make, clock):
    workflow = builder(make, clock)(patient)
    async with workflow:
        await send(workflow, "go")
        clock._now -= int(3 * DAY * 1e6)  # set back while it waits
        assert await passing(workflow, clock, 120) == "waiting"
        assert await state(workflow) == {}
        clock._now += int(9 * DAY * 1e6)
        assert await passing(workflow, clock, 1) == "waiting"
        assert (await state(workflow))["late"][0] == "'x' has not come in time"
        assert await send(workflow, "x", 1) == "idle"
    assert [name for _, name in await log(workflow, "r")] == ["go", "wait.expired", "x"]


async def test_two_waits_with_timeouts_of_several_handlers(script, clock):
    async def handler(event, ctx):
        for _ in range(2):
            with pytest.raises(WaitExpiredError):
                await ctx.wait_for("x", timeout=event.data)
        ctx.state.setdefault("done", []).append(event.data)

    workflow = script(handler)
    async with workflow:
        for seconds in (30, 10, 20):
            await send(workflow, "go", seconds)
        for _ in range(6):
            await passing(workflow, clock, 10)
        assert await workflow.run("r").status() == "idle"
    assert await state(workflow) == {"done": [10, 20, 30]}


# --- failures ---------------------------------------------------------------------------


async def test_a_handler_that_fails_behind_its_wait_is_tried_again_from_there(script, clock):
    """G3: steps are not repeated, before the wait or behind it, and the state is right."""
    steps, seen = [], []

    async def handler(event, ctx):
        ctx.state["before"] = ctx.state.get("before", 0) + 1
        await ctx.step("one", lambda: steps.append("one"))
        await ctx.wait_for("x", timeout=DAY)
        seen.append((ctx.attempt, dict(ctx.state)))
        ctx.state["behind"] = ctx.state.get("behind", 0) + 1
        ctx.emit(WorkflowEvent("told"))
        await ctx.step("two", lambda: steps.append("two"))
        fail_once(ctx)

    workflow = script(handler, retry=THRICE)
    async with workflow:
        await send(workflow, "go")
        await send(workflow, "note")
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        await clock.until_asleep()
        while seen == [] or await workflow.run("r").status() == "running":
            await clock.advance(1)
        assert (await workflow.run("r").wait()).status == "idle"
    assert steps == ["one", "two"]
    assert seen == [(attempt, {"before": 1, "count": 1}) for attempt in (1, 2)]
    assert await state(workflow) == {"before": 1, "count": 1, "behind": 1}
    assert await transitions(workflow, "r") == [
        (1, "h", 1, "parked"),
        (2, next(h for _, h, *_ in await transitions(workflow, "r") if "note" in h), 1, "handled"),
        (3, "h@1", 1, "retried"),
        (3, "h@1", 2, "handled"),
    ]
    assert (parked(workflow), timers(workflow)) == ([], 0)
    assert [name for _, name in await log(workflow, "r")] == ["go", "note", "x", "told"]


async def test_a_dead_letter_behind_the_wait_frees_the_handler(script, clock):
    async def handler(event, ctx):
        await ctx.wait_for("x", timeout=DAY)
        ctx.state["half"] = True
        ctx.schedule(WorkflowEvent("never"), delay=1)
        raise ValueError("no")

    workflow = script(handler)

    @workflow.on("error")
    async def on_error(event, ctx):
        ctx.state["error"] = [event.error, event.data["event"], event.data["handler"]]

    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "x") == "idle"
        assert (parked(workflow), timers(workflow)) == ([], 0)
        assert await send(workflow, "x") == "idle"
    assert await state(workflow) == {"error": ["no", "go", "h"]}


async def test_a_failure_before_the_wait_parks_no_one(script, clock):
    async def handler(event, ctx):
        fail_once(ctx)
        ctx.state["found"] = (await ctx.wait_for("x")).data

    workflow = script(handler, retry=THRICE)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.send(WorkflowEvent("x", 1), correlation_id="r")
        await clock.until_asleep()
        assert parked(workflow) == []
        while await workflow.run("r").status() == "running":
            await clock.advance(1)
        assert (await workflow.run("r").wait()).status == "idle"
    assert await state(workflow) == {"found": 1}


async def test_a_statement_that_fails_leaves_no_one_parked(script):
    """G2: neither does the statement count nor the wait."""
    from sqlalchemy import text

    async def handler(event, ctx):
        ctx.execute(text("INSERT INTO missing VALUES (1)"))
        await ctx.wait_for("x")

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "failed"
    assert parked(workflow) == []


async def test_a_state_that_cannot_be_stored_is_told_at_the_wait(script):
    async def handler(event, ctx):
        ctx.state["bad"] = object()
        await ctx.wait_for("x")

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "failed"
    assert parked(workflow) == []
    assert await state(workflow) == {}


async def test_the_time_that_it_is_parked_does_not_count_for_its_timeout(script, clock):
    async def handler(event, ctx):
        await ctx.wait_for("x")
        if event.data:
            await asyncio.Event().wait()

    workflow = script(handler, timeout=30.0)
    async with workflow:
        await send(workflow, "go")
        await passing(workflow, clock, 1000)
        assert await send(workflow, "x") == "idle"
        await send(workflow, "go", "slow")
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        await clock.until_asleep(30)
        await clock.advance(30)
        assert (await workflow.run("r").wait(timeout=20)).status == "failed"
    assert (await transitions(workflow, "r"))[-1][1:] == ("h@3", 1, "dead")


# --- handlers that have changed ---------------------------------------------------------


async def waits_for_x(event, ctx):
    ctx.state["began"] = True
    ctx.state["found"] = (await ctx.wait_for("x")).data


async def waits_for_y(event, ctx):
    ctx.state["wrong"] = (await ctx.wait_for("y")).data


async def waits_for_y_whatever_comes(event, ctx):
    try:
        await waits_for_y(event, ctx)
    except Exception:  # noqa: BLE001 - as users do
        ctx.state["wrong"] = True


async def does_not_wait(event, ctx):
    ctx.state["wrong"] = True


async def tried(workflow, clock, times):
    """Let minutes pass until a handler has been tried again so often; return how many."""
    for minutes in range(100):
        await send(workflow, "flush", run="flush")
        outcomes = [outcome for *_, outcome in await transitions(workflow, "r")]
        if outcomes == ["parked", *["retried"] * times]:
            return minutes
        await clock.advance(60)
    raise AssertionError(outcomes)


CHANGED = [waits_for_y, waits_for_y_whatever_comes, does_not_wait, None]


@pytest.mark.parametrize("new", CHANGED)
async def test_a_handler_that_is_gone_or_has_changed_waits_for_the_right_code(script, clock, new):
    """G7: it is tried again and again, that is in the record, and nothing is lost by it."""
    workflow = script(waits_for_x)
    async with workflow:
        await send(workflow, "go")
    await workflow.close()
    workflow = script(new) if new else script(waits_for_x, event="other")
    async with workflow:
        await workflow.send(WorkflowEvent("x", 5), correlation_id="r")
        minutes = await tried(workflow, clock, 7)
        assert 35 <= minutes <= 40  # 1 + 2 + 4 + 8 + 10 + 10
        assert await workflow.run("r").status() == "running"
        assert parked(workflow) == [(1, "h", "wait", "x")]
        assert await state(workflow) == {"began": True}
    ((error,),) = query(path_of(workflow), "SELECT DISTINCT error FROM transition WHERE error > ''")
    assert ("must not change" in error) == bool(new)
    await workflow.close()
    workflow = script(waits_for_x)
    async with workflow:
        await clock.advance(600)
        assert (await workflow.run("r").wait(timeout=20)).status == "idle"
    assert await state(workflow) == {"began": True, "found": 5}


async def test_earlier_answers_must_fit_as_well(script, clock):
    async def handler(event, ctx):
        await ctx.wait_for("x")
        await ctx.wait_for("y")

    async def swapped(event, ctx):
        await ctx.wait_for("y")
        await ctx.wait_for("y")

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        await send(workflow, "x")
    await workflow.close()
    workflow = script(swapped)
    async with workflow:
        await workflow.send(WorkflowEvent("y"), correlation_id="r")
        await clock.until_asleep()
    assert (await transitions(workflow, "r"))[-1] == (3, "h@1", 1, "retried")


async def test_a_function_that_fails_to_say_whether_it_is_the_one_is_a_failure(script):
    async def handler(event, ctx):
        await ctx.wait_for("x", where=lambda event: event.data["missing"])

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "x", {}) == "failed"
    assert (await transitions(workflow, "r"))[-1] == (2, "h@1", 1, "dead")
    assert parked(workflow) == []
