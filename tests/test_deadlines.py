"""Deadlines of runs: an event for whoever deals with it, else the end of the run."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from watching import drops, log, query, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.errors import ConfigurationError, InvalidValueError

HOUR = 3600.0
PASSED = "its deadline passed"


@pytest.fixture
def workflow(make, clock):
    """A manager whose "go" does with the deadline what its data says."""
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        for delay in event.data or ():
            if delay is None:
                ctx.cancel_deadline()
            else:
                ctx.deadline(delay=delay)

    return workflow


async def go(workflow, *delays):
    await workflow.send(WorkflowEvent("go", list(delays)), correlation_id="r")
    return await workflow.run("r").wait()


async def after(workflow, clock, seconds):
    """Move the clock on until the run has nothing more to handle, and return what it then is."""
    await clock.advance(seconds)
    await workflow.send(WorkflowEvent("flush"), correlation_id="flush")  # behind what was fired
    return await workflow.run("r").wait()


def timers(workflow):
    return query(workflow._runtime.url.path, "SELECT key FROM timer")


async def test_a_run_whose_deadline_passes_has_failed(workflow, clock):
    async with workflow:
        assert (await go(workflow, HOUR)).status == "waiting"
        assert (await after(workflow, clock, HOUR - 1)).status == "waiting"
        record = await after(workflow, clock, 1)
        assert (record.status, record.reason) == ("failed", PASSED)
        assert (await workflow.run("r").send(WorkflowEvent("go"))).status == "stale"
    assert await log(workflow, "r") == [(1, "go"), (2, "deadline")]
    assert (await transitions(workflow, "r"))[-1] == (2, "flowstore.deadline", 1, "handled")
    assert await (await workflow._runtime.reader()).list_unhandled("r") == []
    assert timers(workflow) == []


async def test_the_event_says_who_set_the_deadline(workflow, clock):
    async with workflow:
        receipt = await workflow.send(WorkflowEvent("go", [HOUR]), correlation_id="r")
        await workflow.run("r").wait()
        await after(workflow, clock, HOUR)
    _, event = [each async for each in workflow.run("r").events()]
    assert (event.causation_id, event.data) == (receipt.id, {"position": 1, "handler": "go"})


async def test_a_second_deadline_takes_the_place_of_the_first(workflow, clock):
    async with workflow:
        await go(workflow, 10)
        await go(workflow, 50)
        assert (await after(workflow, clock, 49)).status == "waiting"
        assert (await go(workflow, 5, 100)).status == "waiting"
        assert (await after(workflow, clock, 99)).status == "waiting"
        assert (await after(workflow, clock, 1)).status == "failed"


async def test_a_deadline_can_be_removed(workflow, clock):
    async with workflow:
        await go(workflow, 10)
        assert (await go(workflow, None)).status == "idle"
        assert (await go(workflow, 10, None)).status == "idle"
        assert (await go(workflow, None, None)).status == "idle"
        assert (await after(workflow, clock, 60)).status == "idle"
        assert (await go(workflow, None, 10)).status == "waiting"


async def test_whoever_registered_for_it_deals_with_it(workflow, clock):
    @workflow.on("deadline")
    async def late(event, ctx):
        ctx.state["late"] = ctx.state.get("late", 0) + 1
        if ctx.state["late"] < 3:
            ctx.deadline(delay=HOUR)

    async with workflow:
        await go(workflow, HOUR)
        assert (await after(workflow, clock, HOUR)).status == "waiting"
        assert (await after(workflow, clock, HOUR)).status == "waiting"
        assert (await after(workflow, clock, HOUR)).status == "idle"
        assert await workflow.run("r").state() == {"late": 3}
    assert await drops(workflow, "r") == []


async def test_a_handler_of_everything_sees_it_and_the_run_fails(workflow, clock):
    seen = []

    @workflow.on("*")
    async def logger(event, ctx):
        if event.correlation_id == "r":
            seen.append(event.name)
        if event.name == "deadline":
            yield WorkflowEvent("go", [HOUR])

    async with workflow:
        await go(workflow, HOUR)
        assert (await after(workflow, clock, HOUR)).reason == PASSED
    assert seen == ["go", "deadline"]
    assert [reason for _, reason in await drops(workflow, "r")] == ["stale"]


async def test_a_handler_of_everything_that_fails_is_tried_again_first(make, clock):
    workflow, tries = make(clock=clock), []

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=10)

    async def flaky(event, ctx):
        if event.name == "deadline":
            tries.append(event.id)
            if len(tries) < 3:
                raise RuntimeError("not yet")

    workflow.register("*", flaky, retry=Retry(attempts=3, delay=100, jitter=0))
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        await clock.advance(10)
        for _ in range(2):
            await clock.until_asleep()
            assert await workflow.run("r").status() == "running"
            await clock.advance(250)
        assert (await workflow.run("r").wait()).reason == PASSED
    assert len(tries) == 3


async def test_an_event_of_that_name_closes_no_run(workflow):
    """Only the timer's does, and no one can choose an id of its shape."""
    async with workflow:
        await go(workflow, HOUR)
        with pytest.raises(InvalidValueError):
            await workflow.run("r").send(WorkflowEvent("deadline"), id="1/go/d1")
        await workflow.run("r").send(WorkflowEvent("deadline"), id="go/d1")
        await workflow.run("r").send(WorkflowEvent("deadline"))
        assert (await workflow.run("r").wait()).status == "waiting"
    unhandled = await (await workflow._runtime.reader()).list_unhandled("r")
    assert [event.name for _, event in unhandled] == ["deadline"] * 2


async def test_an_event_of_that_name_on_a_timer_of_ones_own_closes_no_run(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.schedule(WorkflowEvent("deadline"), delay=5, key="deadline")
        ctx.emit(WorkflowEvent("deadline"))
        with pytest.raises(ConfigurationError):
            ctx.cancel("flowstore/deadline")

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        assert (await after(workflow, clock, 10)).status == "idle"


async def test_it_ends_what_is_outstanding(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=10)
        ctx.schedule(WorkflowEvent("never"), delay=20)
        await ctx.wait_for("never", timeout=30)

    @workflow.on("part")
    async def part(event, ctx):
        ctx.collect("parts", ["part", "other"])

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.send(WorkflowEvent("part"), correlation_id="r")
        assert (await workflow.run("r").wait()).status == "waiting"
        assert (await after(workflow, clock, 10)).reason == PASSED
        assert (await after(workflow, clock, HOUR)).head == 3
    path = workflow._runtime.url.path
    for table in ("timer", "parked", "collected"):
        assert query(path, f"SELECT * FROM {table}") == []  # noqa: S608 - names of ours
    assert query(path, "SELECT waits, tasks FROM run WHERE correlation_id = 'r'") == [(0, 0)]


async def test_it_ends_the_tasks_that_are_under_way(make, clock):
    """G6: what they come to is no longer wanted."""
    workflow, ends, handled = make(clock=clock), [], asyncio.Event()
    workflow.hooks.subscribe(lambda what, _: handled.set() if what == "handled" else None)

    @workflow.task
    async def endless():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=10)
        ctx.submit(endless)
        ctx.state["token"] = ctx.submit_external("approval", timeout=60)

    run = workflow.run("r")
    async with workflow:
        process = workflow.process(WorkflowEvent("go"), correlation_id="r")
        assert (await anext(process)).name == "go"
        await handled.wait()
        token = (await run.state())["token"]
        assert await run.status() == "running"
        await clock.advance(10)
        assert [event.name async for event in process] == ["deadline"]
        assert (await run.info()).reason == PASSED
        assert await run.outstanding() == []
        assert (await workflow.complete_task(token, 1)).status == "stale"
        await clock.advance(100)
        assert (await run.info()).head == 2
    assert ends == ["cancelled"]


async def test_a_handler_that_waits_for_it_deals_with_it(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=10)
        late = await ctx.wait_for("deadline")
        ctx.state["late"] = late.data["handler"]

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        assert (await after(workflow, clock, 10)).status == "idle"
        assert await workflow.run("r").state() == {"late": "go"}


async def test_a_handler_that_waits_for_another_one_does_not(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=10)
        await ctx.wait_for("deadline", where=lambda event: event.data is None)

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        assert (await after(workflow, clock, 10)).reason == PASSED


async def test_what_passed_while_no_one_served_counts_when_someone_does(workflow, make, clock):
    async with workflow:
        await go(workflow, 10)
    await workflow.close()
    await clock.advance(HOUR)
    again = make(clock=clock)
    async with again:
        await again.send(WorkflowEvent("flush"), correlation_id="flush")
        assert (await again.run("r").wait()).reason == PASSED


async def test_closing_a_run_ends_its_deadline(workflow, clock):
    async with workflow:
        await go(workflow, 10)
        await workflow.run("r").cancel("no longer wanted")
        assert timers(workflow) == []
        record = await after(workflow, clock, 60)
        assert (record.status, record.reason, record.head) == ("cancelled", "no longer wanted", 1)


async def test_a_handler_that_fails_sets_none(make, clock):
    """G2."""
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=1)
        raise RuntimeError("no")

    workflow.register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        assert (await workflow.run("r").wait()).status == "idle"
    assert timers(workflow) == []


@pytest.mark.parametrize(
    "options",
    [{}, {"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, {"delay": -1}, {"at": "soon"}],
)
async def test_a_moment_that_makes_no_sense_is_refused(make, options):
    errors, workflow = [], make()

    @workflow.on("go")
    async def go(event, ctx):
        with pytest.raises(ConfigurationError) as caught:
            ctx.deadline(**options)
        errors.append(str(caught.value))

    assert [event.name async for event in workflow.process(WorkflowEvent("go"))] == ["go"]
    assert len(errors) == 1


async def test_a_deadline_at_a_time_of_day(make, clock):
    workflow = make(clock=clock)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(at=ctx.now() + timedelta(hours=1))

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()
        assert (await after(workflow, clock, HOUR - 1)).status == "waiting"
        assert (await after(workflow, clock, 1)).reason == PASSED
