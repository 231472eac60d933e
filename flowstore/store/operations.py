"""What a worker asks the one writer to do."""

# ruff: noqa: PIE807 - a checker of types cannot tell of what `list` alone makes a list, and
# calling `list[X]` takes several times as long: these are made for every event.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowstore.store.care_operations import DiscardDead, Prune, RetryDead

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.records import (
        ChunkRow,
        CollectedRow,
        DropRow,
        NewEvent,
        ParkedRow,
        SnapshotRow,
        StepRow,
        TaskRow,
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
        is_quiet: no handler is registered for the event, so a run that has nothing to handle
            and waits for nothing but tasks goes on as it is.
    """

    correlation_id: str
    workflow: str
    event: NewEvent
    chosen_id: bool
    now: int
    claim_for: str | None = None
    cached_version: int = -1
    is_quiet: bool = False


@dataclass(slots=True)
class Outstanding:
    """What begins or ends with a commit, beside events and state.

    Args:
        tasks: submitted; they start once the commit is on disk.
        timers: to be set; each takes the place of one with the same key.
        cancelled: keys of timers to be removed, before ``timers`` are set.
        parked: handlers that wait; each takes the place of what it waited for before.
        woken: positions and names of handlers that are parked no more.
        collected: events to be kept.
        spent: keys and ids of collected events that are kept no more.
    """

    tasks: list[TaskRow] = field(default_factory=lambda: [])
    timers: list[TimerRow] = field(default_factory=lambda: [])
    cancelled: list[str] = field(default_factory=lambda: [])
    parked: list[ParkedRow] = field(default_factory=lambda: [])
    woken: list[tuple[int, str]] = field(default_factory=lambda: [])
    collected: list[CollectedRow] = field(default_factory=lambda: [])
    spent: list[tuple[str, str]] = field(default_factory=lambda: [])

    def add(self, later: Outstanding) -> None:
        """Take over what a later handler wants; what it says of a timer's key counts."""
        if later.cancelled or later.timers:
            gone = {*later.cancelled, *(timer.key for timer in later.timers)}
            self.timers = [timer for timer in self.timers if timer.key not in gone]
        self.timers += later.timers
        self.cancelled += later.cancelled
        self.tasks += later.tasks
        self.parked += later.parked
        self.woken += later.woken
        # What is kept and spent in one transaction has never been there.
        passed = {(row.key, row.event_id) for row in self.collected} & set(later.spent)
        if passed:
            kept = [row for row in self.collected if (row.key, row.event_id) not in passed]
            self.collected = kept
        self.collected += later.collected
        self.spent += [each for each in later.spent if each not in passed]


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
        drained: no event up to ``known_head`` needs a handler any more, nor do those that the
            worker itself has sent off since. If no one else's came in behind it, the cursor moves
            to the run's last position, and over the first ``if_last`` of ``events``.
        if_last: number of leading ``events`` that need no handler.
        repeats: the handler ran before, so ``events`` may be in the log already.
        status: the status to set once nothing is pending (``idle``, ``failed``), or, with
            ``close``, in any case.
        close: close the run: whatever is pending becomes stale, with ``reason``.
        result: what the run came to, as JSON; kept with ``close``.
        reason: why it has failed, or will; empty if it does not any more, None to leave it.
        ready_at: give the run back and leave it alone until then.
        outstanding: tasks, timers and waits that begin or end with this commit.
        announces: the handler is still at work; one of ``events`` that the run has is no drop,
            and stays as it was.
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
    outstanding: Outstanding | None = None
    announces: bool = False


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
    cached: dict[str, int] = field(default_factory=lambda: {})
    orphans: dict[str, int] = field(default_factory=lambda: {})


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
        tasks: ids of runs whose tasks are under way here.
    """

    workflow: str
    owner: str
    now: int
    epochs: dict[int, int]
    tasks: Sequence[int] = ()


@dataclass(slots=True)
class Fire:
    """Append the events of timers that are due, in the order in which they were due.

    Args:
        limit: how many at most.
    """

    workflow: str
    now: int
    limit: int


@dataclass(slots=True)
class BeginCron:
    """Read the moment of the last firing that is recorded; the first look ever records ``now``."""

    workflow: str
    name: str
    now: int


@dataclass(slots=True)
class FireCron:
    """Append an event at its time, unless its run has it.

    Args:
        at: the time that the firing stands for, in microseconds since 1970.
        append: the event, with an id made of the name and the time.
    """

    workflow: str
    name: str
    at: int
    append: Append


@dataclass(slots=True)
class EndTask:
    """Append the event in which a task ends, unless it has ended before.

    An external task's token can be older than the commit that submits the task, if a handler
    passed it on in a step: such an end is kept, and the task is then submitted as one that has
    ended. Its second end is a duplicate if it says the same, and else stale.

    Args:
        task_id: ``<position>/<handler>/t<n>``.
        event: ``task.completed`` or ``task.failed``, with the id ``<task_id>/end``.
        owner: the worker at it; None for an external task. A worker from which another has taken
            the task cannot end it.
        claim_for, cached_version: as in `Append`.
    """

    correlation_id: str
    workflow: str
    task_id: str
    event: NewEvent
    owner: str | None
    now: int
    claim_for: str | None = None
    cached_version: int = -1


@dataclass(slots=True)
class RetryTask:
    """Record a failed attempt at a task; the same worker tries again at ``ready_at``."""

    run_id: int
    task_id: str
    owner: str
    attempt: int
    error: str
    ready_at: int


@dataclass(slots=True)
class TakeTasks:
    """Take over pending internal tasks that no live worker is at.

    Args:
        owner: the worker that takes them.
        names: of the tasks that it knows.
        limit: how many at most.
        runs: only those of these runs, by correlation id; None for any of the workflow.
    """

    workflow: str
    owner: str
    names: Sequence[str]
    limit: int
    runs: Collection[str] | None = None


@dataclass(slots=True)
class LoadParked:
    """Read what a parked handler needs to go on: see `ParkedWork`."""

    row: ParkedRow


@dataclass(slots=True)
class BeginStream:
    """Begin a stream, or begin it anew: its chunks are gone then, its generation is one higher.

    The run's lease must be held with this epoch.
    """

    run_id: int
    epoch: int
    stream_id: str


@dataclass(slots=True)
class AddChunks:
    """Put chunks behind those of a stream, and say where it stands.

    The run's lease must be held with this epoch.

    Args:
        rows: neighbouring chunks.
        chunks: how many the stream has with them.
        status: ``open``, ``ended`` or ``failed``.
        error: why it failed.
    """

    run_id: int
    epoch: int
    stream_id: str
    rows: Sequence[ChunkRow]
    chunks: int
    status: str
    error: str | None = None


@dataclass(slots=True)
class Restore:
    """Put whole runs into the store, under ids of its own; hashes are taken as they are.

    No run with one of their correlation_ids may be there: then nothing is written. With
    ``skips_existing`` such runs are left out instead, and have None in place of an id.
    """

    archives: Sequence[Archive]
    skips_existing: bool = False


Operation = (
    Append
    | Commit
    | Claim
    | Load
    | Close
    | Release
    | Survey
    | Fire
    | BeginCron
    | FireCron
    | EndTask
    | RetryTask
    | TakeTasks
    | LoadParked
    | BeginStream
    | AddChunks
    | Restore
    | RetryDead
    | DiscardDead
    | Prune
)
