"""Reading parts of runs, and what came of what."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from sqlalchemy import Text, and_, cast, func, select

from flowstore.store import schema
from flowstore.store.excerpt import Excerpt
from flowstore.store.records import StepRow, StoredEvent, TransitionRow
from flowstore.store.selecting import between, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    Place = tuple[int, int | None, int]

_BEHIND_THE_SLASH = "0"
"""The character behind ``/``: ids of what came of position 7 lie between ``7/`` and ``70``."""

_AT_ONCE = 500
_position = attrgetter("position")
_CELLS = tuple(schema.event.c[name] for name in StoredEvent._fields)


async def read_excerpt(
    correlation_id: str, place: Place, also: Sequence[int], connection: AsyncConnection
) -> Excerpt:
    """Return some events and what came of them.

    Args:
        correlation_id: the run.
        place: which events: those with ``after < position <= until``, ``limit`` at most.
        also: positions of further events that are known to have come of them.
        connection: where to read.
    """
    after, until, limit = place
    key = await connection.scalar(select(key_of(correlation_id)))
    event, transition, step = schema.event.c, schema.transition.c, schema.step.c
    events = await _read_events(key, between(event.position, after, until), limit, connection)
    if not events:
        return Excerpt(events=[], transitions=[], steps=[], caused=[])
    until = events[-1].position
    rows = await connection.execute(
        select(*(transition[name] for name in TransitionRow._fields))
        .where(transition.run_id == key, between(transition.position, after, until))
        .order_by(transition.position, transition.number)
    )
    steps = await connection.execute(
        select(*(step[name] for name in StepRow._fields))
        .where(step.run_id == key, between(step.position, after, until))
        .order_by(step.position, step.started_at, step.handler, step.number, step.name)
    )
    caused = await _read_caused(key, after, until, connection)
    for start in range(0, len(also), _AT_ONCE):
        part = event.position.in_(also[start : start + _AT_ONCE])
        caused += await _read_events(key, part, None, connection)
    return Excerpt(
        events=events,
        transitions=[TransitionRow(*row) for row in rows],
        steps=[StepRow(*row) for row in steps],
        caused=sorted(caused, key=_position),
    )


async def _read_events(
    key: int | None, where: ColumnElement[bool], limit: int | None, connection: AsyncConnection
) -> list[StoredEvent]:
    event = schema.event.c
    statement = (
        select(*_CELLS).where(event.run_id == key, where).order_by(event.position).limit(limit)
    )
    return [StoredEvent(*row) for row in await connection.execute(statement)]


async def _read_caused(
    key: int | None, after: int, until: int, connection: AsyncConnection
) -> list[StoredEvent]:
    cause, event = schema.event.alias().c, schema.event.c
    position = cast(cause.position, Text)
    rows = await connection.execute(
        select(*_CELLS)
        .where(
            cause.run_id == key,
            between(cause.position, after, until),
            event.run_id == key,
            event.id > position + "/",
            event.id < position + _BEHIND_THE_SLASH,
        )
        .order_by(event.position)
    )
    return [StoredEvent(*row) for row in rows]


async def read_chosen(
    correlation_id: str, after: int, until: int | None, connection: AsyncConnection
) -> list[tuple[int, int]]:
    """Return where emitted events are that have ids of their handlers' choice.

    Each comes as the position of the event that it came of, which is one of those with ``after <
    position <= until``, and its own. This looks at every event of the run that came of another:
    ids are indexed, what they came of is not.
    """
    key = await connection.scalar(select(key_of(correlation_id)))
    others = schema.event.alias()
    cause, event = others.c, schema.event.c
    start: ColumnElement[str] = cast(cause.position, Text) + "/"
    its_cause = and_(cause.run_id == event.run_id, cause.id == event.causation_id)
    rows = await connection.execute(
        select(cause.position, event.position)
        .join_from(schema.event, others, its_cause)
        .where(
            event.run_id == key,
            event.position > after,
            between(cause.position, after, until),
            func.substr(event.id, 1, func.length(start)) != start,
        )
        .order_by(event.position)
    )
    return [(origin, position) for origin, position in rows]
