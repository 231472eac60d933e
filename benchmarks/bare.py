"""The least that a durable event engine does, in bare `sqlite3`.

For each event: an INSERT with a random UUID under a unique index, an UPDATE of the run's
JSON state, an UPDATE of the status of the event that it came from. WAL, ``synchronous=FULL``,
SQLite's own autocheckpoint. JSON is written by the library that flowstore uses.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SCHEMA = """
CREATE TABLE run (id TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, run TEXT NOT NULL, name TEXT NOT NULL,
    data TEXT, status TEXT NOT NULL, created_at INTEGER NOT NULL
);
"""
_INSERT = (
    "INSERT INTO event (id, run, name, data, status, created_at) "
    "VALUES (?, ?, 'step', ?, 'pending', ?)"
)
_STATE = "UPDATE run SET state = ? WHERE id = ?"
_DONE = "UPDATE event SET status = 'done' WHERE id = ?"


def connect(path: Path, runs: Sequence[str]) -> sqlite3.Connection:
    """Make a database with these runs in it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO run VALUES (?, '{}')", [(name,) for name in runs])
    connection.execute("COMMIT")
    return connection


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def chain(path: Path, events: int) -> float:
    """Handle events of one run, one transaction each; return events a second."""
    connection = connect(path, ["run"])
    parent = None
    started = time.perf_counter()
    for number in range(1, events + 1):
        identity = str(uuid.uuid4())
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            _INSERT, (identity, "run", _json({"number": number}), time.time_ns() // 1000)
        )
        connection.execute(_STATE, (_json({"count": number}), "run"))
        connection.execute(_DONE, (parent,))
        connection.execute("COMMIT")
        parent = identity
    elapsed = time.perf_counter() - started
    connection.close()
    return events / elapsed


def fan_out(path: Path, runs: int, events: int, *, batch: int, together: bool) -> float:
    """Handle events of many runs in turn, ``batch`` a transaction; return events a second.

    With ``together`` each of the three statements goes to the driver once a transaction, with
    all its rows; without, once for each event.
    """
    names = [f"run-{number}" for number in range(runs)]
    connection = connect(path, names)
    parents: dict[str, str | None] = dict.fromkeys(names)
    started = time.perf_counter()
    for number in range(1, events + 1):
        for first in range(0, runs, batch):
            _transaction(
                connection, names[first : first + batch], parents, number, together=together
            )
    elapsed = time.perf_counter() - started
    connection.close()
    return runs * events / elapsed


def _transaction(
    connection: sqlite3.Connection,
    names: Sequence[str],
    parents: dict[str, str | None],
    number: int,
    *,
    together: bool,
) -> None:
    inserts: list[tuple[str, str, str, int]] = []
    states: list[tuple[str, str]] = []
    done: list[tuple[str | None]] = []
    for name in names:
        identity = str(uuid.uuid4())
        inserts.append((identity, name, _json({"number": number}), time.time_ns() // 1000))
        states.append((_json({"count": number}), name))
        done.append((parents[name],))
        parents[name] = identity
    connection.execute("BEGIN IMMEDIATE")
    if together:
        connection.executemany(_INSERT, inserts)
        connection.executemany(_STATE, states)
        connection.executemany(_DONE, done)
    else:
        for insert, state, parent in zip(inserts, states, done, strict=True):
            connection.execute(_INSERT, insert)
            connection.execute(_STATE, state)
            connection.execute(_DONE, parent)
    connection.execute("COMMIT")
