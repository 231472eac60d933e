"""Handlers that fail and are tried again: back-off that is durable, and timeouts."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from failing import Failing
from watching import collect, names, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.errors import ConfigurationError
from flowstore.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("_quiet")

RETRY = Retry(attempts=4, delay=10.0, factor=3.0, jitter=0.0)


@pytest.fixture
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


@contextlib.asynccontextmanager
async def processing(workflow, event, **options):
    task = asyncio.create_task(collect(workflow.process(event, **options)))
    yield task
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# --- back-off ----------------------------------------------------------------------------


async def test_a_failing_handler_is_tried_again_after_growing_delays(make, clock):
    workflow, handler = make(clock=clock), Failing(clock, 3)
    workflow.register("go", handler, name="pay", retry=RETRY)
    async with processing(workflow, WorkflowEvent("go"), correlation_id="r") as events:
        for delay in (10, 30, 90):
            await clock.until_asleep(min(delay, 60))
            await clock.advance(delay)
        assert [event.name for event in await events] == ["go"]
    assert handler.seconds == [0, 10, 40, 130]
    assert handler.attempts == [1, 2, 3, 4]
    assert await transitions(workflow, "r") == [
        (1, "pay", 1, "retried"),
        (1, "pay", 2, "retried"),
        (1, "pay", 3, "retried"),
        (1, "pay", 4, "handled"),
    ]
    # G3: what failed left nothing behind.
    assert await workflow.run("r").state() == {"tries": 1}


async def test_a_retry_does_not_come_before_its_time(make, clock):
    workflow, handler = make(clock=clock), Failing(clock, 1)
    workflow.register("go", handler, retry=RETRY)
    async with processing(workflow, WorkflowEvent("go"), correlation_id="r"):
        await clock.until_asleep(10)
        await clock.advance(9.999)
        assert len(handler.times) == 1
        assert await workflow.run("r").status() == "running"
        await clock.advance(0.001)
        await workflow.run("r").wait()
        assert len(handler.times) == 2


async def test_the_delay_has_a_ceiling(make):
    clock = VirtualClock(is_automatic=True)
    workflow, handler = make(clock=clock), Failing(clock, 5)
    retry = Retry(attempts=6, delay=10, factor=10, max_delay=50, jitter=0)
    workflow.register("go", handler, retry=retry)
    await collect(workflow.process(WorkflowEvent("go")))
    assert handler.seconds == [0, 10, 60, 110, 160, 210]


async def test_jitter_stays_within_its_part_and_tells_runs_apart(make):
    clock = VirtualClock(is_automatic=True)
    workflow = make(clock=clock)
    waits = set()
    for number in range(8):
        handler = Failing(clock, 1)
        name = f"go {number}"
        workflow.register(name, handler, retry=Retry(delay=100, jitter=0.25))
        await collect(workflow.process(WorkflowEvent(name)))
        waits.add(handler.seconds[1])
    assert all(75 <= wait <= 125 for wait in waits)
    assert len(waits) > 1


async def test_only_the_exceptions_named_are_tried_again(make, clock):
    workflow = make(clock=clock)
    handler = Failing(clock, 1, ValueError("wrong amount"))
    retry = Retry(attempts=5, on=(ConnectionError, TimeoutError))
    workflow.register("go", handler, retry=retry)
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert [event.error for event in events] == [None, "wrong amount"]
    assert handler.attempts == [1]


async def test_a_subclass_of_a_named_exception_is_tried_again(make):
    clock = VirtualClock(is_automatic=True)
    handler = Failing(clock, 1, ConnectionResetError("reset"))
    workflow = make(clock=clock).register("go", handler, retry=Retry(on=ConnectionError))
    assert await names(workflow.process(WorkflowEvent("go"))) == ["go"]


async def test_back_off_survives_a_restart(make, clock):
    """A new process goes on with the attempt that is due, not from the first one."""
    first, handler = make(clock=clock), Failing(clock, 2)
    first.register("go", handler, name="pay", retry=RETRY)
    await first.send(WorkflowEvent("go"), correlation_id="r")
    async with processing(first, WorkflowEvent("nobody's"), correlation_id="r"):
        await clock.until_asleep(10)
    await first.close()
    await clock.advance(4)

    second = make(clock=clock).register("go", handler, name="pay", retry=RETRY)
    resumed = asyncio.create_task(second.resume("r"))
    await clock.until_asleep(6)
    assert len(handler.times) == 1
    await clock.advance(6)
    await clock.until_asleep(30)
    await clock.advance(30)
    assert await resumed == ["r"]
    assert handler.seconds == [0, 10, 40]
    assert handler.attempts == [1, 2, 3]


async def test_a_service_that_starts_during_back_off_waits_it_out(make, clock):
    first, handler = make(clock=clock), Failing(clock, 1)
    first.register("go", handler, name="pay", retry=RETRY)
    async with processing(first, WorkflowEvent("go"), correlation_id="r"):
        await clock.until_asleep(10)
    await first.close()
    second = make(clock=clock).register("go", handler, name="pay", retry=RETRY)
    async with second:
        await clock.until_asleep(10)
        await clock.advance(10)
        await second.run("r").wait()
    assert handler.seconds == [0, 10]


async def test_an_attempt_that_is_due_at_the_restart_is_made_at_once(make, clock):
    first, handler = make(clock=clock), Failing(clock, 1)
    first.register("go", handler, name="pay", retry=RETRY)
    async with processing(first, WorkflowEvent("go"), correlation_id="r"):
        await clock.until_asleep(10)
    await first.close()
    await clock.advance(3600)
    second = make(clock=clock).register("go", handler, name="pay", retry=RETRY)
    assert await second.resume() == ["r"]
    assert handler.attempts == [1, 2]


async def test_one_run_in_back_off_holds_up_no_other(make, clock):
    """G4."""
    workflow, handler = make(clock=clock, concurrency=1), Failing(clock, 1)
    seen = []

    async def easy(event):
        seen.append(event.data)

    workflow.register("go", handler, retry=RETRY).register("easy", easy)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="waits")
        await clock.until_asleep(10)
        for number in range(5):
            await workflow.send(WorkflowEvent("easy", number), correlation_id=f"r{number}")
            await workflow.run(f"r{number}").wait()
        assert seen == [0, 1, 2, 3, 4]
        assert await workflow.run("waits").status() == "running"
        await clock.advance(10)
        await workflow.run("waits").wait()


async def test_later_events_of_the_run_wait_for_the_one_that_is_tried_again(make, clock):
    """G4: in position order, also while one is retried."""
    workflow, order = make(clock=clock), []

    async def handle(event, ctx):
        order.append((event.position, ctx.attempt))
        if event.position == 1 and ctx.attempt == 1:
            raise ConnectionError("no answer")

    workflow.register("go", handle, retry=RETRY)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await clock.until_asleep(10)
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        assert order == [(1, 1)]
        await clock.advance(10)
        await workflow.run("r").wait()
    assert order == [(1, 1), (1, 2), (2, 1)]


async def test_a_handler_that_is_done_is_not_run_again_when_another_is(make):
    """G3: each handler of an event finishes once."""
    clock = VirtualClock(is_automatic=True)
    workflow, handler, calls = make(clock=clock), Failing(clock, 2), []

    async def before(event, ctx):
        calls.append("before")
        ctx["before"] = ctx.get("before", 0) + 1
        yield WorkflowEvent("from before")

    async def after(event, ctx):
        calls.append("after")
        yield WorkflowEvent("from after")

    workflow.register("go", before).register("go", handler, retry=RETRY).register("go", after)
    events = await names(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == ["before", "after"]
    assert events == ["go", "from before", "from after"]
    assert await workflow.run("r").state() == {"before": 1, "tries": 1}


async def test_a_run_can_be_cancelled_during_back_off(make, clock):
    workflow, handler = make(clock=clock), Failing(clock, 1)
    workflow.register("go", handler, retry=RETRY)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await clock.until_asleep(10)
        assert (await workflow.run("r").cancel("not needed")).status == "cancelled"
        await clock.advance(20)
        assert handler.attempts == [1]
        assert (await workflow.run("r").info()).reason == "not needed"


# --- timeouts ----------------------------------------------------------------------------


async def test_a_handler_that_takes_too_long_fails(make, clock):
    workflow, cancelled = make(clock=clock), []

    async def slow(event, ctx):
        ctx["left behind"] = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ctx.attempt)
            raise

    workflow.register("go", slow, timeout=30)
    async with processing(workflow, WorkflowEvent("go"), correlation_id="r") as events:
        await clock.until_asleep(30)
        await clock.advance(29.9)
        assert cancelled == []
        await clock.advance(0.2)
        error = (await events)[-1]
    assert cancelled == [1]
    assert "timeout of 30 s" in error.error
    assert error.data["exception"] == "HandlerTimeoutError"
    assert await workflow.run("r").state() == {}


async def test_a_handler_within_its_timeout_is_left_alone(make, clock):
    """The control to the one above."""
    workflow, may_end = make(clock=clock), asyncio.Event()

    async def slow(event):
        await may_end.wait()
        return WorkflowEvent("done")

    workflow.register("go", slow, timeout=30)
    async with processing(workflow, WorkflowEvent("go")) as events:
        await clock.until_asleep(30)
        await clock.advance(29)
        may_end.set()
        assert [event.name for event in await events] == ["go", "done"]


async def test_a_timeout_counts_for_each_attempt_and_can_be_tried_again(make, clock):
    workflow, attempts = make(clock=clock), []

    async def slow(event, ctx):
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return WorkflowEvent("done")

    workflow.register("go", slow, timeout=5, retry=Retry(delay=10, jitter=0, on=TimeoutError))
    async with processing(workflow, WorkflowEvent("go")) as events:
        await clock.until_asleep(5)
        await clock.advance(5)
        await clock.until_asleep(10)
        await clock.advance(10)
        assert [event.name for event in await events] == ["go", "done"]
    assert attempts == [1, 2]


# --- options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"delay": -1},
        {"factor": 0.5},
        {"max_delay": -1},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"delay": float("nan")},
        {"max_delay": float("nan")},
        {"delay": float("inf"), "max_delay": float("inf")},
        {"factor": float("nan")},
        {"attempts": 2.5},
    ],
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigurationError, match="Retry"):
        Retry(**options)


@pytest.mark.parametrize(
    "options", [{"retry": 3}, {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}]
)
def test_options_that_make_no_sense_are_refused(workflow, options):
    async def handle(event): ...

    with pytest.raises(ConfigurationError, match=r"retry|timeout"):
        workflow.register("go", handle, **options)
