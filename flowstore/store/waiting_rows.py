"""What the ledger is told about all that is outstanding in an SQLite database.

Unlike events and transitions these rows are written at once, within the batch's transaction:
each of them can be removed again by a later operation of the same batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flowstore.store import waiting_statements
from flowstore.store.base import (
    ENDED,
    PENDING,
    ChunkRow,
    ParkedRow,
    StoredEvent,
    StreamRow,
    TakenTask,
    TaskRow,
    TimerRow,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from flowstore.store.base import CollectedRow, EndTask, RetryTask


class WaitingRows:
    """Implements `flowstore.store.lookup.WaitingLookup`.

    Attributes:
        flush: writes the events that the ledger still has.
    """

    flush: Callable[[], None]

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._sql = waiting_statements.build()

    # --- timers ------------------------------------------------------------------------

    def set_timers(self, run_id: int, cancelled: Sequence[str], timers: Sequence[TimerRow]) -> int:
        """Remove and set timers of a run; return how many more it has."""
        run_many, sql = self._connection.executemany, self._sql
        gone = [(run_id, key) for key in (*cancelled, *(timer.key for timer in timers))]
        removed = run_many(sql.cancel_timer, gone).rowcount
        run_many(sql.set_timer, timers)
        return len(timers) - removed

    def due_timers(self, workflow: str, now: int, limit: int) -> list[TimerRow]:
        """Take out the timers that are due, the first due first."""
        connection, sql = self._connection, self._sql
        rows = connection.execute(sql.due_timers, (workflow, now, limit, 0)).fetchall()
        connection.executemany(sql.end_timer, [row[:1] for row in rows])
        return [TimerRow(*row[1:]) for row in rows]

    def next_timer(self, workflow: str) -> int | None:
        """Return when the next timer of a workflow is due, None if there is none."""
        (due,) = self._connection.execute(self._sql.next_timer, (workflow,)).fetchone()
        return cast("int | None", due)

    def last_cron(self, workflow: str, name: str) -> int | None:
        """Return the time of the last firing that is recorded."""
        row = self._connection.execute(self._sql.last_cron, (workflow, name)).fetchone()
        return None if row is None else row[0]

    def set_cron(self, workflow: str, name: str, at: int) -> None:
        """Record a firing."""
        self._connection.execute(
            "INSERT OR REPLACE INTO cron (workflow, name, last_at) VALUES (?, ?, ?)",
            (workflow, name, at),
        )

    # --- tasks ---------------------------------------------------------------------------

    def add_tasks(self, tasks: Sequence[TaskRow]) -> None:
        """Put tasks into the database."""
        self._connection.executemany(self._sql.insert_task, tasks)

    def task(self, run_id: int, task_id: str) -> TaskRow | None:
        """Return the task, or None."""
        row = self._connection.execute(self._sql.task, (run_id, task_id)).fetchone()
        return None if row is None else TaskRow(*row)

    def end_task(self, run_id: int, task_id: str, now: int) -> None:
        """Record that a task has ended."""
        self._connection.execute(self._sql.end_task, (ENDED, now, run_id, task_id))

    def end_own_task(self, run_id: int, operation: EndTask) -> bool:
        """Record the end of a task that is pending under its owner; False if it is not."""
        cells = (ENDED, operation.now, run_id, operation.task_id, operation.owner, PENDING)
        return self._connection.execute(self._sql.end_own_task, cells).rowcount == 1

    def retry_task(self, operation: RetryTask) -> bool:
        """Record a failed attempt; False if the task is not pending under this owner."""
        tried = (operation.attempt, operation.ready_at, operation.error)
        cells = (*tried, operation.run_id, operation.task_id, operation.owner, PENDING)
        return self._connection.execute(self._sql.retry_task, cells).rowcount == 1

    def owners_of_tasks(self) -> Iterator[str]:
        """Return the workers at pending tasks, each once, at the cost of one look for each."""
        after = ""
        while True:
            (owner,) = self._connection.execute(self._sql.next_owner, (after,)).fetchone()
            if owner is None:
                return
            yield owner
            after = owner

    def tasks_of(self, owner: str, workflow: str) -> Iterator[TakenTask]:
        """Return the pending tasks of a worker, by run, the first submitted first."""
        for row in self._connection.execute(self._sql.tasks_of, (owner, workflow)):
            yield TakenTask(row[0], TaskRow(*row[1:]))

    def tasks_of_run(self, owner: str, run_id: int) -> Iterator[TaskRow]:
        """Return the pending tasks of a worker in one run, the first submitted first."""
        for row in self._connection.execute(self._sql.tasks_of_run, (owner, run_id)):
            yield TaskRow(*row)

    def own_tasks(self, tasks: Sequence[TaskRow]) -> None:
        """Give tasks to the owner that they name."""
        cells = [(task.owner, task.run_id, task.id) for task in tasks]
        self._connection.executemany(self._sql.own_task, cells)

    # --- parked handlers and collected events ----------------------------------------------

    def park(self, rows: Sequence[ParkedRow]) -> int:
        """Park handlers; return how many more are."""
        woken = self.wake(rows[0].run_id, [(row.position, row.handler) for row in rows])
        self._connection.executemany(self._sql.park, rows)
        return len(rows) - woken

    def wake(self, run_id: int, handlers: Sequence[tuple[int, str]]) -> int:
        """Remove parked handlers, by position and name; return how many there were."""
        rows = [(run_id, *each) for each in handlers]
        return self._connection.executemany(self._sql.wake, rows).rowcount

    def parked(self, run_id: int) -> list[ParkedRow]:
        """Return a run's parked handlers, in the order of their events."""
        return [ParkedRow(*row) for row in self._connection.execute(self._sql.parked, (run_id,))]

    def collect(self, rows: Sequence[CollectedRow]) -> None:
        """Keep events."""
        self._connection.executemany(self._sql.collect, rows)

    def spend(self, run_id: int, events: Sequence[tuple[str, str]]) -> int:
        """Keep events no longer, by key and id; return how many there were."""
        rows = [(run_id, *each) for each in events]
        return self._connection.executemany(self._sql.spend, rows).rowcount

    def collected(self, run_id: int) -> list[tuple[str, StoredEvent]]:
        """Return keys and events of what a run keeps, in the order of the log."""
        execute = self._connection.execute
        if execute(self._sql.has_collected, (run_id, 1, 0)).fetchone() is None:
            return []
        self.flush()
        rows = execute(self._sql.collected, (run_id,))
        return [(row[0], StoredEvent(*row[1:])) for row in rows]

    # --- streams ---------------------------------------------------------------------------

    def stream(self, run_id: int, stream_id: str) -> StreamRow | None:
        """Return the stream, or None."""
        row = self._connection.execute(self._sql.stream, (run_id, stream_id)).fetchone()
        return None if row is None else StreamRow(*row)

    def begin_stream(self, row: StreamRow) -> None:
        """Put a stream into the database, or one of a higher generation in its place."""
        execute, sql = self._connection.execute, self._sql
        this = (row.run_id, row.id)
        execute(sql.clear_chunks, this)
        cells = (row.generation, row.status, row.chunks, row.error, *this)
        if not execute(sql.begin_stream, cells).rowcount:
            execute(sql.insert_stream, row)

    def add_chunks(self, row: StreamRow, chunks: Sequence[ChunkRow]) -> None:
        """Add chunks to a stream, and say where it stands."""
        self._connection.executemany(self._sql.insert_chunk, chunks)
        cells = (row.status, row.chunks, row.error, row.run_id, row.id)
        self._connection.execute(self._sql.move_stream, cells)

    # --- the end -----------------------------------------------------------------------------

    def clear(self, run_id: int) -> None:
        """End everything that is outstanding in a run."""
        execute, sql = self._connection.execute, self._sql
        for text in (sql.clear_timers, sql.clear_parked, sql.clear_collected):
            execute(text, (run_id,))
        execute(sql.clear_tasks, (ENDED, run_id, PENDING))
