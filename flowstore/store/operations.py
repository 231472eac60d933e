"""What a worker asks the one writer to do, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.records import (
        DropRow,
        NewEvent,
        RunRow,
        SnapshotRow,
        StepRow,
        StoredEvent,
        TimerRow,
        TransitionRow,
    )


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
        timers: to be set; each takes the place of one with the same key.
        cancelled: keys of timers to be removed, before ``timers`` are set.
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
    timers: Sequence[TimerRow] = ()
    cancelled: Sequence[str] = ()


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


@dataclass(slots=True)
class Fire:
    """Append the events of timers that are due, in the order in which they were due.

    Args:
        limit: how many at most.
    """

    workflow: str
    now: int
    limit: int


Operation = Append | Commit | Claim | Load | Close | Release | Survey | Fire


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
        timer: when the next timer of the workflow is due.
    """

    lost: list[int] = field(default_factory=list[int])
    pending: bool = False
    due: int | None = None
    timer: int | None = None


@dataclass(slots=True)
class Fired:
    """What a `Fire` did.

    Args:
        appended: runs and their events, in order.
        due: when the next timer of the workflow is due; None if there is none.
    """

    appended: list[tuple[str, Appended]] = field(default_factory=list[tuple[str, Appended]])
    due: int | None = None
