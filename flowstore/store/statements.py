"""The writer's SQL, compiled once from the tables, and run on the driver as it is.

An SQLAlchemy statement costs about 200 µs to execute and the driver's own 3; the hot path
takes the text from the one and the execution from the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, insert, null, select, update
from sqlalchemy.dialects import sqlite

from flowstore.store import schema
from flowstore.store.base import StoredEvent

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Table
    from sqlalchemy.sql import ClauseElement


def compile_text(statement: ClauseElement, parameters: tuple[str, ...]) -> str:
    """Return the statement's SQL; its placeholders must come in the order of ``parameters``."""
    compiled = statement.compile(dialect=sqlite.dialect())
    order = tuple(getattr(compiled, "positiontup", None) or ())
    if order != parameters:
        message = f"placeholders come as {order}, not as {parameters}"
        raise AssertionError(message)
    return str(compiled)


def insert_text(table: Table, columns: tuple[str, ...], prefix: str | None = None) -> str:
    """Return the SQL that inserts a record whose fields are these columns."""
    statement = insert(table).values({name: bindparam(name) for name in columns})
    if prefix is not None:
        statement = statement.prefix_with(prefix)
    order = tuple(column.name for column in table.columns if column.name in columns)
    if order != columns:
        message = f"the record of {table.name} has its columns in another order"
        raise AssertionError(message)
    return compile_text(statement, columns)


def update_run(*columns: str, empty: Collection[str] = ()) -> str:
    """Return the SQL that sets columns of a run, whose id comes last, and empties others."""
    run = schema.run
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    values |= dict.fromkeys(empty, null())
    statement = update(run).where(run.c.id == bindparam("key")).values(values)
    return compile_text(statement, (*columns, "key"))


class Statements(NamedTuple):
    """SQL texts by what they do."""

    move_run: str
    run_by_name: str
    run_by_id: str
    event_by_id: str
    events_after: str
    names_between: str
    last_snapshot: str
    changes_after: str
    transitions_after: str
    steps_after: str
    event_at: str
    snapshot_before: str
    changes_between: str
    steps_of: str


def _selects() -> dict[str, Any]:
    return {**_selects_of_events(), **_selects_of_work(), **_selects_of_parked()}


def _selects_of_events() -> dict[str, Any]:
    run, event = schema.run, schema.event
    key: BindParameter[Any] = bindparam("key")
    after: BindParameter[Any] = bindparam("after")
    whole_event = [event.c[name] for name in StoredEvent._fields]
    of_run = event.c.run_id == key
    return {
        "run_by_name": (
            select(*run.columns).where(run.c.correlation_id == key),
            ("key",),
        ),
        "run_by_id": (select(*run.columns).where(run.c.id == key), ("key",)),
        "event_by_id": (
            select(*whole_event).where(of_run, event.c.id == bindparam("event")),
            ("key", "event"),
        ),
        "events_after": (
            select(*whole_event)
            .where(of_run, event.c.position > after)
            .order_by(event.c.position)
            .limit(bindparam("most")),
            ("key", "after", "most", "param_1"),
        ),
        "names_between": (
            select(event.c.position, event.c.id, event.c.name)
            .where(of_run, event.c.position > after, event.c.position <= bindparam("until"))
            .order_by(event.c.position),
            ("key", "after", "until"),
        ),
    }


def _selects_of_parked() -> dict[str, Any]:
    event, transition = schema.event, schema.transition
    snapshot, step = schema.snapshot, schema.step
    key: BindParameter[Any] = bindparam("key")
    place: BindParameter[Any] = bindparam("place")
    return {
        "event_at": (
            select(*(event.c[name] for name in StoredEvent._fields)).where(
                event.c.run_id == key, event.c.position == place
            ),
            ("key", "place"),
        ),
        "snapshot_before": (
            select(snapshot.c.position, snapshot.c.state)
            .where(snapshot.c.run_id == key, snapshot.c.position < place)
            .order_by(snapshot.c.position.desc())
            .limit(1),
            ("key", "place", "param_1", "param_2"),
        ),
        "changes_between": (
            select(transition.c.change)
            .where(
                transition.c.run_id == key,
                transition.c.position > place,
                transition.c.number > bindparam("first"),
                transition.c.number <= bindparam("last"),
                transition.c.change.is_not(None),
            )
            .order_by(transition.c.position, transition.c.number),
            ("key", "place", "first", "last"),
        ),
        "steps_of": (
            select(*step.columns)
            .where(
                step.c.run_id == key, step.c.position == place, step.c.handler == bindparam("by")
            )
            .order_by(step.c.name, step.c.number),
            ("key", "place", "by"),
        ),
    }


def _selects_of_work() -> dict[str, Any]:
    transition, snapshot, step = schema.transition, schema.snapshot, schema.step
    key: BindParameter[Any] = bindparam("key")
    after: BindParameter[Any] = bindparam("after")
    return {
        "last_snapshot": (
            select(snapshot.c.position, snapshot.c.state)
            .where(snapshot.c.run_id == key)
            .order_by(snapshot.c.position.desc())
            .limit(1),
            ("key", "param_1", "param_2"),
        ),
        "changes_after": (
            select(transition.c.change)
            .where(
                transition.c.run_id == key,
                transition.c.position > after,
                transition.c.change.is_not(None),
            )
            .order_by(transition.c.position, transition.c.number),
            ("key", "after"),
        ),
        "transitions_after": (
            select(*transition.columns)
            .where(transition.c.run_id == key, transition.c.position > after)
            .order_by(transition.c.position, transition.c.number),
            ("key", "after"),
        ),
        "steps_after": (
            select(*step.columns).where(step.c.run_id == key, step.c.position > after),
            ("key", "after"),
        ),
    }


def build() -> Statements:
    """Compile every statement; done once a store."""
    hot = ("head", "cursor", "state_version", "updated_at", "chain")
    texts = {name: compile_text(*pair) for name, pair in _selects().items()}
    return Statements(
        move_run=update_run(*hot),
        **texts,
    )
