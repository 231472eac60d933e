"""Counting who got which events and what came of them; one pass over a workflow's runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from flowstore.store import schema
from flowstore.store.base import DEAD, DROPPED, HANDLED
from flowstore.store.flow import WOKEN, Flow
from flowstore.store.selecting import same_place

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

_DIGITS: Final = "0123456789"
_OURS: Final = re.compile(r"/(?P<handler>.+)/(?:[a-z]?|error)", re.DOTALL)
_GONE_ON: Final = re.compile(r"(?P<handler>.+)@\d+", re.DOTALL)
"""A handler that has gone on at a later event than the one that it was called for."""

_ENDS: Final = (HANDLED, DROPPED, DEAD)


async def count_flow(workflow: str, connection: AsyncConnection) -> Flow:
    """Return how often the handlers of a workflow did what.

    The ids of what a handler emits begin with a position, end with a number and have the
    handler's name between: without the numbers they are few, and the database counts them.
    """
    flow = Flow()
    event, task = schema.event.c, schema.task.c
    for handler, name, count in await connection.execute(_handled(workflow)):
        gone_on = _GONE_ON.fullmatch(handler)
        key = (handler, name) if gone_on is None else (gone_on["handler"], WOKEN)
        flow.handled[key] = flow.handled.get(key, 0) + count
    for made, table, name in (
        (flow.emitted, schema.event, event.name),
        (flow.submitted, schema.task, task.name),
    ):
        statement = _caused(workflow, table, name)
        for of_whom, what, count in await connection.execute(statement):
            found = _OURS.fullmatch(of_whom)
            if found is not None:
                key = (found["handler"], what)
                made[key] = made.get(key, 0) + count
    for name, count in await connection.execute(_sent(workflow)):
        flow.sent[name] = count
    return flow


def _select(*columns: Any) -> Select[*tuple[Any, ...]]:
    return select(*columns)


def _handled(workflow: str) -> Select[*tuple[Any, ...]]:
    run, event, transition = schema.run, schema.event, schema.transition
    return (
        _select(transition.c.handler, event.c.name, func.count())
        .select_from(transition)
        .join(run, transition.c.run_id == run.c.id)
        .join(event, same_place(event.c, transition.c))
        .where(run.c.workflow == workflow, transition.c.outcome.in_(_ENDS))
        .group_by(transition.c.handler, event.c.name)
    )


def _caused(workflow: str, table: Any, name: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
    of_whom = func.ltrim(func.rtrim(table.c.id, _DIGITS), _DIGITS).label("of_whom")
    return (
        _select(of_whom, name, func.count())
        .join_from(table, schema.run, table.c.run_id == schema.run.c.id)
        .where(schema.run.c.workflow == workflow, table.c.causation_id.is_not(None))
        .group_by("of_whom", name)
    )


def _sent(workflow: str) -> Select[*tuple[Any, ...]]:
    event = schema.event
    return (
        _select(event.c.name, func.count())
        .join_from(event, schema.run, event.c.run_id == schema.run.c.id)
        .where(schema.run.c.workflow == workflow, event.c.causation_id.is_(None))
        .group_by(event.c.name)
    )
