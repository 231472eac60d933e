"""What a worker is told of the operations that it asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.records import (
        ParkedRow,
        RunRow,
        StepRow,
        StoredEvent,
        TaskRow,
        TransitionRow,
    )


@dataclass(slots=True)
class Loaded:
    """What a worker needs to go on with a run, from the moment that it was claimed.

    Args:
        state: the last snapshot, or None.
        changes: the state changes after it, in order.
        events: pending events, from the cursor on; not necessarily all of them.
        transitions: attempts already made at the event after the cursor.
        steps: steps already finished for the event after the cursor.
        parked: handlers that wait.
        collected: keys and events that are kept, in the order in which they came.
    """

    state: str | None = None
    changes: Sequence[str] = ()
    events: Sequence[StoredEvent] = ()
    transitions: Sequence[TransitionRow] = ()
    steps: Sequence[StepRow] = ()
    state_is_cached: bool = False
    parked: Sequence[ParkedRow] = ()
    collected: Sequence[tuple[str, StoredEvent]] = ()


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
        closed: ids of runs that were closed, of those whose tasks are under way here.
        pending: whether any run of the workflow waits for a worker.
        due: when the next run that waits for a time becomes ready.
        timer: when the next timer of the workflow is due.
        tasks: whether there are tasks that no live worker is at.
    """

    lost: list[int] = field(default_factory=list[int])
    closed: list[int] = field(default_factory=list[int])
    pending: bool = False
    due: int | None = None
    timer: int | None = None
    tasks: bool = False


@dataclass(slots=True)
class Fired:
    """What a `Fire` did.

    Args:
        appended: runs and their events, in order.
        due: when the next timer of the workflow is due; None if there is none.
    """

    appended: list[tuple[str, Appended]] = field(default_factory=list[tuple[str, Appended]])
    due: int | None = None


@dataclass(slots=True)
class TakenTask:
    """A task with its run."""

    correlation_id: str
    task: TaskRow


@dataclass(slots=True)
class TakenTasks:
    """What a `TakeTasks` did.

    Args:
        tasks: those that the worker now has.
        unknown: names of others, which it does not know.
        has_more: there are more that it could have.
    """

    tasks: list[TakenTask] = field(default_factory=list[TakenTask])
    unknown: set[str] = field(default_factory=set[str])
    has_more: bool = False


@dataclass(slots=True)
class ParkedWork:
    """What a parked handler needs to go on.

    Args:
        event: the one that it handles.
        events: those that its row names, by position.
        states: the state that it began with, and what it was whenever it went on: a snapshot to
            start from, None to go on from the one before, and the changes from there on.
        steps: its finished steps.
    """

    event: StoredEvent
    events: dict[int, StoredEvent] = field(default_factory=dict[int, "StoredEvent"])
    states: Sequence[tuple[str | None, Sequence[str]]] = ()
    steps: Sequence[StepRow] = ()
