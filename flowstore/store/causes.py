"""Reading what came of what in a run, without its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import case, select

from flowstore.store import schema
from flowstore.store.selecting import key_of, select_any, unhandled

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class CausedEvent(NamedTuple):
    """An event, and the id of the one that it came of; ``data`` only of those with an error."""

    position: int
    id: str
    name: str
    data: str | None
    error: str | None
    causation_id: str | None
    created_at: int


class AttemptMade(NamedTuple):
    """How an attempt of a handler at an event ended; ``duration`` is in microseconds."""

    position: int
    handler: str
    attempt: int
    outcome: str
    duration: int


class Causes(NamedTuple):
    """What came of what in a run, from one moment.

    Attributes:
        cursor: the last position that has been handled.
        events: in order.
        attempts: in order.
        unhandled: positions of events for which nothing was registered.
    """

    cursor: int
    events: list[CausedEvent]
    attempts: list[AttemptMade]
    unhandled: set[int]


async def read_causes(correlation_id: str, connection: AsyncConnection) -> Causes:
    """Return what came of what in a run."""
    run, event, transition = schema.run.c, schema.event.c, schema.transition.c
    key = await connection.scalar(select(key_of(correlation_id)))
    cursor = await connection.scalar(select(run.cursor).where(run.id == key))
    cells: dict[str, Any] = {name: event[name] for name in CausedEvent._fields}
    cells["data"] = case((event.error.is_not(None), event.data))
    events = await connection.execute(
        select_any(*cells.values()).where(event.run_id == key).order_by(event.position)
    )
    found = [CausedEvent(*row) for row in events]
    attempts = await connection.execute(
        select(*(transition[name] for name in AttemptMade._fields))
        .where(transition.run_id == key)
        .order_by(transition.position, transition.number)
    )
    made = [AttemptMade(*row) for row in attempts]
    passed = await connection.scalars(unhandled(correlation_id, event.position))
    return Causes(cursor or 0, found, made, set(passed))
