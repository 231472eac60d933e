"""Removing runs from an SQLite database, some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowstore.codec import refuse_engine_id
from flowstore.errors import InvalidValueError
from flowstore.store import base, schema
from flowstore.store.base import PrunedRuns

if TYPE_CHECKING:
    import sqlite3

    from flowstore.store.base import Prune, RunRow
    from flowstore.store.rows import Rows

PARTS: Final = tuple(
    table.name for table in reversed(schema.metadata.sorted_tables) if "run_id" in table.columns
)
"""The tables that have rows of runs, those first to which no other refers."""


def prune(connection: sqlite3.Connection, rows: Rows, operation: Prune) -> PrunedRuns:
    """Remove runs, if nothing has happened to them meanwhile; keep ids that were sent."""
    rows.flush()
    newest = newest_runs(connection)
    done = PrunedRuns()
    for run_id in operation.runs:
        run = rows.run_by_id(run_id)
        if run is None or run_id in newest or not is_over(run, operation):
            done.left += 1
            continue
        _keep_ids(connection, run, operation.now)
        for name in PARTS:
            connection.execute(f'DELETE FROM "{name}" WHERE run_id = ?', (run_id,))  # noqa: S608 - of constants
        connection.execute("DELETE FROM run WHERE id = ?", (run_id,))
        done.runs += 1
        done.events += run.head
    rows.forget()
    return done


def newest_runs(connection: sqlite3.Connection) -> set[int]:
    """Return the runs that stay in any case: SQLite would give their ids and places again."""
    found = connection.execute(
        "SELECT max(id) FROM run UNION "
        "SELECT run_id FROM event WHERE seq = (SELECT max(seq) FROM event) UNION "
        'SELECT run_id FROM "drop" WHERE seq = (SELECT max(seq) FROM "drop")'
    )
    return {run_id for (run_id,) in found if run_id is not None}


def is_over(run: RunRow, operation: Prune) -> bool:
    """Tell whether a run is one of those that are to go; the command finds them with SQL."""
    return (
        run.status in operation.statuses
        and run.status in base.SETTLED
        and run.updated_at < operation.before
        and run.owner is None
        and not (run.waits or run.tasks)
        and run.cursor == run.head
    )


def _keep_ids(connection: sqlite3.Connection, run: RunRow, now: int) -> None:
    """Note the run and the ids that came with events from outside.

    A run without events is what was left to record what it refused: the note is there.
    """
    if not run.head:
        return
    found = connection.execute(
        "SELECT id, position FROM event WHERE run_id = ? AND causation_id IS NULL", (run.id,)
    )
    kept = [(event_id, position) for event_id, position in found if _is_senders(event_id)]
    connection.executemany(
        "INSERT OR REPLACE INTO pruned (correlation_id, event_id, position, status, pruned_at) "
        "VALUES (?, ?, ?, ?, ?)",
        [(run.correlation_id, *each, run.status, now) for each in [("", run.head), *kept]],
    )


def _is_senders(event_id: str) -> bool:
    """Tell whether an id can be that of an event which somebody sends."""
    try:
        refuse_engine_id(event_id)
    except InvalidValueError:
        return False
    return True
