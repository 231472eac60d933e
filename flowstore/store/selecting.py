"""Parts of statements that several reads share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, cast, exists, select

from flowstore.events import QUIET
from flowstore.store import schema
from flowstore.store.base import CONFLICT, DISCARDED, DUPLICATE, LEASE_LOST

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, ScalarSelect, Select

# These refuse a second event with the id, or a commit: the event in the log stands.
_NOT_OF_THE_EVENT = (DUPLICATE, CONFLICT, LEASE_LOST, DISCARDED)


def key_of(correlation_id: str) -> ScalarSelect[int]:
    """Return what finds the id of a run."""
    run = schema.run.c
    return select(run.id).where(run.correlation_id == correlation_id).scalar_subquery()


def select_any(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Return a SELECT of columns whose types are not known to the type checkers."""
    return select(*columns)


def between(position: ColumnElement[int], after: int, until: int | None) -> ColumnElement[bool]:
    """Return ``after < position <= until``."""
    later = position > after
    return later if until is None else and_(later, position <= until)


def same_place(one: Any, other: Any) -> ColumnElement[bool]:
    """Return what holds for rows of the same position in the same run."""
    return and_(one.run_id == other.run_id, one.position == other.position)


def unhandled(correlation_id: str | None, *columns: Any) -> Select[*tuple[Any, ...]]:
    """Return what finds the events that were passed over as nothing was registered for them."""
    run, its_event = schema.run, schema.event
    transition, drop = schema.transition, schema.drop
    dropped = and_(
        drop.c.run_id == its_event.c.run_id,
        drop.c.event_id == its_event.c.id,
        drop.c.reason.not_in(_NOT_OF_THE_EVENT),
    )
    statement = (
        select(*columns)
        .select_from(its_event)
        .join(run, its_event.c.run_id == run.c.id)
        .where(
            its_event.c.position <= run.c.cursor,
            its_event.c.name.not_in(QUIET),
            ~exists().where(same_place(transition.c, its_event.c)),
            ~exists().where(dropped),
        )
    )
    if correlation_id is not None:
        statement = statement.where(its_event.c.run_id == key_of(correlation_id))
    return statement


def still_dead() -> ColumnElement[bool]:
    """Return what holds for a transition in which a handler failed for good if that is all.

    Its retry is an event with an id that says so, and that it was discarded is a drop.
    """
    event, transition, drop = schema.event.alias(), schema.transition.c, schema.drop.alias()
    place = cast(transition.position, Text) + "/" + transition.handler
    retried = and_(
        event.c.run_id == transition.run_id,
        event.c.id == place + "/r" + cast(transition.number, Text),
    )
    discarded = and_(
        drop.c.run_id == transition.run_id,
        drop.c.position == transition.position,
        drop.c.handler == transition.handler,
        drop.c.reason == DISCARDED,
    )
    return and_(
        ~exists(select(1).select_from(event).where(retried)),
        ~exists(select(1).select_from(drop).where(discarded)),
    )
