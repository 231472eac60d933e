"""The core as a pure decision: a run, an event, what the handlers did -> a commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowstore.store.base import (
    Commit,
    DropRow,
    NewEvent,
    Outstanding,
    SnapshotRow,
    StepRow,
    TransitionRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.attempt import Attempt
    from flowstore.store.base import RunRow


@dataclass(slots=True)
class Done:
    """What the handlers of one event did.

    Attributes:
        executors: the attempt that each of ``statements`` comes from.
        choosers: the attempts that emitted events with ids of their own choice, by id.
        repeats: some of ``events`` may be in the log already.
        ready_at: when to try again the handler that failed, in microseconds since 1970.
        failure: why the run fails when it settles.
        overdue: why it fails now.
        outstanding: what begins or ends beside events and state.
    """

    events: Sequence[NewEvent] = ()
    transitions: Sequence[TransitionRow] = ()
    drops: Sequence[DropRow] = ()
    failed_steps: Sequence[StepRow] = ()
    statements: Sequence[tuple[Any, Any]] = ()
    executors: Sequence[Attempt] = ()
    choosers: Mapping[str, Attempt] = field(default_factory=lambda: {})  # noqa: PIE807 - see `active`
    repeats: bool = False
    ready_at: int | None = None
    completed: bool = False
    result: str | None = None
    failure: str | None = None
    overdue: str | None = None
    outstanding: Outstanding | None = None


def commit_event(
    run: ActiveRun, position: int, done: Done, handlers: Callable[[str], object], now: int
) -> Commit:
    """Decide what to record after the event at ``position`` has been through its handlers."""
    failure = done.failure or run.failure
    commit = Commit(
        run.id,
        run.correlation_id,
        run.epoch,
        run.cursor,
        position,
        run.head,
        now,
        done.events,
    )
    # One by one: to call a class with names for so much of it takes several times as long.
    commit.repeats = done.repeats
    commit.transitions = done.transitions
    commit.drops = done.drops
    commit.steps = done.failed_steps
    commit.statements = done.statements
    commit.outstanding = done.outstanding
    commit.reason = failure
    if failure:
        commit.status = "failed"
    if done.ready_at is not None:
        # The event stays pending; only the handlers that are done are recorded.
        commit.new_cursor = run.cursor
        commit.ready_at = done.ready_at
        return commit
    if done.completed:
        commit.close = True
        commit.status = "completed"
        commit.result = done.result
        return commit
    if done.overdue is not None:
        commit.close = True
        commit.status = "failed"
        commit.reason = done.overdue
        return commit
    if _is_drained(run, position, handlers):
        commit.drained = True
        commit.if_last = _leading(done.events, handlers)
    if run.state.snapshot_due():
        commit.snapshot = SnapshotRow(run.id, position, run.state.document())
        run.state.snapshot_taken()
    return commit


def _is_drained(run: ActiveRun, position: int, handlers: Callable[[str], object]) -> bool:
    if run.loaded != run.head or (run.in_flight and any(map(handlers, run.in_flight))):
        return False
    # A loop: any() with a generator would cost this path as much again.
    for event in run.pending:  # noqa: SIM110 - as just said
        if event.position > position and handlers(event.name):
            return False
    return True


def _leading(events: Sequence[NewEvent], handlers: Callable[[str], object]) -> int:
    for count, event in enumerate(events):
        if handlers(event.name):
            return count
    return len(events)


def pass_over(run: ActiveRun, now: int) -> Commit:
    """Move the cursor over events that nothing is registered for, up to the last one known."""
    return Commit(
        run.id,
        run.correlation_id,
        run.epoch,
        run.cursor,
        run.loaded,
        run.head,
        now,
        drained=run.loaded == run.head and not run.in_flight,
        reason=run.failure,
        status="failed" if run.failure else "idle",
    )


def announce(run: ActiveRun, event: NewEvent, now: int, *, repeats: bool) -> Commit:
    """Append an event while its handler is still at work."""
    commit = _meanwhile(run, now)
    commit.events = (event,)
    commit.announces = True
    commit.repeats = repeats
    return commit


def record_step(run: ActiveRun, step: StepRow, now: int) -> Commit:
    """Record a finished step while its handler is still at work."""
    commit = _meanwhile(run, now)
    commit.steps = (step,)
    return commit


def _meanwhile(run: ActiveRun, now: int) -> Commit:
    """Return a commit that leaves the cursor where it is."""
    return Commit(
        run.id,
        run.correlation_id,
        run.epoch,
        run.cursor,
        run.cursor,
        run.head,
        now,
        reason=run.failure,
    )


def give_back(run: RunRow, now: int, ready_at: int) -> Commit:
    """Return a lease unused, and leave the run alone for a while."""
    return Commit(
        run.id,
        run.correlation_id,
        run.epoch,
        run.cursor,
        run.cursor,
        run.head,
        now,
        ready_at=ready_at,
    )
