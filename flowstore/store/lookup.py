"""What the ledger must be told about a database; every backend implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowstore.store.base import (
        ChunkRow,
        CollectedRow,
        EndTask,
        Loaded,
        ParkedRow,
        RetryTask,
        RunRow,
        StoredEvent,
        StreamRow,
        TakenTask,
        TaskRow,
        TimerRow,
    )
    from flowstore.store.tombstones import Tombstone


class Lookup(Protocol):
    """What the ledger must be told about what is already in the database."""

    def run(self, correlation_id: str) -> RunRow | None:
        """Return the run, the same object each time, or None."""
        ...

    def run_by_id(self, run_id: int) -> RunRow | None:
        """Return the run, the same object each time, or None."""
        ...

    def add_run(self, correlation_id: str, workflow: str, now: int) -> RunRow:
        """Make a run that is not in the database yet."""
        ...

    def event(self, run_id: int, event_id: str) -> StoredEvent | None:
        """Return the event with this id, also if it came in this batch."""
        ...

    def names_between(self, run_id: int, after: int, until: int) -> list[tuple[int, str, str]]:
        """Return position, id and name of the events with ``after < position <= until``."""
        ...

    def load(self, run: RunRow, cached_version: int) -> Loaded:
        """Return what a worker needs to go on with this run."""
        ...

    def load_state(self, run: RunRow) -> Loaded:
        """Return the state alone; nothing of the run waits to be written."""
        ...

    @property
    def has_pruned(self) -> bool:
        """Whether runs were ever removed."""
        ...

    def pruned(self, correlation_id: str, event_id: str) -> Tombstone | None:
        """Return what is left of an event, or, for the empty text, of its run."""
        ...

    def has_lost_lease(self, owner: str) -> bool:
        """Tell whether this worker is dead, or silent beyond its lease."""
        ...


class WaitingLookup(Protocol):
    """What the ledger must be told, and has to change, about what is outstanding."""

    def set_timers(self, run_id: int, cancelled: Sequence[str], timers: Sequence[TimerRow]) -> int:
        """Remove and set timers of a run; return how many more it has."""
        ...

    def due_timers(self, workflow: str, now: int, limit: int) -> list[TimerRow]:
        """Take out the timers that are due, the first due first."""
        ...

    def next_timer(self, workflow: str) -> int | None:
        """Return when the next timer of a workflow is due, None if there is none."""
        ...

    def last_cron(self, workflow: str, name: str) -> int | None:
        """Return the time of the last firing that is recorded."""
        ...

    def set_cron(self, workflow: str, name: str, at: int) -> None:
        """Record a firing."""
        ...

    def add_tasks(self, tasks: Sequence[TaskRow]) -> None:
        """Put tasks into the database."""
        ...

    def task(self, run_id: int, task_id: str) -> TaskRow | None:
        """Return the task, or None."""
        ...

    def end_task(self, run_id: int, task_id: str, now: int) -> None:
        """Record that a task has ended."""
        ...

    def end_own_task(self, run_id: int, operation: EndTask) -> bool:
        """Record the end of a task that is pending under its owner; False if it is not."""
        ...

    def retry_task(self, operation: RetryTask) -> bool:
        """Record a failed attempt; False if the task is not pending under this owner."""
        ...

    def owners_of_tasks(self) -> Iterator[str]:
        """Return the workers at pending tasks."""
        ...

    def tasks_of(self, owner: str, workflow: str) -> Iterator[TakenTask]:
        """Return the pending tasks of a worker, by run, the first submitted first."""
        ...

    def tasks_of_run(self, owner: str, run_id: int) -> Iterator[TaskRow]:
        """Return the pending tasks of a worker in one run, the first submitted first."""
        ...

    def own_tasks(self, tasks: Sequence[TaskRow]) -> None:
        """Give tasks to the owner that they name."""
        ...

    def park(self, rows: Sequence[ParkedRow]) -> int:
        """Park handlers of one run; return how many more are."""
        ...

    def wake(self, run_id: int, handlers: Sequence[tuple[int, str]]) -> int:
        """Remove parked handlers, by position and name; return how many there were."""
        ...

    def parked(self, run_id: int) -> list[ParkedRow]:
        """Return a run's parked handlers, in the order of their events."""
        ...

    def collect(self, rows: Sequence[CollectedRow]) -> None:
        """Keep events."""
        ...

    def spend(self, run_id: int, events: Sequence[tuple[str, str]]) -> int:
        """Keep events no longer, by key and id; return how many there were."""
        ...

    def collected(self, run_id: int) -> list[tuple[str, StoredEvent]]:
        """Return keys and events of what a run keeps, in the order of the log."""
        ...

    def stream(self, run_id: int, stream_id: str) -> StreamRow | None:
        """Return the stream, or None."""
        ...

    def begin_stream(self, row: StreamRow) -> None:
        """Put a stream into the database, or one of a higher generation in its place."""
        ...

    def add_chunks(self, row: StreamRow, chunks: Sequence[ChunkRow]) -> None:
        """Add chunks to a stream, and say where it stands."""
        ...

    def clear(self, run_id: int) -> None:
        """End everything that is outstanding in a run."""
        ...
