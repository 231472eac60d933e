"""A database with one of everything that a reader can meet, written without the engine."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, event, insert
from sqlalchemy.pool import NullPool

from flowstore.store import migrate, schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = 1_700_000_000_000_000
SECOND = 1_000_000


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Connection]:
    """One write transaction on the database, which is created if there is none."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        migrate.prepare(connection, path)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    event.listen(engine, "connect", _in_our_hands)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def _in_our_hands(connection: Any, _entry: Any) -> None:
    connection.isolation_level = None


def add_run(connection: Connection, number: int, name: str, **values: Any) -> None:
    row = {
        "id": number,
        "correlation_id": name,
        "workflow": "orders",
        "status": "idle",
        "head": 0,
        "cursor": 0,
        "state_version": 0,
        "epoch": 1,
        "created_at": START,
        "updated_at": START + SECOND,
    }
    connection.execute(insert(schema.run).values({**row, **values}))


def add_event(connection: Connection, run: int, position: int, name: str, **values: Any) -> None:
    row = {
        "run_id": run,
        "position": position,
        "id": f"event-{position}",
        "name": name,
        "version": 1,
        "created_at": START + position * SECOND,
    }
    connection.execute(insert(schema.event).values({**row, **values}))


def add_transition(
    connection: Connection, run: int, position: int, number: int, **values: Any
) -> None:
    row = {
        "run_id": run,
        "position": position,
        "number": number,
        "handler": "handle",
        "attempt": 1,
        "outcome": "handled",
        "started_at": START + number * SECOND,
        "duration": 250,
    }
    connection.execute(insert(schema.transition).values({**row, **values}))


def add_drop(connection: Connection, run: int, event_id: str, reason: str, **values: Any) -> None:
    row = {
        "run_id": run,
        "event_id": event_id,
        "name": "order",
        "reason": reason,
        "created_at": START,
    }
    connection.execute(insert(schema.drop).values({**row, **values}))


def add_snapshot(connection: Connection, run: int, position: int, state: str) -> None:
    row = {"run_id": run, "position": position, "state": state}
    connection.execute(insert(schema.snapshot).values(row))


def fill(path: Path) -> None:
    """Three runs: ``order-1`` with one of everything, ``order-2`` pending, ``mail`` closed.

    ``order-1``: 1 order, handled; 2 progress; 3 unknown, for which nothing was registered;
    4 pay, retried and then dead; 5 error; 6 late, which had expired; 7 odd, also unknown,
    and sent a second time.
    """
    with writing(path) as connection:
        add_run(connection, 1, "order-1", head=7, cursor=7, state_version=2)
        add_run(connection, 2, "order-2", head=2, cursor=1, status="running")
        add_run(
            connection, 3, "mail", workflow="mail", status="completed", head=1, cursor=1,
            result='{"sent":true}',
        )  # fmt: skip
        _fill_events(connection)
        _fill_transitions(connection)
        add_drop(connection, 1, "event-6", "expired", position=6, name="late")
        add_drop(connection, 1, "event-7", "duplicate", detail="position 7 has this id")
        add_drop(connection, 1, "event-1", "duplicate", detail="position 1 has this id")
        add_drop(connection, 3, "another", "stale", detail="the run is completed")


def _fill_events(connection: Connection) -> None:
    add_event(connection, 1, 1, "order", data='{"total":12.5,"note":"two\\nlines"}')
    add_event(connection, 1, 2, "progress", data='{"step":"check"}', causation_id="event-1")
    add_event(connection, 1, 3, "unknown")
    add_event(connection, 1, 4, "pay", metadata='{"user":"ada"}')
    add_event(connection, 1, 5, "error", error="no money", causation_id="event-4")
    add_event(connection, 1, 6, "late", expires_at=START + 5 * SECOND)
    add_event(connection, 1, 7, "odd", data='"[red]€\\u001b[31m"')
    add_event(connection, 2, 1, "order")
    add_event(connection, 2, 2, "order")
    add_event(connection, 3, 1, "letter")


def _fill_transitions(connection: Connection) -> None:
    add_transition(connection, 1, 1, 1, change='[["=",["total"],12.5]]')
    add_transition(connection, 1, 1, 2, handler="audit", change='[["=",["seen"],true]]')
    add_transition(connection, 1, 4, 3, outcome="retried", error="no money")
    add_transition(
        connection, 1, 4, 4, attempt=2, outcome="dead", error="no money", traceback="Traceback …"
    )
    add_transition(connection, 2, 1, 1)
    add_transition(connection, 3, 1, 1)
