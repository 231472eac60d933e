"""The port to a database: the `Store` that every backend is, and all that crosses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flowstore.store.behind import Behind
from flowstore.store.care_operations import (
    DiscardDead,
    Prune,
    PrunedRuns,
    RetryDead,
    SettledDead,
)
from flowstore.store.keys import (
    DEADLINE_KEY,
    OURS,
    began_at,
    failure_reason,
    is_deadline,
    is_retry,
    name_behind,
    retry_id,
    timeout_key,
    wait_key,
)
from flowstore.store.operations import (
    AddChunks,
    Append,
    BeginCron,
    BeginStream,
    Claim,
    Close,
    Commit,
    EndTask,
    Fire,
    FireCron,
    Load,
    LoadParked,
    Operation,
    Outstanding,
    Release,
    Restore,
    RetryTask,
    Survey,
    TakeTasks,
)
from flowstore.store.outcomes import (
    Appended,
    Committed,
    Fired,
    Grant,
    Loaded,
    ParkedWork,
    Surveyed,
    TakenTask,
    TakenTasks,
)
from flowstore.store.outstanding import OutstandingRecord
from flowstore.store.records import (
    CLOSED,
    CONFLICT,
    DEAD,
    DISCARDED,
    DROPPED,
    DUPLICATE,
    ENDED,
    EXPIRED,
    EXTERNAL,
    HANDLED,
    INTERNAL,
    LEASE_LOST,
    PARKED,
    PENDING,
    POSTPONED,
    RETRIED,
    SETTLED,
    STALE,
    WORKING,
    ChunkRow,
    CollectedRow,
    DeadLetterRecord,
    DropRecord,
    DropRow,
    NewEvent,
    ParkedRow,
    RunRecord,
    RunRow,
    SnapshotRow,
    Status,
    StepRow,
    StoredEvent,
    StreamRow,
    TaskRow,
    TimerRow,
    TransitionRecord,
    TransitionRow,
)
from flowstore.store.streams import STREAM_ENDED, STREAM_FAILED, STREAM_OPEN, StreamRecord

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.excerpt import Excerpt

__all__ = [
    "CLOSED",
    "CONFLICT",
    "DEAD",
    "DEADLINE_KEY",
    "DISCARDED",
    "DROPPED",
    "DUPLICATE",
    "ENDED",
    "EXPIRED",
    "EXTERNAL",
    "HANDLED",
    "INTERNAL",
    "LEASE_LOST",
    "OURS",
    "PARKED",
    "PENDING",
    "POSTPONED",
    "RETRIED",
    "SETTLED",
    "STALE",
    "STREAM_ENDED",
    "STREAM_FAILED",
    "STREAM_OPEN",
    "WORKING",
    "AddChunks",
    "Append",
    "Appended",
    "BeginCron",
    "BeginStream",
    "Behind",
    "ChunkRow",
    "Claim",
    "Close",
    "CollectedRow",
    "Commit",
    "Committed",
    "DeadLetterRecord",
    "DiscardDead",
    "DropRecord",
    "DropRow",
    "EndTask",
    "Fire",
    "FireCron",
    "Fired",
    "Grant",
    "Load",
    "LoadParked",
    "Loaded",
    "NewEvent",
    "Operation",
    "Outstanding",
    "OutstandingRecord",
    "ParkedRow",
    "ParkedWork",
    "Prune",
    "PrunedRuns",
    "Reader",
    "Release",
    "Restore",
    "RetryDead",
    "RetryTask",
    "RunRecord",
    "RunRow",
    "SettledDead",
    "SnapshotRow",
    "Status",
    "StepRow",
    "Store",
    "StoredEvent",
    "StreamRecord",
    "StreamRow",
    "Survey",
    "Surveyed",
    "TakeTasks",
    "TakenTask",
    "TakenTasks",
    "TaskRow",
    "TimerRow",
    "TransitionRecord",
    "TransitionRow",
    "began_at",
    "failure_reason",
    "is_deadline",
    "is_retry",
    "name_behind",
    "retry_id",
    "timeout_key",
    "wait_key",
]


class Reader(Protocol):
    """What can be read. Reading writes nothing and never waits for the writer (G12)."""

    async def get_run(self, correlation_id: str) -> RunRecord | None:
        """Return the run, or None."""
        ...

    async def list_runs(
        self,
        *,
        workflow: str | None = None,
        statuses: Collection[str] = (),
        before: str | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Return runs, the youngest first; of all statuses if none is given.

        ``before`` is the correlation_id to go on after.
        """
        ...

    async def read_events(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[StoredEvent]:
        """Return events with ``after < position <= until``."""
        ...

    async def read_transitions(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[TransitionRecord]:
        """Return transitions of events with ``after < position <= until``, in order."""
        ...

    async def read_excerpt(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int,
        also: Sequence[int] = (),
    ) -> Excerpt:
        """Return events with ``after < position <= until``, ``limit`` at most, and their record.

        ``also`` has positions of further events that came of them; see `read_chosen`.
        """
        ...

    async def read_chosen(
        self, correlation_id: str, *, after: int = 0, until: int | None = None
    ) -> list[tuple[int, int]]:
        """Return where emitted events are whose ids their handlers chose.

        Each as the position of the event that it came of, ``after < position <= until``, and its
        own; an excerpt does not find them by itself. This takes time that grows with the run.
        """
        ...

    async def read_state(
        self, correlation_id: str, *, at: int | None = None
    ) -> tuple[str | None, list[str]]:
        """Return the snapshot to start from and the changes to apply, up to position ``at``."""
        ...

    async def read_states(
        self, correlation_ids: Sequence[str]
    ) -> dict[str, tuple[str | None, list[str]]]:
        """Return what `read_state` returns for each of these runs that there is."""
        ...

    async def list_drops(
        self,
        correlation_id: str | None = None,
        *,
        reason: str | None = None,
        limit: int | None = None,
    ) -> list[DropRecord]:
        """Return drops, the youngest first."""
        ...

    async def list_dead(
        self, correlation_id: str | None = None, *, limit: int | None = None
    ) -> list[DeadLetterRecord]:
        """Return dead letters, the youngest first."""
        ...

    async def list_unhandled(
        self, correlation_id: str | None = None, *, limit: int | None = None
    ) -> list[tuple[str, StoredEvent]]:
        """Return events that were passed over because nothing was registered for them."""
        ...

    async def list_outstanding(
        self, correlation_id: str, *, limit: int | None = None
    ) -> list[OutstandingRecord]:
        """Return what a run waits for, what began first coming first."""
        ...

    async def read_stream(
        self, correlation_id: str, stream_id: str, *, offset: int = 0, limit: int = 0
    ) -> StreamRecord | None:
        """Return a stream with its chunks from ``offset`` on, in at most ``limit`` pages."""
        ...

    async def read_archives(self, correlation_ids: Sequence[str]) -> list[Archive]:
        """Return all there is of these runs, in this order, from one moment."""
        ...

    async def list_streams(
        self, correlation_id: str, stream_ids: Sequence[str] | None = None
    ) -> list[StreamRecord]:
        """Return a run's streams without their chunks; all of them, or those of these ids."""
        ...


class Store(Protocol):
    """A database that holds runs. Backends pass the same contract tests."""

    reader: Reader
    worker_id: str
    secret: bytes
    """What tokens are signed with; empty before this is a worker. Never to be shown."""

    @property
    def is_worker(self) -> bool:
        """Whether leases may have been taken under the worker's id."""
        ...

    def submit(
        self, operation: Operation, deliver: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Queue an operation for the writer.

        Operations are carried out in the order of submission. ``deliver(result, error)`` is
        called on the submitting event loop, in that order too, after the transaction is on
        disk; an operation that fails does so alone.
        """
        ...

    def perform(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation and return a future for its result."""
        ...

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Call ``heard`` on this loop when another process has written; return how to stop."""
        ...

    async def open(self) -> None:
        """Open the database, create or upgrade its schema; done by the first operation too."""
        ...

    async def become_worker(self) -> None:
        """Show a sign of life; to be done before the first lease is taken."""
        ...

    async def read_secret(self) -> bytes:
        """Return what tokens are signed with; empty if no worker has made it yet."""
        ...

    def resign(self) -> None:
        """End this worker: its runs are anyone's; the next lease is taken under a new id."""
        ...

    async def close(self) -> None:
        """Finish what is queued, give back leases and close every connection."""
        ...
