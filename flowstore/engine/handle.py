"""One event through its handlers: attempts, failures, retries, dead letters."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from flowstore.engine.attempt import Attempt
from flowstore.engine.deadline import is_moved, pass_deadline
from flowstore.engine.decide import Done
from flowstore.engine.trigger import awaits, continued_name
from flowstore.engine.words import storable, told
from flowstore.errors import EventConflictError, FlowstoreError, HandlerChangedError
from flowstore.events import DEAD_RETRIED, DEADLINE, ERROR, PROGRESS, WorkflowEvent
from flowstore.routing import OVERDUE, REVIVER
from flowstore.store.arranged import to_text as arranged_text
from flowstore.store.base import (
    DEAD,
    EXPIRED,
    RETRIED,
    STALE,
    DropRow,
    LoadParked,
    NewEvent,
    Outstanding,
    TransitionRow,
    failure_reason,
)

if TYPE_CHECKING:
    import logging
    from typing import Protocol

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.errors import StatementError
    from flowstore.routing import Handler, Routes
    from flowstore.store.base import ParkedRow, ParkedWork, StoredEvent

    class Around(Surroundings, Protocol):
        """What handling an event needs of the engine."""

        routes: Routes
        logger: logging.Logger


CHANGED_SECONDS = 60.0
"""How long a parked handler is left alone whose code is gone or goes another way than before.

Nothing is lost by waiting for the right code: it is tried again, each time after twice as long.
"""

MOST_CHANGED_SECONDS = 600.0
"""The longest time between two of these tries: soon after a roll-back, and the log stays short."""


async def handle_event(around: Around, run: ActiveRun, stored: StoredEvent) -> Done:
    """Give an event to every handler that has not finished with it yet."""
    done = Done()
    if stored.expires_at is not None and stored.expires_at <= around.clock.now():
        _expire(around, run, stored, done)
        return done
    if stored.name == DEADLINE and await is_moved(around, run, stored):
        return done
    for handler in around.routes.handlers(stored.name):
        if run.finished and (stored.position, handler.name) in run.finished:
            continue
        if (handler is OVERDUE or handler is REVIVER) or (
            handler.task is not None and not handler.accepts(_data(around, stored))
        ):
            continue
        attempt, error = await _try(around, run, stored, handler)
        _conclude(around, stored, attempt, error, done)
        if done.ready_at is not None or done.completed:
            break
    else:
        if run.parked or stored.name == DEAD_RETRIED:
            await wake_handlers(around, run, stored, done)
        if stored.name == DEADLINE:
            pass_deadline(around, run, stored, done)
    if done.completed or done.overdue is not None:
        _drop_the_rest(around, run, done)
    return done


async def wake_handlers(around: Around, run: ActiveRun, stored: StoredEvent, done: Done) -> None:
    """Call the parked handlers again that have waited for this event."""
    # In this order also when they were parked in another one, or have been loaded.
    waiting = [run.parked[each] for each in sorted(run.parked)]
    for row in [row for row in waiting if awaits(row, stored, around.codec)]:
        name = continued_name(row)
        if (stored.position, name) in run.finished or (row.position, row.handler) not in run.parked:
            continue
        work: ParkedWork = await around.perform(LoadParked(row))
        handler = around.routes.named(row.handler, work.event.name)
        attempt, error = await _try(around, run, stored, handler, (row, work, stored))
        _conclude(around, stored, attempt, error, done)
        if done.ready_at is not None or done.completed:
            return
    if stored.name == DEAD_RETRIED:
        await _revive(around, run, stored, done)


async def _revive(around: Around, run: ActiveRun, stored: StoredEvent, done: Done) -> None:
    """Call the handler again of a dead letter that is retried."""
    from flowstore.engine.revive import revived  # noqa: PLC0415 - few runs need it

    found = await revived(around, run, stored)
    if found is None or (stored.position, continued_name(found.row)) in run.finished:
        return
    if run.failure == found.failure:
        run.failure = ""
    work: ParkedWork = await around.perform(LoadParked(found.row))
    handler = around.routes.named(found.row.handler, work.event.name, is_parked=False)
    again = (found.row, work, found.waking or stored)
    attempt, error = await _try(around, run, stored, handler, again)
    _conclude(around, stored, attempt, error, done)


def _conclude(
    around: Around, stored: StoredEvent, attempt: Attempt, error: BaseException | None, done: Done
) -> None:
    """Record what came of an attempt."""
    if attempt.failed_steps:
        done.failed_steps = [*done.failed_steps, *attempt.failed_steps]
    if error is None:
        error = _finish(around, attempt, done)
    if error is not None:
        attempt.run.state.restore()
        _fail(around, attempt, stored, error, done)


async def _try(
    around: Around,
    run: ActiveRun,
    stored: StoredEvent,
    handler: Handler,
    parked: tuple[ParkedRow, ParkedWork, StoredEvent] | None = None,
) -> tuple[Attempt, BaseException | None]:
    attempt: Attempt | None = None
    run.error = None
    try:
        origin = stored if parked is None else parked[1].event
        if parked is not None:
            attempt = Attempt(around, run, origin, _envelope(origin, run), handler)
            attempt.resume(*parked, stored)
        event = around.streams.event(origin, run.correlation_id)
        if attempt is None:
            attempt = Attempt(around, run, origin, event, handler)
        attempt.event = event
        if handler.timeout is None:
            await attempt.call()
        else:
            await attempt.perform()
    except BaseException as error:  # noqa: BLE001 - what is not the handler's is raised again
        # An event that could not even be read had no attempt made at it.
        attempt = attempt or Attempt(around, run, stored, _envelope(stored, run), handler)
        return attempt, _blame(run, attempt, error)
    else:
        return attempt, None
    finally:
        if attempt is not None:
            attempt.has_ended = True


def _blame(run: ActiveRun, attempt: Attempt, error: BaseException) -> BaseException | None:
    """Return what the handler is to blame for; raise what it is not."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise error
        error = FlowstoreError("the handler was cancelled from within")
    elif isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    if attempt.is_parked:
        return None  # what it did on its way out does not count
    if run.error is not None:
        # The store failed under this very attempt, which then is not the handler's fault.
        raise run.error from error
    return error


def _finish(around: Around, attempt: Attempt, done: Done) -> Exception | None:
    """Take over what a handler did; its state must be one that can be stored."""
    run, past = attempt.run, attempt.past
    try:
        change = attempt.conclude()
    except FlowstoreError as error:
        return error
    if past is not None and past.is_unmoved:
        if past.misfit is not None:
            done.drops = [*done.drops, past.misfit]
        return None
    arranged = None
    if past is not None or attempt.arranged is not None:
        heard = None if past is None else attempt.told
        arranged = arranged_text(_arrange(run, attempt, done), heard)
    done.transitions = (
        *done.transitions,
        _transition(around, run, attempt, attempt.outcome, done, change, None, None, arranged),
    )
    if attempt.events:
        done.events = [*done.events, *attempt.events] if done.events else attempt.events
    if attempt.drops:
        done.drops = [*done.drops, *attempt.drops]
    if attempt.statements:
        done.statements = [*done.statements, *attempt.statements]
        done.executors = [*done.executors, *([attempt] * len(attempt.statements))]
    if attempt.repeats:
        done.repeats = True
        done.choosers = {**done.choosers, **{event.id: attempt for event in attempt.events or ()}}
    if attempt.completed:
        done.completed = True
        done.result = attempt.result
    return None


def _arrange(run: ActiveRun, attempt: Attempt, done: Done) -> Outstanding:
    """Take over what begins and ends with the handler, and return it."""
    wanted, arranged = Outstanding(), attempt.arranged
    if arranged is not None:
        wanted.add(arranged.outstanding)
    if attempt.past is not None:
        wanted.add(attempt.past.outstanding(run.number + len(done.transitions)))
    if arranged is None:
        run.arrange(wanted)
    else:
        run.arrange(wanted, arranged.kept, arranged.completed, attempt.event.position or 0)
    if done.outstanding is None:
        done.outstanding = Outstanding()
    done.outstanding.add(wanted)
    return wanted


def _transition(  # noqa: PLR0917 - a row of the hot path; names for its cells cost time
    around: Around,
    run: ActiveRun,
    attempt: Attempt,
    outcome: str,
    done: Done,
    change: str | None,
    error: str | None,
    trace: str | None,
    arranged: str | None,
) -> TransitionRow:
    started = attempt.started_at
    return TransitionRow(
        run.id,
        attempt.position,
        run.number + len(done.transitions) + 1,
        attempt.recorded_as,
        attempt.attempt,
        outcome,
        change,
        error,
        trace,
        started,
        max(0, around.clock.now() - started),
        attempt.handler.code,
        arranged,
    )


# --- failures ----------------------------------------------------------------------------


def _fail(
    around: Around, attempt: Attempt, stored: StoredEvent, error: BaseException, done: Done
) -> None:
    run, handler = attempt.run, attempt.handler
    text = storable(told(error))
    seconds = None
    if isinstance(error, HandlerChangedError):
        seconds = min(CHANGED_SECONDS * 2 ** min(attempt.attempt - 1, 9), MOST_CHANGED_SECONDS)
    elif handler.retry is not None:
        chance = around.clock.random(f"{run.correlation_id}/{stored.position}/{attempt.attempt}")
        seconds = handler.retry.seconds_after(attempt.attempt, error, chance)
    outcome = DEAD if seconds is None else RETRIED
    trace = storable(_trace(error))
    row = _transition(around, run, attempt, outcome, done, None, text, trace, None)
    where = f"handler {attempt.recorded_as!r} on {stored.name!r} at {stored.position}"
    if seconds is not None:
        done.transitions = (*done.transitions, row)
        around.logger.warning(
            "%s of run %r failed, next try in %.1f s: %s", where, run.correlation_id, seconds, text
        )
        done.ready_at = around.clock.now() + int(seconds * 1_000_000)
        return
    if attempt.streams is not None:
        attempt.streams.fail(text)
        attempt.is_blameless = attempt.is_blameless or attempt.streams.has_broken
    wanted, attempt.events = Outstanding(), None
    if attempt.past is not None and attempt.past.row is not None:
        attempt.past.parked = attempt.arranged = None
        wanted = _arrange(run, attempt, done)
    failed, blameless = attempt.failed_steps or (), attempt.is_blameless
    arranged = arranged_text(wanted, attempt.told, failed, blameless=blameless)
    done.transitions = (*done.transitions, row._replace(arranged=arranged))
    around.logger.error("%s of run %r failed: %s", where, run.correlation_id, text)
    around.logger.debug("%s", trace)
    if stored.name != ERROR:
        done.events = [*done.events, _error_event(around, attempt, stored, error, text)]
    if stored.name == ERROR or not around.routes.handles_failures(ERROR):
        reason = failure_reason(attempt.recorded_as, stored.name, stored.position, text)
        done.failure = done.failure or reason


def fail_commit(
    around: Around, stored: StoredEvent, done: Done, error: StatementError | EventConflictError
) -> Done:
    """Decide what to record when a handler's own SQL, or an id it chose, spoiled the commit.

    Nothing of the event has been committed. The failure is that handler's; the event stays
    pending, so that its other handlers are called again.
    """
    if isinstance(error, EventConflictError):
        attempt = done.choosers[error.event_id or ""]
    else:
        attempt = done.executors[error.ordinal]
    attempt.is_blameless = True
    failed = Done()
    _fail(around, attempt, stored, error, failed)
    if failed.ready_at is None:
        failed.ready_at = around.clock.now()
    return failed


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - it calls the user's __str__ too
        return "".join(traceback.format_tb(error.__traceback__)) + told(error)


def _error_event(
    around: Around, attempt: Attempt, stored: StoredEvent, error: BaseException, text: str
) -> NewEvent:
    event = attempt.event
    data: dict[str, Any] = {
        "event": event.name,
        "event_id": event.id,
        "position": event.position,
        "handler": attempt.handler_name,
        "exception": type(error).__name__,
    }
    encoded = around.codec.encode_own(ERROR, data, text)
    encoded = encoded._replace(metadata=stored.metadata)
    event_id = f"{stored.position}/{attempt.recorded_as}/{ERROR}"
    return NewEvent(event_id, *encoded, stored.id, around.clock.now(), None)


def _envelope(stored: StoredEvent, run: ActiveRun) -> WorkflowEvent:
    return WorkflowEvent(
        stored.name,
        id=stored.id,
        correlation_id=run.correlation_id,
        position=stored.position,
    )


def _data(around: Around, stored: StoredEvent) -> Any:
    return around.codec.decode(stored.name, stored.version, stored.data)


# --- events that come to nothing -----------------------------------------------------------


def _expire(around: Around, run: ActiveRun, stored: StoredEvent, done: Done) -> None:
    now = around.clock.now()
    done.drops = (
        DropRow(
            run.id,
            stored.id,
            stored.name,
            stored.position,
            None,
            EXPIRED,
            "the event had expired when its turn came",
            now,
        ),
    )


def _drop_the_rest(around: Around, run: ActiveRun, done: Done) -> None:
    """Record that the closing handler emitted events which no handler will get."""
    detail = "the handler that emitted it completed the run"
    if done.overdue is not None:
        detail = f"the run was closed with the event that it came from: {done.overdue}"
    lost = [
        DropRow(run.id, each.id, each.name, None, None, STALE, detail, each.created_at)
        for each in done.events
        if each.name not in {PROGRESS, ERROR} and around.routes.handlers(each.name)
    ]
    done.drops = [*done.drops, *lost]
