"""Reading whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from flowstore.store import schema
from flowstore.store.archive import Archive
from flowstore.store.records import (
    RUN_COLUMNS,
    ChunkRow,
    CollectedRow,
    DropRow,
    ParkedRow,
    RunRow,
    SnapshotRow,
    StepRow,
    StoredEvent,
    StreamRow,
    TaskRow,
    TimerRow,
    TransitionRow,
)
from flowstore.store.selecting import select_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

RUNS_AT_ONCE: Final = 200
"""How many runs one statement asks for: SQLite allows 32,766 parameters, others fewer."""

PARTS: Final[dict[str, tuple[Table, Any, tuple[str, ...]]]] = {
    "transitions": (schema.transition, TransitionRow, ("position", "number")),
    "snapshots": (schema.snapshot, SnapshotRow, ("position",)),
    "steps": (schema.step, StepRow, ("position", "handler", "name", "number")),
    "drops": (schema.drop, DropRow, ("seq",)),
    "timers": (schema.timer, TimerRow, ("seq",)),
    "tasks": (schema.task, TaskRow, ("id",)),
    "parked": (schema.parked, ParkedRow, ("position", "handler")),
    "collected": (schema.collected, CollectedRow, ("key", "event_id")),
    "streams": (schema.stream, StreamRow, ("id",)),
    "chunks": (schema.chunk, ChunkRow, ("stream_id", "first")),
}
"""What an archive has beside run and events: table, rows, and the order within a run."""


async def read_archives(
    correlation_ids: Sequence[str], connection: AsyncConnection
) -> list[Archive]:
    """Return all there is of these runs, in this order; those that are not there are left out."""
    found: dict[str, Archive] = {}
    for start in range(0, len(correlation_ids), RUNS_AT_ONCE):
        for archive in await _read(correlation_ids[start : start + RUNS_AT_ONCE], connection):
            found[archive.run.correlation_id] = archive
    return [found[name] for name in dict.fromkeys(correlation_ids) if name in found]


async def _read(names: Sequence[str], connection: AsyncConnection) -> list[Archive]:
    run, event = schema.run, schema.event
    columns = [run.c[name] for name in RUN_COLUMNS]
    rows = await connection.execute(select(*columns).where(run.c.correlation_id.in_(names)))
    archives = {row[0]: Archive(run=RunRow(*row)) for row in rows}
    cells = [event.c[name] for name in StoredEvent._fields]
    statement = (
        select_any(*cells, event.c.hash)
        .where(event.c.run_id.in_(archives))
        .order_by(event.c.run_id, event.c.position)
    )
    for *cells_of_event, digest in await connection.execute(statement):
        stored = StoredEvent(*cells_of_event)
        archives[stored.run_id].events.append(stored)
        archives[stored.run_id].hashes.append(digest)
    for part, (table, kind, order) in PARTS.items():
        statement = (
            select_any(*(table.c[name] for name in kind._fields))
            .where(table.c.run_id.in_(archives))
            .order_by(table.c.run_id, *(table.c[name] for name in order))
        )
        for row in await connection.execute(statement):
            getattr(archives[row[0]], part).append(kind(*row))
    return list(archives.values())
