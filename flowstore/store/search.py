"""Searching all runs for a text, a stretch of the log at a time, so that no read is long."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, exists, or_, select

from flowstore.store import schema
from flowstore.store.records import WORKING, StoredEvent
from flowstore.store.selecting import key_of, same_place, select_any

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

STRETCH: Final = 10_000
"""How many events are looked at in one read."""

MOST: Final = 200
"""How many of them are returned: each can have a megabyte of data."""

_CELLS = tuple(schema.event.c[name] for name in StoredEvent._fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched for.

    Args:
        text: only events and failures that have this text, whatever the case of its letters from
            A to Z; None for all.
        run: only in this run.
        name: only events of this name.
        statuses: only in runs with one of these; empty for all.
        handler: only events that this handler got.
        since: only events made at this moment or later, in microseconds since 1970.
        before: only events made before this moment.
        errors: only in errors.
    """

    text: str | None = None
    run: str | None = None
    name: str | None = None
    statuses: tuple[str, ...] = ()
    handler: str | None = None
    since: int | None = None
    before: int | None = None
    errors: bool = False


class Failure(NamedTuple):
    """An attempt that failed."""

    handler: str
    attempt: int
    error: str
    traceback: str | None


@dataclass(slots=True)
class Candidate:
    """An event that may be what is searched for, and attempts at it that failed."""

    correlation_id: str
    event: StoredEvent
    failures: list[Failure] = field(default_factory=list["Failure"])


class Stretch(NamedTuple):
    """What one stretch of the log has, the youngest first.

    Attributes:
        candidates: to be looked at more closely.
        end: where to go on; None at the end.
    """

    candidates: list[Candidate]
    end: int | None


async def search_stretch(search: Search, end: int | None, connection: AsyncConnection) -> Stretch:
    """Search the next stretch, going back.

    Args:
        search: what for.
        end: where the stretch before this one has ended; None to begin at the end of the log.
        connection: where to read.
    """
    event = schema.event.c
    # Without a run in the order of arrival; a run's own events are found by their positions.
    place: ColumnElement[int] = event.seq if search.run is None else event.position
    where = [] if search.run is None else [event.run_id == key_of(search.run)]
    older = where if end is None else [*where, place < end]
    begin = await connection.scalar(
        select(place).where(*older).order_by(place.desc()).limit(1).offset(STRETCH - 1)
    )
    within = older if begin is None else [*older, place >= begin]
    found: dict[int, Candidate] = {}
    wanted = [*within, *_filters(search)]
    statement = _events(search, place, wanted).order_by(place.desc()).limit(MOST)
    for row in await connection.execute(statement):
        found[row[0]] = Candidate(row[1], StoredEvent(*row[2:]))
    if len(found) == MOST:
        begin = min(found)
        wanted.append(place >= begin)
    for row in await connection.execute(_failures(search, place, wanted)):
        cells, failure = row[2 : -len(Failure._fields)], row[-len(Failure._fields) :]
        candidate = found.setdefault(row[0], Candidate(row[1], StoredEvent(*cells)))
        candidate.failures.append(Failure(*failure))
    return Stretch([found[key] for key in sorted(found, reverse=True)], begin)


def variants(text: str) -> list[str]:
    """Return how a text can look in a column: as it is, and as a part of a JSON text."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return [text] if escaped == text else [text, escaped]


def _events(
    search: Search, place: ColumnElement[int], wanted: list[ColumnElement[bool]]
) -> Select[*tuple[Any, ...]]:
    event, run = schema.event, schema.run
    columns: list[ColumnElement[str]] = [event.c.error]
    if not search.errors:
        columns += [event.c.name, event.c.id, event.c.data, event.c.metadata]
    return (
        select_any(place, run.c.correlation_id, *_CELLS)
        .join_from(event, run, event.c.run_id == run.c.id)
        .where(*wanted, _has(search.text, columns))
    )


def _failures(
    search: Search, place: ColumnElement[int], wanted: list[ColumnElement[bool]]
) -> Select[*tuple[Any, ...]]:
    event, run, transition = schema.event, schema.run, schema.transition
    statement = (
        select_any(
            place,
            run.c.correlation_id,
            *_CELLS,
            *(transition.c[name] for name in Failure._fields),
        )
        .join_from(event, run, event.c.run_id == run.c.id)
        .join(transition, same_place(transition.c, event.c))
        .where(
            *wanted,
            transition.c.error.is_not(None),
            _has(search.text, [transition.c.error, transition.c.traceback]),
        )
        .order_by(transition.c.number)
    )
    if search.handler is None:
        return statement
    return statement.where(_is_by(search.handler, transition.c.handler))


def _has(text: str | None, columns: list[ColumnElement[str]]) -> ColumnElement[bool]:
    if text is None:
        return or_(*(column.is_not(None) for column in columns))
    return or_(
        *(column.contains(each, autoescape=True) for column in columns for each in variants(text))
    )


def _is_by(handler: str, name: ColumnElement[str]) -> ColumnElement[bool]:
    """Return what holds for attempts of a handler, also where it went on at a later event."""
    return or_(name == handler, name.startswith(f"{handler}@", autoescape=True))


def _filters(search: Search) -> list[ColumnElement[bool]]:
    event, run = schema.event.c, schema.run.c
    filters: list[ColumnElement[bool]] = []
    if search.name is not None:
        filters.append(event.name == search.name)
    if search.since is not None:
        filters.append(event.created_at >= search.since)
    if search.before is not None:
        filters.append(event.created_at < search.before)
    if search.statuses:
        shown = (*search.statuses, WORKING) if "running" in search.statuses else search.statuses
        filters.append(run.status.in_(shown))
    if search.handler is not None:
        got = schema.transition.alias().c
        filters.append(
            exists().where(and_(same_place(got, event), _is_by(search.handler, got.handler)))
        )
    return filters
