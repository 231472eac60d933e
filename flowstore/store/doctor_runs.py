"""What a look at the runs of an SQLite database finds: those that are stuck, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects import sqlite

from flowstore.printable import counted
from flowstore.store import schema
from flowstore.store.base import DEAD
from flowstore.store.doctor_findings import info, warning
from flowstore.store.selecting import still_dead, unhandled

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from flowstore.store.doctor_files import Workers
    from flowstore.store.doctor_findings import Finding

PATIENCE: Final = 60 * 1_000_000
"""Microseconds for which something may be due before it counts as stuck."""

FOR_EVER: Final = 30 * 86_400 * 1_000_000
"""Microseconds after which a wait without a time is worth a word."""

_NAMED: Final = 3

_SERVE = "start what serves the workflow: `async with workflow:`, or `workflow.resume()`"


def look_at_runs(connection: sqlite3.Connection, workers: Workers, now: int) -> Iterator[Finding]:
    """Yield what is found of runs, tasks and timers."""
    yield from _pending(connection, workers, now)
    yield from _overdue(connection, now)
    yield from _tasks(connection, workers)
    yield from _waiting(connection, now)
    yield from _failed(connection)


def _named(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown}, …"


def _by_workflow(rows: list[Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for workflow, name in rows:
        found.setdefault(workflow, []).append(name)
    return found


def _pending(connection: sqlite3.Connection, workers: Workers, now: int) -> Iterator[Finding]:
    rows: list[Any] = connection.execute(
        "SELECT workflow, correlation_id, owner, ready_at, updated_at FROM run "
        "WHERE status = 'running' ORDER BY id"
    ).fetchall()
    left = [row[:2] for row in rows if row[2] is not None and row[2] not in workers.live]
    free = [
        row[:2]
        for row in rows
        if row[2] is None and max(row[3] or 0, row[4]) < now - (PATIENCE if workers.live else 0)
    ]
    for workflow, names in _by_workflow(left).items():
        message = (
            f"workflow {workflow!r}: {counted(len(names), 'run')} of workers that are gone: "
            f"{_named(names)}"
        )
        yield warning("runs", message, _SERVE)
    for workflow, names in _by_workflow(free).items():
        beside = "no worker is there" if not workers.live else "no worker takes them"
        message = (
            f"workflow {workflow!r}: {counted(len(names), 'run')} with something to handle, and "
            f"{beside}: {_named(names)}"
        )
        yield warning("runs", message, _SERVE)


def _overdue(connection: sqlite3.Connection, now: int) -> Iterator[Finding]:
    rows = connection.execute(
        "SELECT workflow, count(*), min(due_at) FROM timer WHERE due_at < ? GROUP BY workflow",
        (now - PATIENCE,),
    ).fetchall()
    for workflow, count, first in rows:
        seconds = (now - first) // 1_000_000
        message = (
            f"workflow {workflow!r}: {counted(count, 'timer')} overdue, the first for {seconds} s"
        )
        yield warning("timers", message, _SERVE)


def _tasks(connection: sqlite3.Connection, workers: Workers) -> Iterator[Finding]:
    rows: list[Any] = connection.execute(
        "SELECT run.workflow, run.correlation_id, task.owner FROM task "
        "JOIN run ON run.id = task.run_id "
        "WHERE task.status = 'pending' AND task.kind = 'internal' ORDER BY task.run_id"
    ).fetchall()
    gone = [row[:2] for row in rows if row[2] not in workers.live]
    for workflow, names in _by_workflow(gone).items():
        message = (
            f"workflow {workflow!r}: {counted(len(names), 'task')} of workers that are gone, in "
            f"{_named(list(dict.fromkeys(names)))}"
        )
        yield warning("tasks", message, _SERVE)


_COUNTED = """
SELECT correlation_id, waits, tasks,
 (SELECT count(*) FROM timer WHERE run_id = run.id)
 + (SELECT count(*) FROM parked WHERE run_id = run.id)
 + (SELECT count(*) FROM collected WHERE run_id = run.id)
 + (SELECT count(*) FROM task WHERE run_id = run.id AND status = 'pending' AND kind = 'external'),
 (SELECT count(*) FROM task WHERE run_id = run.id AND status = 'pending' AND kind = 'internal')
FROM run WHERE waits > 0 OR tasks > 0 OR status IN ('waiting', 'working')
"""


def _waiting(connection: sqlite3.Connection, now: int) -> Iterator[Finding]:
    names: list[str] = [
        name
        for name, waits, tasks, counted_waits, counted_tasks in connection.execute(_COUNTED)
        if (waits, tasks) != (counted_waits, counted_tasks) or not (waits or tasks)
    ]
    if names:
        message = (
            f"{counted(len(names), 'run')} whose count of what is outstanding is wrong: "
            f"{_named(names)}"
        )
        yield warning("runs", message, "`flowstore show RUN`; cancel it if nothing can come")
    rows: list[Any] = connection.execute(
        "SELECT DISTINCT run.correlation_id FROM run JOIN parked ON parked.run_id = run.id "
        "WHERE run.status = 'waiting' AND run.updated_at < ? AND NOT EXISTS "
        "(SELECT 1 FROM timer WHERE timer.run_id = run.id) ORDER BY run.id",
        (now - FOR_EVER,),
    ).fetchall()
    if rows:
        waits = counted(len(rows), "run waits", "runs wait")
        names = [name for (name,) in rows]
        message = f"{waits} for events without a time, untouched for 30 days: {_named(names)}"
        yield info("runs", message, "give ctx.wait_for a timeout; cancel what nobody will answer")


def _counting(statement: Any) -> str:
    """Return the SQL of a statement, whose values are all constants."""
    return str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))


def _failed(connection: sqlite3.Connection) -> Iterator[Finding]:
    transition = schema.transition
    letters = (
        select(func.count())
        .select_from(transition)
        .where(transition.c.outcome == DEAD, still_dead())
    )
    (dead,) = connection.execute(_counting(letters)).fetchone()
    if dead:
        message = f"{counted(dead, 'dead letter')}: handlers that failed for good"
        yield warning("dead", message, "`flowstore dead`, then `flowstore dead retry` or `discard`")
    (passed,) = connection.execute(_counting(unhandled(None, func.count()))).fetchone()
    if passed:
        message = f"{counted(passed, 'event')} came for which no handler was registered"
        yield info("unhandled", message, "`flowstore show RUN` lists those of a run")
