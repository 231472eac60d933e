"""How much a store has of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from flowstore.store import schema
from flowstore.store.selecting import key_of, unhandled

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """How much the store has of a run.

    Attributes:
        events: how many events by name.
        transitions: how many attempts of handlers by outcome.
        drops: how many drops by reason.
        steps: how many finished steps.
        streams: how many streams by where they stand: open, ended, failed.
        unhandled: how many events were passed over because nothing was registered for them.
    """

    events: dict[str, int]
    transitions: dict[str, int]
    drops: dict[str, int]
    steps: int
    streams: dict[str, int]
    unhandled: int


async def count_run(correlation_id: str, connection: AsyncConnection) -> RunCounts:
    """Return how much the store has of a run; zeros if there is no such run."""
    event, transition, drop = schema.event.c, schema.transition.c, schema.drop.c
    stream = schema.stream.c
    key = await connection.scalar(select(key_of(correlation_id)))
    step = schema.step.c
    steps = select(func.count()).where(step.run_id == key, step.error.is_(None))
    passed_over = unhandled(correlation_id, func.count())
    return RunCounts(
        events=await _tally(connection, event.name, event.run_id == key),
        transitions=await _tally(connection, transition.outcome, transition.run_id == key),
        drops=await _tally(connection, drop.reason, drop.run_id == key),
        steps=await connection.scalar(steps) or 0,
        streams=await _tally(connection, stream.status, stream.run_id == key),
        unhandled=await connection.scalar(passed_over) or 0,
    )


async def _tally(
    connection: AsyncConnection, column: ColumnElement[str], where: ColumnElement[bool]
) -> dict[str, int]:
    grouped = select(column, func.count()).where(where).group_by(column).order_by(column)
    return {name: number for name, number in await connection.execute(grouped)}  # noqa: C416 - rows, not pairs, to the type checkers
