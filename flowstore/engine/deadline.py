"""Deadlines of runs: the timer that sets one, and what becomes of a run whose deadline passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowstore.events import DEADLINE
from flowstore.routing import OVERDUE
from flowstore.store.base import (
    DEADLINE_KEY,
    HANDLED,
    TimerRow,
    TransitionRow,
    is_deadline,
)

if TYPE_CHECKING:
    from typing import Protocol

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.decide import Done
    from flowstore.engine.surroundings import Surroundings
    from flowstore.routing import Routes
    from flowstore.store.base import StoredEvent

    class Around(Surroundings, Protocol):
        """What a deadline needs of the engine."""

        routes: Routes


PASSED: Final = "its deadline passed"
"""Why such a run has failed."""


def deadline_timer(
    around: Surroundings,
    run: ActiveRun,
    stored: StoredEvent,
    handler: str,
    *,
    number: int,
    due: int,
) -> TimerRow:
    """Return the timer of the deadline that a handler sets for the ``number``-th time."""
    data = {"position": stored.position, "handler": handler}
    return TimerRow(
        run.id,
        DEADLINE_KEY,
        around.workflow,
        due,
        f"{stored.position}/{handler}/d{number}",
        *around.codec.encode_own(DEADLINE, data),
        stored.id,
        around.clock.now(),
    )


async def is_moved(around: Around, run: ActiveRun, stored: StoredEvent) -> bool:
    """Tell whether this deadline was set anew, or removed, before its event had its turn."""
    if not is_deadline(stored.name, stored.id):
        return False
    return await around.was_refused(run, stored.id)


def pass_deadline(around: Around, run: ActiveRun, stored: StoredEvent, done: Done) -> None:
    """Fail the run if its deadline has passed and no one has dealt with that."""
    handlers = around.routes.handlers(DEADLINE)
    if (
        done.completed
        or done.ready_at is not None
        or OVERDUE not in handlers
        or not is_deadline(stored.name, stored.id)
    ):
        return
    # Whoever else had to do with it, now or before a crash, went on because he waited for it.
    here = {name for position, name in run.finished if position == stored.position}
    here |= {row.handler for row in done.transitions}
    if here - {handler.name for handler in handlers}:
        return
    now = around.clock.now()
    number = run.number + len(done.transitions) + 1
    row = TransitionRow(
        run.id, stored.position, number, OVERDUE.name, 1, HANDLED, None, None, None, now, 0
    )
    done.transitions = (*done.transitions, row)
    done.overdue = PASSED
