"""Handlers that fail for good: error events, dead letters and failed runs."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import logging

import pytest
from failing import Failing
from watching import collect, log, names, query, transitions

from flowstore import Limits, Retry, WorkflowEvent, WorkflowManager
from flowstore.testing import VirtualClock

pytestmark = pytest.mark.usefixtures("_quiet")


@pytest.fixture
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


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


async def test_a_failure_is_told_whatever_the_limits_are(tmp_path):
    """G7: limits are for what users send."""
    workflow = WorkflowManager(tmp_path / "runs.db", limits=Limits(data_bytes=100))

    async def fail(event):
        raise RuntimeError("no " * 100)

    workflow.register("go", fail)
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert [event.name for event in events] == ["go", "error"]
    await workflow.close()
