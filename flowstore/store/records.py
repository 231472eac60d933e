"""What a store keeps, as records: rows for the writer, and what readers get.

Rows of the hot path are named tuples in the order of their table's columns, so that a batch
of them is turned by its columns as it is: see `flowstore.store.bulk`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

WORKING = "working"
"""The stored status of a run with nothing to handle and tasks under way; shown as running."""

Status = Literal["running", "waiting", "idle", "completed", "failed", "cancelled"]

CLOSED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
SETTLED: frozenset[str] = CLOSED | {"waiting", "idle"}

# Why an event was refused, as the drop ledger has it.
DUPLICATE = "duplicate"
CONFLICT = "conflict"
STALE = "stale"
EXPIRED = "expired"
LEASE_LOST = "lease_lost"
DISCARDED = "discarded"
"""A dead letter about which nothing is to be done."""

# How a handler's attempt at an event ended.
HANDLED = "handled"
DROPPED = "dropped"
RETRIED = "retried"
DEAD = "dead"
PARKED = "parked"
"""It waits in the middle, and goes on when what it waits for has come."""
POSTPONED = "postponed"
"""It has put the event off; nothing else that it did counts."""

# What a task is, and where it stands.
INTERNAL = "internal"
EXTERNAL = "external"
PENDING = "pending"
ENDED = "ended"


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

    ``number`` counts the run's transitions; ``duration`` is in microseconds; ``code`` says which
    code it was, ``arranged`` what it began and ended beside events and state, as JSON.
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
    code: str | None = None
    arranged: str | None = None


class SnapshotRow(NamedTuple):
    """The whole state as it was after a position."""

    run_id: int
    position: int
    state: str


class StepRow(NamedTuple):
    """The recorded result of a finished step; of one that failed, what its function raised.

    ``error`` is a JSON text with ``type`` and ``message``.
    """

    run_id: int
    position: int
    handler: str
    name: str
    number: int
    result: str | None
    started_at: int
    duration: int
    error: str | None = None


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


class TimerRow(NamedTuple):
    """An event due in the future; a run has one for each key at most.

    ``task_id`` names an external task that the event ends; it comes only if the task is pending.
    """

    run_id: int
    key: str
    workflow: str
    due_at: int
    event_id: str
    name: str
    version: int
    data: str | None
    metadata: str | None
    error: str | None
    causation_id: str | None
    created_at: int
    task_id: str | None = None

    def event(self, now: int) -> NewEvent:
        """Return its event, made at the moment of firing."""
        return NewEvent(
            self.event_id,
            self.name,
            self.version,
            self.data,
            self.metadata,
            self.error,
            self.causation_id,
            now,
            None,
        )


class TaskRow(NamedTuple):
    """Work that runs beside the handlers and ends in an event.

    ``kind`` is `INTERNAL`, or `EXTERNAL` for a task that someone else ends with a token;
    ``arguments`` a JSON text; ``status`` `PENDING` or `ENDED`; ``attempt`` how many attempts have
    failed; ``owner`` the worker at it; it is not tried before ``ready_at``; ``causation_id`` the
    event whose handler submitted it.
    """

    run_id: int
    id: str
    name: str
    kind: str
    arguments: str | None
    status: str
    attempt: int
    owner: str | None
    ready_at: int | None
    error: str | None
    submitted_at: int
    ended_at: int | None
    causation_id: str | None = None


class ParkedRow(NamedTuple):
    """A handler that has been parked at an event; it is called again from its beginning.

    Attributes:
        position: the event that it handles.
        kind: ``wait`` for one that waits in the middle; what it did before is recorded.
            ``postpone`` for one that has put the event off; nothing of it is recorded.
        name: the event that wakes it: a name, or that of a class; None if only a timer does.
        condition: what else is asked of that event, as JSON; see `engine.trigger`.
        answers: what it has behind it, as JSON; see `Behind`.
        started_at: when its first attempt began, for ``ctx.now()``.
        state_number: the run's last transition when it began: the state that it began with.
    """

    run_id: int
    position: int
    handler: str
    kind: str
    name: str | None
    condition: str | None
    answers: str
    started_at: int
    state_number: int


class CollectedRow(NamedTuple):
    """An event that is kept under a key until the others of the key are there."""

    run_id: int
    key: str
    event_id: str
    position: int


class StreamRow(NamedTuple):
    """A stream: how often it began anew, where it stands and how many chunks it has.

    ``status`` is ``open``, ``ended`` or ``failed``.
    """

    run_id: int
    id: str
    generation: int
    status: str
    chunks: int
    error: str | None


class ChunkRow(NamedTuple):
    """Neighbouring chunks of a stream: a JSON list, and the offset of its first."""

    run_id: int
    stream_id: str
    first: int
    data: str


@dataclass(slots=True)
class RunRow:
    """A run as the store has it.

    ``waits`` counts its timers, external tasks, parked handlers and collected events, ``tasks``
    its other tasks under way. ``foreign_head`` is no column: up to this position there may be
    events that its owner has not appended and does not know of.
    """

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
    waits: int = 0
    tasks: int = 0
    chain: bytes | bytearray | None = None
    foreign_head: int = 0

    @property
    def shown_status(self) -> str:
        """Return the status that users see: while its tasks are under way a run is running."""
        return "running" if self.status == WORKING else self.status

    def values(self) -> tuple[Any, ...]:
        """Return the cells in the order of the table's columns."""
        return (
            self.id,
            self.correlation_id,
            self.workflow,
            self.status,
            self.head,
            self.cursor,
            self.state_version,
            self.epoch,
            self.owner,
            self.ready_at,
            self.result,
            self.reason,
            self.lineage,
            self.created_at,
            self.updated_at,
            self.waits,
            self.tasks,
            self.chain,
        )

    def copy(self) -> RunRow:
        """Return what it is now; the writer's own object goes on changing."""
        return RunRow(*self.values())


RUN_COLUMNS: Final = tuple(name for name in RunRow.__dataclass_fields__ if name != "foreign_head")
"""The columns of a run, in the order of `RunRow.values`."""


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
    """A transition, as readers see it: see `TransitionRow`."""

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
    code: str | None = None
    arranged: str | None = None


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
