"""Reading what a run waits for: one statement for each kind, all of one moment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, case, literal, or_, select

from flowstore.store import schema
from flowstore.store.base import (
    DEADLINE_KEY,
    EXTERNAL,
    OURS,
    PENDING,
    timeout_key,
    wait_key,
)
from flowstore.store.outstanding import OutstandingRecord

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, RowMapping, Select
    from sqlalchemy.ext.asyncio import AsyncConnection


async def list_outstanding(
    correlation_id: str, limit: int | None, connection: AsyncConnection
) -> list[OutstandingRecord]:
    """Return what a run waits for, what began first coming first.

    Args:
        correlation_id: the run.
        limit: how many at most.
        connection: where to read.
    """
    run, timer = schema.run.c, schema.timer.c
    key = await connection.scalar(select(run.id).where(run.correlation_id == correlation_id))
    ours = select(timer.key, timer.due_at).where(timer.run_id == key, _is_ours())
    ends: dict[str | None, int] = {}
    for row in await connection.execute(ours):
        ends[row.key] = row.due_at
    found: list[OutstandingRecord] = []
    for statement in (_timers(key), _tasks(key), _parked(key), _collected(key)):
        rows = await connection.execute(statement.order_by("since").limit(limit))
        found += [_ending(_record(row), ends) for row in rows.mappings()]
    found.sort(key=lambda each: each.since)  # stable: the rest as it was
    return found[:limit]


def _record(row: RowMapping) -> OutstandingRecord:
    text: str | None = row.get("where")
    said: dict[str, Any] = orjson.loads(text) if text else {}
    cells: dict[str, Any] = {**row, "where": said.get("where") or None}
    return OutstandingRecord(**cells)


def _ending(record: OutstandingRecord, ends: dict[str | None, int]) -> OutstandingRecord:
    """Add when a wait, or an external task, is over."""
    its_timer = None
    if record.kind == "external task":
        its_timer = timeout_key(record.key or "")
    elif record.kind in {"wait", "postponed"}:
        its_timer = wait_key(record.position or 0, record.handler or "")
    return replace(record, due_at=ends[its_timer]) if its_timer in ends else record


def _is_ours() -> ColumnElement[bool]:
    return schema.timer.c.key.startswith(OURS, autoescape=True)


def _timers(key: int | None) -> Select[*tuple[Any, ...]]:
    timer = schema.timer.c
    is_deadline = timer.key == DEADLINE_KEY
    return select(
        case((is_deadline, "deadline"), else_="timer").label("kind"),
        timer.name,
        case((is_deadline, None), else_=timer.key).label("key"),
        timer.created_at.label("since"),
        timer.due_at,
    ).where(timer.run_id == key, or_(is_deadline, ~_is_ours()))


def _tasks(key: int | None) -> Select[*tuple[Any, ...]]:
    task = schema.task.c
    return select(
        case((task.kind == EXTERNAL, "external task"), else_="task").label("kind"),
        task.name,
        task.id.label("key"),
        task.attempt.label("attempts"),
        task.error,
        task.submitted_at.label("since"),
        task.ready_at.label("due_at"),
    ).where(task.run_id == key, task.status == PENDING)


def _parked(key: int | None) -> Select[*tuple[Any, ...]]:
    parked = schema.parked.c
    return select(
        case((parked.kind == "wait", "wait"), else_="postponed").label("kind"),
        parked.name,
        parked.position,
        parked.handler,
        parked.condition.label("where"),
        parked.started_at.label("since"),
    ).where(parked.run_id == key)


def _collected(key: int | None) -> Select[*tuple[Any, ...]]:
    collected, event = schema.collected.c, schema.event.c
    is_it = and_(event.run_id == collected.run_id, event.position == collected.position)
    return (
        select(
            literal("collected").label("kind"),
            event.name,
            collected.key,
            event.position,
            event.created_at.label("since"),
        )
        .join_from(schema.collected, schema.event, is_it)
        .where(collected.run_id == key)
    )
