"""Finding what became of an event: everything that the store has under an id, in any run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from flowstore.store import schema
from flowstore.store.base import DEAD, PARKED, POSTPONED
from flowstore.store.keys import retry_id
from flowstore.store.records import (
    RUN_COLUMNS,
    CollectedRow,
    DropRow,
    ParkedRow,
    RunRow,
    StoredEvent,
    TimerRow,
    TransitionRow,
)
from flowstore.store.selecting import select_any

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(slots=True, kw_only=True)
class Traces:
    """What one run has of an event.

    Attributes:
        run: the run.
        event: the event in its log; None if that does not have it.
        cause: the event that it came of; None if it came from outside.
        transitions: attempts at it, also where its handlers went on at later events.
        drops: what was refused under its id, or in handling it.
        timers: timers that will send it.
        collected: under which keys it is kept.
        parked: the handlers that have put it off, or wait in the middle of it.
        waits: attempts before it that ended in waiting.
        resumed: attempts up to it of handlers that had waited.
        retries: the events at which those are called again that failed for good, by their ids.
    """

    run: RunRow
    event: StoredEvent | None = None
    cause: StoredEvent | None = None
    transitions: list[TransitionRow] = field(default_factory=list["TransitionRow"])
    drops: list[DropRow] = field(default_factory=list["DropRow"])
    timers: list[TimerRow] = field(default_factory=list["TimerRow"])
    collected: list[CollectedRow] = field(default_factory=list["CollectedRow"])
    parked: list[ParkedRow] = field(default_factory=list["ParkedRow"])
    waits: list[TransitionRow] = field(default_factory=list["TransitionRow"])
    resumed: list[TransitionRow] = field(default_factory=list["TransitionRow"])
    retries: dict[str, StoredEvent] = field(default_factory=dict[str, "StoredEvent"])


@dataclass(frozen=True, slots=True)
class PrunedEvent:
    """An event of a run that has been removed."""

    correlation_id: str
    event_id: str
    position: int
    status: str
    pruned_at: int


async def find_event(
    event_id: str, correlation_id: str | None, position: int | None, connection: AsyncConnection
) -> list[Traces]:
    """Return what every run has of an event, the oldest run first.

    Args:
        event_id: its id.
        correlation_id: look in this run alone.
        position: the event can also be the one at this position.
        connection: where to read.
    """
    runs: dict[int, Traces] = {}
    for table, column in (
        (schema.event, schema.event.c.id),
        (schema.drop, schema.drop.c.event_id),
        (schema.timer, schema.timer.c.event_id),
        (schema.collected, schema.collected.c.event_id),
    ):
        for row in await _runs_with(table, column == event_id, correlation_id, connection):
            runs.setdefault(row.id, Traces(run=row))
    if not runs and position is not None:
        is_there = schema.event.c.position == position
        for row in await _runs_with(schema.event, is_there, correlation_id, connection):
            runs[row.id] = Traces(run=row)
    for found in runs.values():
        await _gather(found, event_id, position, connection)
    return [runs[key] for key in sorted(runs)]


async def find_pruned(
    event_id: str, correlation_id: str | None, connection: AsyncConnection
) -> list[PrunedEvent]:
    """Return what is still known of an event whose run has been removed."""
    pruned = schema.pruned.c
    statement = select(
        pruned.correlation_id, pruned.event_id, pruned.position, pruned.status, pruned.pruned_at
    ).where(pruned.event_id == event_id)
    if correlation_id is not None:
        statement = statement.where(pruned.correlation_id == correlation_id)
    return [PrunedEvent(*row) for row in await connection.execute(statement)]


async def _runs_with(
    table: Table,
    is_it: ColumnElement[bool],
    correlation_id: str | None,
    connection: AsyncConnection,
) -> list[RunRow]:
    run = schema.run
    columns = [run.c[name] for name in RUN_COLUMNS]
    # From the runs, each of which has an index on its events: there is none on ids alone.
    statement = select_any(*columns).join_from(run, table, and_(table.c.run_id == run.c.id, is_it))
    if correlation_id is not None:
        statement = statement.where(run.c.correlation_id == correlation_id)
    return [RunRow(*row) for row in await connection.execute(statement.distinct())]


async def _gather(
    found: Traces, event_id: str, position: int | None, connection: AsyncConnection
) -> None:
    key = found.run.id
    event, drop = schema.event.c, schema.drop.c

    async def rows(kind: Any, table: Table, *where: ColumnElement[bool], order: Any) -> list[Any]:
        statement = (
            select_any(*(table.c[name] for name in kind._fields))
            .where(table.c.run_id == key, *where)
            .order_by(order)
        )
        return [kind(*row) for row in await connection.execute(statement)]

    is_it = event.id == event_id
    events = await rows(StoredEvent, schema.event, is_it, order=event.position)
    if not events and position is not None:
        events = await rows(
            StoredEvent, schema.event, event.position == position, order=event.position
        )
    is_refused = drop.event_id == event_id
    if events:
        found.event = events[0]
        place = events[0].position
        is_refused = or_(drop.event_id == events[0].id, drop.position == place)
        await _gather_handling(found, place, rows)
        if events[0].causation_id is not None:
            causes = await rows(
                StoredEvent,
                schema.event,
                event.id == events[0].causation_id,
                order=event.position,
            )
            found.cause = causes[0] if causes else None
    found.drops = await rows(DropRow, schema.drop, is_refused, order=drop.seq)
    timer, collected = schema.timer, schema.collected
    found.timers = await rows(TimerRow, timer, timer.c.event_id == event_id, order=timer.c.due_at)
    found.collected = await rows(
        CollectedRow, collected, collected.c.event_id == event_id, order=collected.c.key
    )


async def _gather_handling(found: Traces, place: int, rows: Any) -> None:
    """Add the attempts at the event at a position, and who waited when it came."""
    table, parked = schema.transition, schema.parked
    transition = table.c
    went_on = and_(
        transition.position > place, transition.handler.endswith(f"@{place}", autoescape=True)
    )
    found.transitions = await rows(
        TransitionRow,
        table,
        or_(transition.position == place, went_on),
        order=transition.number,
    )
    ids = [
        retry_id(row.position, row.handler, row.number)
        for row in found.transitions
        if row.outcome == DEAD
    ]
    if ids:
        event = schema.event
        retries = await rows(StoredEvent, event, event.c.id.in_(ids), order=event.c.position)
        found.retries = {each.id: each for each in retries}
    found.parked = await rows(ParkedRow, parked, parked.c.position == place, order=parked.c.handler)
    found.waits = await rows(
        TransitionRow,
        table,
        transition.position < place,
        transition.outcome.in_((PARKED, POSTPONED)),
        order=transition.number,
    )
    if found.waits:
        found.resumed = await rows(
            TransitionRow,
            table,
            transition.position <= place,
            transition.handler.contains("@"),
            order=transition.number,
        )
