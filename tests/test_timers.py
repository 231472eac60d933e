"""Timers: set with the handler's commit, fired once, in the order in which they are due."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from watching import log, query

from flowstore import WorkflowEvent
from flowstore.errors import ConfigurationError, InvalidValueError
from flowstore.testing import VirtualClock

HOUR = 3600.0


@dataclass
class Reminder:
    text: str


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def serving(make, clock):
    return lambda: _manager(make, clock)


def _manager(make, clock):
    """Make a manager whose "go" sets and cancels timers as its data says."""
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        for each in event.data["timers"]:
            ctx.schedule(
                WorkflowEvent("due", each.get("data")), delay=each["delay"], key=each.get("key")
            )
        for key in event.data.get("cancel", ()):
            ctx.cancel(key)

    @workflow.on("due")
    async def due(event, ctx):
        ctx.state.setdefault("seen", []).append(event.data)

    return workflow


async def _go(workflow, timers, run="r", **more):
    event = WorkflowEvent("go", {"timers": timers, **more})
    await workflow.send(event, correlation_id=run)
    return await workflow.run(run).wait()


async def _after(workflow, clock, seconds, run="r"):
    """Move the clock on until the run has nothing more to handle, and return what it has seen."""
    await clock.advance(seconds)
    await workflow.send(WorkflowEvent("flush"), correlation_id="flush")  # behind what was fired
    await workflow.run(run).wait()
    return (await workflow.run(run).state()).get("seen", [])


async def test_a_run_that_only_waits_for_a_timer_is_waiting(serving, clock):
    workflow = serving()
    async with workflow:
        assert (await _go(workflow, [{"delay": HOUR, "data": 1}])).status == "waiting"
        assert await _after(workflow, clock, HOUR - 1) == []
        assert await _after(workflow, clock, 1) == [1]
        assert await workflow.run("r").status() == "idle"
    assert query_timers(workflow) == []


async def test_the_event_says_where_it_comes_from(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.schedule(Reminder("tea"), at=clock.moment + timedelta(minutes=5))

    got = []
    workflow.register(Reminder, got.append)
    async with workflow:
        receipt = await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        await _after(workflow, clock, 300)
    assert got == [Reminder("tea")]
    _, event = [each async for each in workflow.run("r").events()]
    assert event.causation_id == receipt.id
    assert event.created_at == datetime(2030, 1, 1, 0, 5, tzinfo=UTC)


async def test_they_fire_in_the_order_in_which_they_are_due(serving, clock):
    """Also when the clock is set ahead by days and all are due at once."""
    workflow = serving()
    delays = random.Random(7).sample(range(1, 10_000), 600)
    async with workflow:
        await _go(workflow, [{"delay": each, "data": each} for each in delays])
        seen = await _after(workflow, clock, 5 * 24 * HOUR)
        while len(seen) < len(delays):
            await workflow.run("r").wait()
            seen = (await workflow.run("r").state())["seen"]
    assert seen == sorted(delays)


async def test_the_same_key_takes_the_place_of_the_first(serving, clock):
    workflow = serving()
    async with workflow:
        await _go(workflow, [{"delay": 10, "data": "old", "key": "k"}])
        await _go(workflow, [{"delay": 50, "data": "new", "key": "k"}])
        assert await _after(workflow, clock, 20) == []
        assert await _after(workflow, clock, 40) == ["new"]
        twice = [{"delay": 1, "data": "x", "key": "k"}, {"delay": 2, "data": "y", "key": "k"}]
        assert (await _go(workflow, twice)).status == "waiting"
        assert await _after(workflow, clock, 5) == ["new", "y"]
        assert await workflow.run("r").status() == "idle"


async def test_a_cancelled_timer_does_not_fire(serving, clock):
    workflow = serving()
    async with workflow:
        await _go(workflow, [{"delay": 10, "data": 1, "key": "k"}])
        record = await _go(workflow, [{"delay": 5, "data": 2, "key": "l"}], cancel=["k", "none"])
        assert record.status == "waiting"
        record = await _go(workflow, [{"delay": 5, "data": 3, "key": "m"}], cancel=["l", "m"])
        assert record.status == "idle"
        assert await _after(workflow, clock, 60) == []


async def test_closing_a_run_ends_its_timers(serving, clock):
    """G6: nothing is due for a run that is over."""
    workflow = serving()
    async with workflow:
        await _go(workflow, [{"delay": 10}])
        await workflow.run("r").cancel("no longer wanted")
        assert query_timers(workflow) == []
        await clock.advance(60)
        assert await workflow.run("r").status() == "cancelled"
    assert [name for _, name in await log(workflow, "r")] == ["go"]


async def test_a_handler_that_fails_sets_no_timer(make, clock):
    """G2: all of a handler or nothing."""
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.schedule(WorkflowEvent("due"), delay=1)
        raise RuntimeError("no")

    workflow.register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        assert (await workflow.run("r").wait()).status == "idle"
    assert query_timers(workflow) == []


async def test_what_became_due_while_no_one_served_fires_later_and_once(serving, clock):
    first = serving()
    async with first:
        await _go(first, [{"delay": 20, "data": "b"}, {"delay": 10, "data": "a"}])
    await first.close()
    await clock.advance(HOUR)
    one, two = serving(), serving()
    async with one, two:
        while await one.run("r").status() != "idle":
            await one.run("r").wait()
        await one.send(WorkflowEvent("flush"), correlation_id="flush")
        assert (await one.run("r").state())["seen"] == ["a", "b"]
    names = [name for _, name in await log(one, "r")]
    assert names.count("due") == 2


async def test_another_process_s_timer_is_noticed(serving, clock):
    """Set by one that stops serving, fired by one that has served all along."""
    one, two = serving(), serving()
    async with two:
        async with one:
            await _go(one, [{"delay": 30, "data": "x"}])
        await one.close()
        async with asyncio.timeout(20):
            while not clock.asleep:
                await two.run("r").wait()
                await clock.until_asleep()
        assert await _after(two, clock, 30) == ["x"]


async def test_a_clock_that_is_set_back_loses_nothing_and_fires_nothing_twice(make, clock):
    workflow = _manager(make, clock)
    async with workflow:
        await _go(workflow, [{"delay": 10, "data": 1}, {"delay": 20, "data": 2}])
        assert await _after(workflow, clock, 15) == [1]
    await workflow.close()
    earlier = VirtualClock(clock.moment - timedelta(days=3), prefix="later-")
    again = _manager(make, earlier)
    async with again:
        assert await _after(again, earlier, HOUR) == [1]
        assert await _after(again, earlier, 3 * 24 * HOUR) == [1, 2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)},
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": "soon"},
        {"delay": True},
        {"at": datetime(2030, 1, 1)},  # noqa: DTZ001 - it is what is refused
        {"at": "tomorrow"},
    ],
)
async def test_a_moment_that_makes_no_sense_is_refused(make, options):
    errors = []
    workflow = make()

    @workflow.on("go")
    async def go(event, ctx):
        with pytest.raises(ConfigurationError) as caught:
            ctx.schedule(WorkflowEvent("due"), **options)
        errors.append(str(caught.value))

    assert [event.name async for event in workflow.process(WorkflowEvent("go"))] == ["go"]
    assert len(errors) == 1


async def test_what_cannot_be_stored_is_refused_when_it_is_scheduled(make):
    """G10."""
    workflow = make()
    paths = []

    @workflow.on("go")
    async def go(event, ctx):
        with pytest.raises(InvalidValueError) as caught:
            ctx.schedule(WorkflowEvent("due", {"x": {1, 2}}), delay=1)
        paths.append(caught.value.path)
        with pytest.raises(InvalidValueError):
            ctx.schedule(WorkflowEvent("due"), delay=1, key="")
        with pytest.raises(ConfigurationError):
            ctx.schedule(WorkflowEvent("due", id="mine"), delay=1)

    assert [event.name async for event in workflow.process(WorkflowEvent("go"))] == ["go"]
    assert paths == ["data.x"]


def query_timers(workflow):
    return query(workflow._runtime.url.path, "SELECT key FROM timer")


async def test_waiting_returns_a_run_that_has_settled_even_if_it_goes_on_at_once(workflow):
    @workflow.on("tick")
    async def tick(event, ctx):
        if event.data == 200:
            ctx.complete()
        else:
            ctx.schedule(WorkflowEvent("tick", event.data + 1), delay=0)

    seen = set()
    async with workflow:
        run = workflow.run("r")
        await run.send(WorkflowEvent("tick", 1))
        while "completed" not in seen:
            seen.add((await run.wait(timeout=30)).status)
    assert seen <= {"waiting", "completed"}
