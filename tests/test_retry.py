"""Handlers that fail: back-off that is durable, timeouts, dead letters, error events."""

# ruff: noqa: ARG001, ARG002 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from watching import collect, log, names, query, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.errors import ConfigurationError
from flowstore.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("_quiet")

RETRY = Retry(attempts=4, delay=10.0, factor=3.0, jitter=0.0)


@pytest.fixture
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


class Failing:
    """A handler that fails a number of times and remembers when it was called."""

    def __init__(self, clock, failures, error=None):
        self.clock = clock
        self.failures = failures
        self.error = error or ConnectionError("no answer")
        self.times = []
        self.attempts = []

    async def __call__(self, event, ctx):
        self.times.append(self.clock.now())
        self.attempts.append(ctx.attempt)
        ctx["tries"] = ctx.get("tries", 0) + 1
        if len(self.times) <= self.failures:
            ctx["left behind"] = True
            ctx.emit(WorkflowEvent("never sent"))
            raise self.error

    @property
    def seconds(self):
        """When it was called, from the first call on."""
        return [(time - self.times[0]) / 1_000_000 for time in self.times]


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


# --- out of retries ----------------------------------------------------------------------


async def test_out_of_retries_means_an_error_event_a_dead_letter_and_a_failed_run(make):
    """G7."""
    clock = VirtualClock(is_automatic=True)
    workflow, handler = make(clock=clock), Failing(clock, 99)
    workflow.register("go", handler, name="pay", retry=Retry(attempts=3))
    sent = WorkflowEvent("go", {"n": 1}, {"user": "ada"})
    events = await collect(workflow.process(sent, correlation_id="r", id="go-1"))
    assert [(event.name, event.error, event.metadata) for event in events] == [
        ("go", None, {"user": "ada"}),
        ("error", "no answer", {"user": "ada"}),
    ]
    assert events[1].data == {
        "event": "go",
        "event_id": "go-1",
        "position": 1,
        "handler": "pay",
        "exception": "ConnectionError",
    }
    assert [row[2:] for row in await transitions(workflow, "r")] == [
        (1, "retried"),
        (2, "retried"),
        (3, "dead"),
    ]
    (dead,) = await (await workflow._runtime.reader()).list_dead()
    assert (dead.correlation_id, dead.event_id, dead.handler, dead.attempt, dead.error) == (
        "r",
        "go-1",
        "pay",
        3,
        "no answer",
    )
    assert "ConnectionError: no answer" in dead.traceback
    info = await workflow.run("r").info()
    assert info.status == "failed"
    assert "no answer" in info.reason
    assert (await workflow.run("r").send(WorkflowEvent("go"))).status == "stale"


async def test_events_that_came_before_the_run_failed_are_handled(workflow):
    """A failure closes the run when it settles, not before: what is pending is not lost."""
    seen = []

    async def fail(event):
        raise ValueError("broken")

    async def other(event):
        seen.append(event.position)

    workflow.register("bad", fail).register("good", other)
    for name in ("bad", "good", "good"):
        await workflow.send(WorkflowEvent(name), correlation_id="r")
    await workflow.resume()
    assert seen == [2, 3]
    assert await workflow.run("r").status() == "failed"


async def test_with_a_handler_for_errors_the_run_goes_on(workflow):
    seen = []

    async def fail(event):
        raise ValueError("broken")

    async def repair(event, ctx):
        seen.append((event.error, event.data["event"], event.metadata))
        return WorkflowEvent("repaired")

    workflow.register("go", fail).register("error", repair)
    events = await names(
        workflow.process(WorkflowEvent("go", None, {"user": "ada"}), correlation_id="r")
    )
    assert events == ["go", "error", "repaired"]
    assert seen == [("broken", "go", {"user": "ada"})]
    assert await workflow.run("r").status() == "idle"
    assert len(await (await workflow._runtime.reader()).list_dead("r")) == 1


async def test_a_handler_for_everything_does_not_save_a_failed_run(workflow):
    """Who logs everything has not dealt with the failure."""
    seen = []

    async def fail(event):
        raise ValueError("broken")

    async def note(event):
        seen.append(event.name)

    workflow.register("go", fail).register("*", note)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert seen == ["go", "error"]
    assert await workflow.run("r").status() == "failed"


async def test_a_failing_handler_of_errors_does_not_start_a_loop(workflow):
    calls = []

    async def fail(event):
        raise ValueError("broken")

    async def fail_too(event):
        calls.append(event.error)
        raise ValueError("broken as well")

    workflow.register("go", fail).register("error", fail_too)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == ["broken"]
    assert await log(workflow, "r") == [(1, "go"), (2, "error")]
    assert await workflow.run("r").status() == "failed"
    assert [dead.name for dead in await (await workflow._runtime.reader()).list_dead("r")] == [
        "error",
        "go",
    ]


async def test_two_failing_handlers_make_two_error_events(workflow):
    async def one(event):
        raise ValueError("one")

    async def two(event):
        raise ValueError("two")

    workflow.register("go", one).register("go", two)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.error for event in events] == [None, "one", "two"]
    assert len({event.id for event in events}) == 3


async def test_a_message_that_no_database_takes_is_still_recorded(workflow, path):
    async def fail(event):
        raise ValueError("a NUL \0 and a surrogate \ud800 " + "x" * 100_000)

    workflow.register("go", fail)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert events[1].error.startswith("a NUL \\0 and a surrogate \\ud800 xxx")
    assert len(events[1].error) < 20_000
    assert query(path, "SELECT outcome FROM transition") == [("dead",)]


class _UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no words for it")


async def test_an_exception_that_cannot_be_printed_is_still_recorded(workflow):
    async def fail(event):
        raise _UnprintableError

    workflow.register("go", fail)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert events[1].data["exception"] == "_UnprintableError"
    assert await workflow.run("r").status() == "failed"


async def test_a_handler_that_cancels_itself_has_failed(workflow):
    async def fail(event):
        raise asyncio.CancelledError

    workflow.register("go", fail)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]


async def test_a_failure_undoes_the_state_that_other_handlers_still_need(workflow):
    """The state goes back to what it was before the handler that failed, no further."""

    async def good(event, ctx):
        ctx["list"] = [1]

    async def bad(event, ctx):
        ctx["list"].append(2)
        ctx["more"] = True
        raise ValueError("broken")

    async def last(event, ctx):
        ctx["seen"] = list(ctx["list"])

    workflow.register("go", good).register("go", bad).register("go", last)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert await workflow.run("r").state() == {"list": [1], "seen": [1]}


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
