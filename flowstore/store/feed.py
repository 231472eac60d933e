"""What is new in a store since one last looked: events, attempts of handlers, drops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, func, or_, select

from flowstore.store import schema
from flowstore.store.records import SETTLED, DropRow, StoredEvent, TransitionRow
from flowstore.store.selecting import key_of, select_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, ScalarSelect, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

PAGE: Final = 500
"""How many events, attempts and drops are read at a time, of each."""

_RUNS_AT_ONCE: Final = 200
_CELLS = tuple(schema.event.c[name] for name in StoredEvent._fields)


class News(NamedTuple):
    """What is new, each in the order in which it was recorded.

    Attributes:
        names: correlation_ids by the ids of runs.
        has_more: there is more that is new.
    """

    names: dict[int, str]
    events: list[StoredEvent]
    transitions: list[TransitionRow]
    drops: list[DropRow]
    has_more: bool


@dataclass(slots=True)
class Feed:
    """How far one has looked.

    Attributes:
        run: look at this run alone; None for all.
        event_seq: the last event that was seen, in the order of the store.
        drop_seq: likewise, of drops.
        active: runs whose handlers may be at work: position and number of the last attempt that
            was seen.
    """

    run: str | None = None
    event_seq: int = 0
    drop_seq: int = 0
    active: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    async def begin(self, last: int, connection: AsyncConnection) -> News:
        """Begin at the end of the log; return the last few events with what became of them."""
        event, run = schema.event, schema.run
        self.event_seq = await connection.scalar(select(func.max(event.c.seq))) or 0
        self.drop_seq = await connection.scalar(select(func.max(schema.drop.c.seq))) or 0
        wanted = [] if self.run is None else [event.c.run_id == key_of(self.run)]
        statement = select_any(*_CELLS).where(*wanted).order_by(event.c.seq.desc()).limit(last)
        events = [StoredEvent(*row) for row in await connection.execute(statement)][::-1]
        if self.run is not None:
            at_work: Any = run.c.correlation_id == self.run
        else:
            at_work = run.c.status == "running"
        for row in await connection.execute(_last_attempts(at_work)):
            self.active[row[0]] = (row[1] or 0, row[2] or 0)
        places = [(each.run_id, each.position) for each in events]
        transitions = await _transitions_at(places, connection)
        names = await _names({each.run_id for each in events}, connection)
        return News(names, events, transitions, [], has_more=False)

    async def more(self, connection: AsyncConnection) -> News:
        """Return a page of what is new."""
        events = await self._new_events(connection)
        drops = await self._new_drops(connection)
        transitions = await self._new_transitions(connection)
        keys = {each.run_id for rows in (events, drops, transitions) for each in rows}
        has_more = PAGE in (len(events), len(drops), len(transitions))
        if not has_more:
            await self._forget_settled(connection)
        return News(await _names(keys, connection), events, transitions, drops, has_more)

    async def _new_events(self, connection: AsyncConnection) -> list[StoredEvent]:
        event = schema.event.c
        wanted = [event.seq > self.event_seq]
        if self.run is not None:
            wanted.append(event.run_id == key_of(self.run))
        statement = select_any(event.seq, *_CELLS).where(*wanted).order_by(event.seq).limit(PAGE)
        found: list[StoredEvent] = []
        for seq, *cells in await connection.execute(statement):
            self.event_seq = seq
            found.append(StoredEvent(*cells))
        for each in found:
            # What is handled from now on is no earlier event: the run was settled.
            self.active.setdefault(each.run_id, (each.position - 1, -1))
        return found

    async def _new_drops(self, connection: AsyncConnection) -> list[DropRow]:
        drop = schema.drop.c
        wanted = [drop.seq > self.drop_seq]
        if self.run is not None:
            wanted.append(drop.run_id == key_of(self.run))
        cells = (drop[name] for name in DropRow._fields)
        statement = select_any(drop.seq, *cells).where(*wanted).order_by(drop.seq).limit(PAGE)
        found: list[DropRow] = []
        for seq, *row in await connection.execute(statement):
            self.drop_seq = seq
            found.append(DropRow(*row))
        return found

    async def _new_transitions(self, connection: AsyncConnection) -> list[TransitionRow]:
        transition = schema.transition.c
        found: list[TransitionRow] = []
        keys = list(self.active)
        for start in range(0, len(keys), _RUNS_AT_ONCE):
            newer = [
                and_(
                    transition.run_id == key,
                    transition.position >= position,
                    transition.number > number,
                )
                if number >= 0
                else and_(transition.run_id == key, transition.position > position)
                for key in keys[start : start + _RUNS_AT_ONCE]
                for position, number in (self.active[key],)
            ]
            found += await _transitions(or_(*newer), PAGE - len(found), connection)
            if len(found) == PAGE:
                break
        for row in found:
            self.active[row.run_id] = (row.position, row.number)
        return found

    async def _forget_settled(self, connection: AsyncConnection) -> None:
        if self.run is not None:
            return
        run = schema.run.c
        keys = list(self.active)
        for start in range(0, len(keys), _RUNS_AT_ONCE):
            part = run.id.in_(keys[start : start + _RUNS_AT_ONCE])
            settled = select(run.id).where(part, run.status.in_(SETTLED))
            for key in await connection.scalars(settled):
                del self.active[key]


def _last_attempts(which: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Return what finds position and number of the last attempt in each of these runs."""
    run, transition = schema.run.c, schema.transition.c

    def last(cell: ColumnElement[int]) -> ScalarSelect[int]:
        return (
            select(cell)
            .where(transition.run_id == run.id)
            .order_by(transition.position.desc(), transition.number.desc())
            .limit(1)
            .correlate(schema.run)
            .scalar_subquery()
        )

    return select_any(run.id, last(transition.position), last(transition.number)).where(which)


async def _transitions_at(
    places: Sequence[tuple[int, int]], connection: AsyncConnection
) -> list[TransitionRow]:
    transition = schema.transition.c
    found: list[TransitionRow] = []
    for start in range(0, len(places), _RUNS_AT_ONCE):
        there = [
            and_(transition.run_id == key, transition.position == position)
            for key, position in places[start : start + _RUNS_AT_ONCE]
        ]
        found += await _transitions(or_(*there), None, connection)
    return found


async def _transitions(
    where: ColumnElement[bool], limit: int | None, connection: AsyncConnection
) -> list[TransitionRow]:
    transition = schema.transition.c
    statement = (
        select_any(*(transition[name] for name in TransitionRow._fields))
        .where(where)
        .order_by(transition.run_id, transition.position, transition.number)
        .limit(limit)
    )
    return [TransitionRow(*row) for row in await connection.execute(statement)]


async def _names(keys: set[int], connection: AsyncConnection) -> dict[int, str]:
    run = schema.run.c
    wanted = sorted(keys)
    found: dict[int, str] = {}
    for start in range(0, len(wanted), _RUNS_AT_ONCE):
        part = wanted[start : start + _RUNS_AT_ONCE]
        rows = await connection.execute(select(run.id, run.correlation_id).where(run.id.in_(part)))
        found |= {row.id: row.correlation_id for row in rows}
    return found
