"""Several processes on one file: shared runs, takeovers, fences, notices (G3, G4, G7-G9)."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import statistics
from typing import TYPE_CHECKING, Any

import pytest
from workers import Process

from flowstore import WorkflowManager
from flowstore.store.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Process]

SHORT_LEASE = "0.6"
LOG = """
    SELECT correlation_id, event.position, event.id
    FROM event JOIN run ON run.id = event.run_id ORDER BY run.id, event.position
"""


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start workers on this test's store; they are killed after it."""
    with contextlib.ExitStack() as stack:

        def start_process(*options: str, serving: bool = True) -> Process:
            process = Process(path, *options)
            stack.callback(process.kill)
            process.expect("ready")
            if serving:
                process.ask("serve")
            return process

        yield start_process


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def stop(path: Path, process: Process) -> None:
    """Stop a process with SIGSTOP while it is between two transactions.

    Stopped inside one it would keep the database locked, and no lease could help.
    """
    with (
        FileLock(path.with_name(f"{path.name}-lock")),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        connection.execute("BEGIN IMMEDIATE")
        process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        connection.execute("ROLLBACK")


async def state_of(path: Path, run: str) -> dict[str, Any]:
    workflow = WorkflowManager(path, name="shared")
    state: dict[str, Any] = await workflow.run(run).state()
    await workflow.close()
    return state


# --- sharing -----------------------------------------------------------------------------


async def test_two_serve_and_send_to_the_same_runs(path: Path, start: Start):
    """G4, G8: every event handled once, in order, none lost."""
    workers = [start(), start()]
    runs = [f"run-{number}" for number in range(4)]
    for worker in workers:
        for run in runs:
            ids = [f"{worker.pid}-{number}" for number in range(50)]
            worker.tell("send", run=run, name="tick", ids=ids)
    for worker in workers:
        for _ in runs:
            receipts = worker.expect("done", do="send")["answer"]
            assert [status for status, _ in receipts] == ["accepted"] * 50
    for run in runs:
        assert workers[0].ask("wait", run=run, seconds=30) == "idle"
        log = [row[1:] for row in rows(path, LOG) if row[0] == run]
        assert [position for position, _ in log] == list(range(1, 101))
        assert (await state_of(path, run))["seen"] == [event_id for _, event_id in log]
    assert rows(path, 'SELECT reason FROM "drop"') == []


async def test_a_live_run_is_not_disturbed(path: Path, start: Start):
    """G8: another process enters service and resumes while a handler is at work."""
    first = start()
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 2})
    first.expect("started")
    second = start()
    assert second.ask("resume") == []
    first.expect("finished")
    assert second.ask("wait", run="r", seconds=10) == "idle"
    assert (await state_of(path, "r"))["by"] == [first.pid]
    assert all(said["what"] != "started" for said in second.hear_out())
    assert rows(path, "SELECT epoch FROM run") == [(1,)]


async def test_what_one_sends_to_a_run_of_the_other_is_handled_there(path: Path, start: Start):
    first, second = start(), start()
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 0.5})
    first.expect("started")
    second.ask("send", run="r", name="tick", ids=["b"])
    assert second.ask("wait", run="r", seconds=10) == "idle"
    assert (await state_of(path, "r"))["seen"] == ["a", "b"]


async def test_leaving_gives_runs_to_the_other(start: Start):
    first, second = start(), start()
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 30})
    first.expect("started")
    first.tell("leave")
    second.expect("started", seconds=5)
    assert first.expect("done", do="leave")


# --- the death of one --------------------------------------------------------------------


async def test_the_runs_of_a_killed_process_are_taken_over(path: Path, start: Start):
    """G3, G9: without configuration and without waiting for its lease."""
    first, second = start(), start()
    first.tell("send", run="r", name="step", ids=["a"], data={"seconds": 1})
    first.expect("started")
    first.kill()
    took = second.expect("started", seconds=10)["at"] - first.said[-1]["at"]
    assert took < 4, "the patrol looks every second"
    second.expect("finished")
    assert second.ask("wait", run="r", seconds=10) == "idle"
    assert (await state_of(path, "r")) == {"seen": ["a"], "by": [second.pid]}
    said = [each["what"] for each in (*first.said, *second.said)]
    assert said.count("paid") == 1, "the step was finished, so it is not run again"


async def test_a_restart_resumes_at_once(start: Start):
    """G9: most of the time goes into starting Python."""
    first = start()
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 1})
    first.expect("started")
    first.kill()
    again = start()
    started = again.expect("started", seconds=10)["at"]
    ready = next(said["at"] for said in again.said if said["what"] == "ready")
    assert started - ready < 2
    assert started - again.began < 8


# --- the silence of one ------------------------------------------------------------------


async def test_a_stopped_process_keeps_its_runs(path: Path, start: Start):
    """G8: its lease has not run out."""
    first, second = start(), start()
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 1})
    first.expect("started")
    stop(path, first)
    assert second.hear(2.5) is None
    first.signal(signal.SIGCONT)
    first.expect("finished")
    assert second.ask("wait", run="r", seconds=10) == "idle"
    assert (await state_of(path, "r"))["by"] == [first.pid]


async def test_one_that_is_silent_too_long_loses_its_runs(path: Path, start: Start):
    """G7, G8: what it wants to commit when it wakes up is refused, and that is recorded."""
    first, second = start(SHORT_LEASE), start(SHORT_LEASE)
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 0.4})
    first.expect("started")
    stop(path, first)
    second.expect("finished", seconds=10)
    assert second.ask("wait", run="r", seconds=10) == "idle"
    first.signal(signal.SIGCONT)
    first.expect("lease_lost", seconds=10)
    # It is a worker as before, for other runs.
    first.ask("send", run="other", name="slow", ids=["b"], data={"seconds": 0.5})
    assert first.ask("wait", run="other", seconds=10) == "idle"
    assert (await state_of(path, "r")) == {"seen": ["a"], "by": [second.pid]}
    assert (await state_of(path, "other")) == {"seen": ["b"], "by": [first.pid]}
    assert {drop[0] for drop in rows(path, 'SELECT reason FROM "drop"')} == {"lease_lost"}


async def test_a_busy_worker_keeps_its_lease(path: Path, start: Start):
    """A handler may take longer than a lease: the worker says all the time that it lives."""
    first, second = start(SHORT_LEASE), start(SHORT_LEASE)
    first.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 2})
    first.expect("finished")
    assert second.ask("wait", run="r", seconds=10) == "idle"
    assert (await state_of(path, "r"))["by"] == [first.pid]


# --- notices -----------------------------------------------------------------------------


async def test_events_of_another_process_are_noticed(start: Start):
    """Within 50 ms: the median of 21, from before the send to the start of the handler."""
    sender, worker = start(serving=False), start()
    delays = []
    for number in range(21):
        sender.ask("send", run=f"r{number}", name="tick", ids=["a"])
        sent = sender.said[-1]["at"]
        delays.append(worker.expect("handled", run=f"r{number}")["at"] - sent)
    median = statistics.median(delays) * 1000
    print(f"noticed after {median:.1f} ms (median), {max(delays) * 1000:.1f} ms at most")  # noqa: T201 - a figure, for -rP
    assert median < 50


async def test_a_run_can_be_followed_from_another_process(start: Start):
    worker, other = start(), start(serving=False)
    worker.tell("send", run="r", name="slow", ids=["a"], data={"seconds": 1})
    worker.expect("started")
    other.tell("follow", run="r")
    other.expect("seen", id="a")
    worker.ask("send", run="r", name="tick", ids=["b"])
    seen = other.expect("seen", id="b")["at"]
    assert seen < worker.expect("finished")["at"], "it is shown before it is handled"
    other.expect("done", do="follow")


# --- eight at once -----------------------------------------------------------------------


async def test_eight_start_together_and_take_fair_turns(path: Path, start: Start):
    """On an empty file, which one of them creates; none gets less than a third of the mean."""
    workers = [start(serving=False) for _ in range(8)]
    for worker in workers:
        worker.tell("stream", run=f"run-{worker.pid}", seconds=2.0)
    counts = [worker.expect("done", do="stream")["answer"] for worker in workers]
    print(f"commits of eight writers in two seconds: {counts}")  # noqa: T201 - a figure, for -rP
    assert min(counts) > statistics.mean(counts) / 3, counts
    assert rows(path, "SELECT count(*) FROM event") == [(sum(counts),)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert list(path.parent.glob("*backup*")) == []
