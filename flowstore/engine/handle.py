"""One event through its handlers: attempts, failures, retries, dead letters."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

from flowstore.engine.attempt import Attempt, printable
from flowstore.engine.decide import Done
from flowstore.errors import EventConflictError, FlowstoreError
from flowstore.events import ERROR, PROGRESS, WorkflowEvent
from flowstore.store.base import (
    DEAD,
    DROPPED,
    EXPIRED,
    HANDLED,
    RETRIED,
    STALE,
    DropRow,
    NewEvent,
    TransitionRow,
)

if TYPE_CHECKING:
    from typing import Protocol

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.errors import StatementError
    from flowstore.routing import Handler, Routes
    from flowstore.store.base import StoredEvent

    class Around(Surroundings, Protocol):
        """What handling an event needs of the engine."""

        routes: Routes


logger = logging.getLogger("flowstore")


async def handle_event(around: Around, run: ActiveRun, stored: StoredEvent) -> Done:
    """Give an event to every handler that has not finished with it yet."""
    done = Done()
    if stored.expires_at is not None and stored.expires_at <= around.clock.now():
        _expire(around, run, stored, done)
        return done
    for handler in around.routes.handlers(stored.name):
        if run.finished and (stored.position, handler.name) in run.finished:
            continue
        attempt, error = await _try(around, run, stored, handler)
        if error is None:
            error = _finish(around, run, attempt, done) if attempt is not None else None
        if error is not None:
            run.state.restore()
            # An event that could not even be read had no attempt made at it.
            attempt = attempt or Attempt(around, run, stored, _envelope(stored, run), handler)
            _fail(around, attempt, stored, error, done)
        if done.ready_at is not None or done.completed:
            break
    if done.completed:
        _drop_the_rest(around, run, done)
    return done


async def _try(
    around: Around, run: ActiveRun, stored: StoredEvent, handler: Handler
) -> tuple[Attempt | None, BaseException | None]:
    attempt: Attempt | None = None
    run.error = None
    try:
        event = around.codec.event(stored, run.correlation_id)
        attempt = Attempt(around, run, stored, event, handler)
        if handler.timeout is None:
            await attempt.call()
        else:
            await attempt.perform()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return attempt, FlowstoreError("the handler was cancelled from within")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if run.error is not None:
            # The store failed under this very attempt, which then is not the handler's fault.
            raise run.error from error
        return attempt, error
    finally:
        if attempt is not None:
            attempt.has_ended = True
    return attempt, None


def _finish(around: Around, run: ActiveRun, attempt: Attempt, done: Done) -> Exception | None:
    """Take over what a handler did; its state must be one that can be stored."""
    try:
        change = run.state.change()
    except FlowstoreError as error:
        return error
    outcome = DROPPED if attempt.is_stale else HANDLED
    done.transitions = (
        *done.transitions,
        _transition(around, run, attempt, outcome, done, change, None, None),
    )
    if attempt.events:
        done.events = [*done.events, *attempt.events] if done.events else attempt.events
    if attempt.drops:
        done.drops = [*done.drops, *attempt.drops]
    if attempt.statements:
        done.statements = [*done.statements, *attempt.statements]
        done.executors = [*done.executors, *([attempt] * len(attempt.statements))]
    if attempt.cancelled or attempt.timers:
        _set_timers(attempt, done)
    if attempt.repeats:
        done.repeats = True
        done.choosers = {**done.choosers, **{event.id: attempt for event in attempt.events or ()}}
    if attempt.completed:
        done.completed = True
        done.result = attempt.result
    return None


def _set_timers(attempt: Attempt, done: Done) -> None:
    """Take over timers; what a later handler says of a key counts."""
    cancelled, timers = attempt.cancelled or [], attempt.timers or {}
    earlier = {timer.key: timer for timer in done.timers if timer.key not in cancelled}
    done.timers = [*(earlier | timers).values()]
    done.cancelled = [*done.cancelled, *cancelled]


def _transition(  # noqa: PLR0917 - a row of the hot path; names for its cells cost time
    around: Around,
    run: ActiveRun,
    attempt: Attempt,
    outcome: str,
    done: Done,
    change: str | None,
    error: str | None,
    trace: str | None,
) -> TransitionRow:
    started = attempt.started_at
    return TransitionRow(
        run.id,
        attempt.event.position or 0,
        run.number + len(done.transitions) + 1,
        attempt.handler_name,
        attempt.attempt,
        outcome,
        change,
        error,
        trace,
        started,
        max(0, around.clock.now() - started),
    )


# --- failures ----------------------------------------------------------------------------


def _fail(
    around: Around, attempt: Attempt, stored: StoredEvent, error: BaseException, done: Done
) -> None:
    run, handler = attempt.run, attempt.handler
    text = printable(_told(error))
    seconds = None
    if handler.retry is not None:
        chance = around.clock.random(f"{run.correlation_id}/{stored.position}/{attempt.attempt}")
        seconds = handler.retry.seconds_after(attempt.attempt, error, chance)
    outcome = DEAD if seconds is None else RETRIED
    trace = printable(_trace(error))
    row = _transition(around, run, attempt, outcome, done, None, text, trace)
    done.transitions = (*done.transitions, row)
    where = f"handler {handler.name!r} on {stored.name!r} at {stored.position}"
    if seconds is not None:
        logger.warning(
            "%s of run %r failed, next try in %.1f s: %s", where, run.correlation_id, seconds, text
        )
        done.ready_at = around.clock.now() + int(seconds * 1_000_000)
        return
    logger.error("%s of run %r failed: %s", where, run.correlation_id, text)
    logger.debug("%s", trace)
    if stored.name != ERROR:
        done.events = [*done.events, _error_event(around, stored, handler, error, text)]
    if stored.name == ERROR or not around.routes.handles_failures(ERROR):
        done.failure = done.failure or f"{where} failed: {text}"


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
    failed = Done()
    _fail(around, attempt, stored, error, failed)
    if failed.ready_at is None:
        failed.ready_at = around.clock.now()
    return failed


def _told(error: BaseException) -> str:
    """Return what an exception says; some cannot even say that."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the user's __str__ is the user's code
        return f"{type(error).__name__} (its message cannot be shown)"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - it calls the user's __str__ too
        return "".join(traceback.format_tb(error.__traceback__)) + _told(error)


def _error_event(
    around: Around, stored: StoredEvent, handler: Handler, error: BaseException, text: str
) -> NewEvent:
    data: dict[str, Any] = {
        "event": stored.name,
        "event_id": stored.id,
        "position": stored.position,
        "handler": handler.name,
        "exception": type(error).__name__,
    }
    encoded = around.codec.encode(WorkflowEvent(ERROR, data, error=text))
    encoded = encoded._replace(metadata=stored.metadata)
    event_id = f"{stored.position}/{handler.name}/{ERROR}"
    return NewEvent(event_id, *encoded, stored.id, around.clock.now(), None)


def _envelope(stored: StoredEvent, run: ActiveRun) -> WorkflowEvent:
    return WorkflowEvent(
        stored.name,
        id=stored.id,
        correlation_id=run.correlation_id,
        position=stored.position,
    )


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
    lost = [
        DropRow(run.id, each.id, each.name, None, None, STALE, detail, each.created_at)
        for each in done.events
        if each.name not in {PROGRESS, ERROR} and around.routes.handlers(each.name)
    ]
    done.drops = [*done.drops, *lost]
