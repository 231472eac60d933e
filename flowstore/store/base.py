"""The port to a database: the records that cross it, and the `Store` that every backend is.

Records of the hot path are named tuples in the order of their table's columns, so that a
batch of them is handed to the driver as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

Status = Literal["running", "waiting", "idle", "completed", "failed", "cancelled"]

CLOSED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
SETTLED: frozenset[str] = CLOSED | {"waiting", "idle"}

# Why an event was refused, as the drop ledger has it.
DUPLICATE = "duplicate"
CONFLICT = "conflict"
STALE = "stale"
EXPIRED = "expired"
LEASE_LOST = "lease_lost"

# How a handler's attempt at an event ended.
HANDLED = "handled"
DROPPED = "dropped"
RETRIED = "retried"
DEAD = "dead"


# --- rows ----------------------------------------------------------------------------


class NewEvent(NamedTuple):
    """An event that has passed the door and has no position yet.

    ``data`` and ``metadata`` are JSON texts; None stands for None.
    """

    id: str
    name: str
    version: int
    data: str | None
    metadata: str | None
    error: str | None
    causation_id: str | None
    created_at: int
    expires_at: int | None


class StoredEvent(NamedTuple):
    """An event as the log has it."""

    run_id: int
    position: int
    id: str
    name: str
    version: int
    data: str | None
    metadata: str | None
    error: str | None
    causation_id: str | None
    created_at: int
    expires_at: int | None


class TransitionRow(NamedTuple):
    """One attempt of one handler at one event.

    ``number`` counts the run's transitions; ``duration`` is in microseconds.
    """

    run_id: int
    position: int
    number: int
    handler: str
    attempt: int
    outcome: str
    change: str | None
    error: str | None
    traceback: str | None
    started_at: int
    duration: int


class SnapshotRow(NamedTuple):
    """The whole state as it was after a position."""

    run_id: int
    position: int
    state: str


class StepRow(NamedTuple):
    """The recorded result of a finished step."""

    run_id: int
    position: int
    handler: str
    name: str
    number: int
    result: str | None
    started_at: int
    duration: int


class DropRow(NamedTuple):
    """An event (or a commit) that was refused, and why."""

    run_id: int
    event_id: str | None
    name: str | None
    position: int | None
    handler: str | None
    reason: str
    detail: str | None
    created_at: int


@dataclass(slots=True)
class RunRow:
    """A run as the store has it."""

    id: int
    correlation_id: str
    workflow: str
    status: str
    head: int
    cursor: int
    state_version: int
    epoch: int
    owner: str | None
    ready_at: int | None
    result: str | None
    reason: str | None
    lineage: str | None
    created_at: int
    updated_at: int


# --- operations: what a worker asks the one writer to do -------------------------------


@dataclass(slots=True)
class Append:
    """Append an event from outside to a run, which is created if there is none.

    Args:
        chosen_id: the sender chose the event's id, so it may be a repeat.
        claim_for: the worker that wants to handle the run if no one else does.
        cached_version: ``state_version`` of the state that this worker still has, so that
            it need not be loaded; -1 for none.
    """

    correlation_id: str
    workflow: str
    event: NewEvent
    chosen_id: bool
    now: int
    claim_for: str | None = None
    cached_version: int = -1


@dataclass(slots=True)
class Commit:
    """What a worker wants recorded for a run that it owns, as one transaction.

    Args:
        run_id: the run.
        epoch: the fencing number that the worker was given with its lease.
        cursor: the cursor that the worker expects to find.
        new_cursor: the cursor to set.
        events: to be appended, in order.
        known_head: the last position that the worker knows of.
        drained: no event up to ``known_head`` needs a handler any more. If nothing came in
            behind it, the cursor moves there, and over the first ``if_last`` of ``events``.
        if_last: number of leading ``events`` that need no handler.
        repeats: the handler ran before, so ``events`` may be in the log already.
        status: the status to set once nothing is pending (``idle``, ``failed``), or, with
            ``close``, in any case.
        close: close the run: whatever is pending becomes stale, with ``reason``.
        result: what the run came to, as JSON; kept with ``close``.
        ready_at: give the run back and leave it alone until then.
    """

    run_id: int
    correlation_id: str
    epoch: int
    cursor: int
    new_cursor: int
    known_head: int
    now: int
    events: Sequence[NewEvent] = ()
    drained: bool = False
    if_last: int = 0
    repeats: bool = False
    transitions: Sequence[TransitionRow] = ()
    steps: Sequence[StepRow] = ()
    drops: Sequence[DropRow] = ()
    snapshot: SnapshotRow | None = None
    statements: Sequence[tuple[Any, Any]] = ()
    status: str = "idle"
    close: bool = False
    result: str | None = None
    reason: str | None = None
    ready_at: int | None = None


@dataclass(slots=True)
class Claim:
    """Take over pending runs: those named, or any of the workflow.

    Args:
        owner: the worker's id.
        limit: how many runs at most.
        names: correlation ids; None for any pending run.
        cached: ``state_version`` by correlation id, of states that the worker still has.
        orphans: epochs by correlation id, of leases that the worker holds for runs that it
            does not handle; only these may be granted to their own owner again.
    """

    workflow: str
    owner: str
    now: int
    limit: int
    names: Sequence[str] | None = None
    cached: dict[str, int] = field(default_factory=dict[str, int])
    orphans: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Load:
    """Read the next events of a run that the worker owns."""

    run_id: int
    after: int
    limit: int


@dataclass(slots=True)
class Close:
    """Close a run from outside; a handler at work on it loses its lease."""

    correlation_id: str
    status: str
    reason: str | None
    now: int


@dataclass(slots=True)
class Release:
    """Give back every run that the worker owns."""

    owner: str


@dataclass(slots=True)
class Survey:
    """See what other processes have done: leases lost, and whether any run waits.

    Args:
        epochs: the epoch of each owned run, by its id.
    """

    workflow: str
    owner: str
    now: int
    epochs: dict[int, int]


Operation = Append | Commit | Claim | Load | Close | Release | Survey


# --- results -------------------------------------------------------------------------


@dataclass(slots=True)
class Loaded:
    """What a worker needs to go on with a run, from the moment that it was claimed.

    Args:
        state: the last snapshot, or None.
        changes: the state changes after it, in order.
        events: pending events, from the cursor on; not necessarily all of them.
        transitions: attempts already made at the event after the cursor.
        steps: steps already finished for the event after the cursor.
    """

    state: str | None = None
    changes: Sequence[str] = ()
    events: Sequence[StoredEvent] = ()
    transitions: Sequence[TransitionRow] = ()
    steps: Sequence[StepRow] = ()
    state_is_cached: bool = False


@dataclass(slots=True)
class Grant:
    """A lease: the run as it now is, and what is needed to go on with it."""

    run: RunRow
    loaded: Loaded


@dataclass(slots=True)
class Appended:
    """What became of an `Append`.

    Args:
        status: as in `flowstore.Receipt`.
        event: the event with its position, if it was appended now.
        run_status: the run's status after it.
        owner: the worker that owns the run, if any.
        grant: the lease, if one was asked for and given.
    """

    status: Literal["accepted", "duplicate", "stale"]
    position: int | None
    run_id: int
    run_status: str
    owner: str | None
    reason: str | None = None
    event: StoredEvent | None = None
    grant: Grant | None = None


@dataclass(slots=True)
class Committed:
    """What became of a `Commit`: the run's new standing and the events with positions."""

    status: str
    head: int
    cursor: int
    events: Sequence[StoredEvent]


@dataclass(slots=True)
class Surveyed:
    """What a `Survey` saw.

    Args:
        lost: ids of owned runs that were closed or taken over by someone else.
        pending: whether any run of the workflow waits for a worker.
        due: when the next run that waits for a time becomes ready.
    """

    lost: list[int] = field(default_factory=list[int])
    pending: bool = False
    due: int | None = None


# --- what readers get ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run, as readers see it. Times are microseconds since 1970, UTC."""

    correlation_id: str
    workflow: str
    status: str
    head: int
    cursor: int
    state_version: int
    epoch: int
    owner: str | None
    ready_at: int | None
    result: str | None
    reason: str | None
    lineage: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionRecord:
    """A transition, as readers see it; ``change`` is a JSON text, ``duration`` microseconds."""

    position: int
    number: int
    handler: str
    attempt: int
    outcome: str
    change: str | None
    error: str | None
    traceback: str | None
    started_at: int
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRecord:
    """A drop, as readers see it."""

    correlation_id: str
    event_id: str | None
    name: str | None
    position: int | None
    handler: str | None
    reason: str
    detail: str | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRecord:
    """An event whose handler failed for good, as readers see it."""

    correlation_id: str
    position: int
    event_id: str
    name: str
    handler: str
    attempt: int
    error: str | None
    traceback: str | None
    started_at: int


class Reader(Protocol):
    """What can be read. Reading writes nothing and never waits for the writer (G12)."""

    async def get_run(self, correlation_id: str) -> RunRecord | None:
        """Return the run, or None."""
        ...

    async def list_runs(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Return runs, the youngest first; ``before`` is the correlation_id to go on after."""
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

    async def read_state(
        self, correlation_id: str, *, at: int | None = None
    ) -> tuple[str | None, list[str]]:
        """Return the snapshot to start from and the changes to apply, up to position ``at``."""
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


class Store(Protocol):
    """A database that holds runs. Backends pass the same contract tests."""

    reader: Reader
    worker_id: str

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

    def resign(self) -> None:
        """End this worker: its runs are anyone's; the next lease is taken under a new id."""
        ...

    async def close(self) -> None:
        """Finish what is queued, give back leases and close every connection."""
        ...
