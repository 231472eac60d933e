"""Cost does not grow with the length of a run or the number of runs (G11): counted, not timed.

Counted are the writer's SQL statements, the steps of SQLite's virtual machine (which grow when
a statement has to go through many rows) and the bytes of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import flowstore.store.sqlite
from flowstore import WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., WorkflowManager]

TEXT = "x" * 200
READERS = 3
"""Threads that may be reading at the moment."""

STEPS = 20
"""Virtual machine steps between two counts: fine enough, and cheap."""


@dataclass
class Cost:
    """What the writer's connections have done so far."""

    statements: int = 0
    steps: int = 0

    def traced(self, sql: str) -> None:
        # Looking for the commits of others goes by time, not by events.
        if not sql.startswith("PRAGMA"):
            self.statements += 1

    def stepped(self) -> int:
        self.steps += STEPS
        return 0

    def copy(self) -> Cost:
        return Cost(self.statements, self.steps)

    def since(self, before: Cost) -> Cost:
        return Cost(self.statements - before.statements, self.steps - before.steps)


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> Cost:
    counted = Cost()
    connect = flowstore.store.sqlite.open_writer

    def connect_counted(url: Any) -> sqlite3.Connection:
        connection = connect(url)
        connection.set_trace_callback(counted.traced)
        connection.set_progress_handler(counted.stepped, STEPS)
        return connection

    monkeypatch.setattr(flowstore.store.sqlite, "open_writer", connect_counted)
    return counted


async def append(_: WorkflowEvent, ctx: Any) -> None:
    ctx.state.setdefault("texts", []).append(TEXT)


async def handle(workflow: WorkflowManager, run: str, events: int) -> None:
    """Send events and have each handled before the next, so that no two share a transaction."""
    for _ in range(events):
        await workflow.send(WorkflowEvent("x"), correlation_id=run)
        await workflow.run(run).wait(60)


def add_idle_runs(path: Path, count: int) -> None:
    row = (
        "INSERT INTO run (correlation_id, workflow, status, head, cursor, state_version, epoch, "
        "created_at, updated_at) VALUES (?, 'workflow', 'idle', 0, 0, 0, 0, 0, 0)"
    )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(row, ((f"idle-{number}",) for number in range(count)))


async def test_an_event_costs_the_same_late_in_a_long_run(make: Make, path: Path, cost: Cost):
    workflow = make(f"sqlite:///{path}?synchronous=OFF").register("x", append)
    async with workflow:
        await handle(workflow, "r", 5)
        before = cost.copy()
        await handle(workflow, "r", 100)
        early = cost.since(before)
        await handle(workflow, "r", 1800)
        before = cost.copy()
        await handle(workflow, "r", 100)
        late = cost.since(before)
    assert late.statements <= early.statements * 1.2
    assert late.steps <= early.steps * 1.5
    assert early.statements < 100 * 15


async def test_the_file_grows_with_the_events_and_not_faster(make: Make, path: Path):
    """The state is written as changes, and whole only when they have outgrown it."""
    workflow = make(f"sqlite:///{path}?synchronous=OFF").register("x", append)
    grown = []
    before = 0
    for _ in range(4):
        await workflow.send_many(WorkflowEvent("x", correlation_id="r") for _ in range(1000))
        await workflow.resume()
        now = written(path)
        grown.append(now - before)
        before = now
    assert len((await workflow.run("r").state())["texts"]) == 4000
    # Snapshots are as large as the state but rarer the larger it is: 4 times its size in all.
    assert before < 4000 * len(TEXT) * 4
    assert grown[3] < 3 * grown[0]


def written(path: Path) -> int:
    """Return how many bytes of states and changes there are."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (changes,) = connection.execute("SELECT total(length(change)) FROM transition").fetchone()
        (states,) = connection.execute("SELECT total(length(state)) FROM snapshot").fetchone()
    return int(changes + states)


async def test_a_run_is_loaded_at_the_price_of_its_state_not_of_its_history(
    make: Make, path: Path, cost: Cost
):
    """A new process takes over a run of many events whose state is small."""

    async def count(_, ctx):
        ctx["count"] = ctx.get("count", 0) + 1
        ctx["text"] = f"{ctx['count']} {TEXT}"

    prices = []
    for events in (500, 4000):
        first = make(f"sqlite:///{path}?synchronous=OFF").register("x", count)
        await first.send_many(WorkflowEvent("x", correlation_id=str(events)) for _ in range(events))
        await first.resume()
        await first.close()
        second = make().register("x", count)
        await second.send(WorkflowEvent("x"), correlation_id=str(events))
        before = cost.copy()
        await second.resume()
        prices.append(cost.since(before))
        await second.close()
    short, long = prices
    assert long.statements <= short.statements + 10
    assert long.steps <= short.steps * 3


async def test_an_event_costs_the_same_among_ten_thousand_idle_runs(
    make: Make, path: Path, cost: Cost
):
    workflow = make(f"sqlite:///{path}?synchronous=OFF").register("x", append)
    async with workflow:
        await handle(workflow, "r", 5)
        before = cost.copy()
        await handle(workflow, "r", 50)
        alone = cost.since(before)
    add_idle_runs(path, 10_000)
    again = make(f"sqlite:///{path}?synchronous=OFF").register("x", append)
    async with again:
        await handle(again, "r", 5)
        before = cost.copy()
        await handle(again, "r", 50)
        crowded = cost.since(before)
    assert crowded.statements <= alone.statements * 1.2
    assert crowded.steps <= alone.steps * 1.5


async def test_idle_runs_keep_no_task_and_no_thread(make: Make, path: Path):
    workflow = make().register("x", append)
    async with workflow:
        await handle(workflow, "r", 1)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    add_idle_runs(path, 10_000)
    again = make().register("x", append)
    async with again:
        await handle(again, "r", 1)
        assert len(asyncio.all_tasks()) <= tasks
        assert threading.active_count() <= threads + READERS


async def test_runs_that_were_handled_here_leave_no_task(make: Make, path: Path):
    workflow = make(f"sqlite:///{path}?synchronous=OFF").register("x", append)
    async with workflow:
        await handle(workflow, "r", 1)
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        names = [f"run-{number}" for number in range(500)]
        await workflow.send_many(WorkflowEvent("x", correlation_id=name) for name in names)
        for name in names:
            await workflow.run(name).wait(60)
        assert len(asyncio.all_tasks()) <= tasks
        assert threading.active_count() <= threads + READERS
