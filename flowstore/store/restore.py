"""Putting whole runs into an SQLite store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.errors import RunExistsError
from flowstore.store import schema
from flowstore.store.archive_queries import PARTS
from flowstore.store.records import StoredEvent
from flowstore.store.statements import RUN_COLUMNS, insert_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import Restore
    from flowstore.store.rows import Rows


def restore(connection: sqlite3.Connection, rows: Rows, operation: Restore) -> list[int]:
    """Write runs as they are, under new ids; return these.

    Raises:
        RunExistsError: one of them is there; nothing has been written.
    """
    names: set[str] = set()
    for archive in operation.archives:
        name = archive.run.correlation_id
        if name in names or rows.run(name) is not None:
            raise RunExistsError(
                f"run {name!r} is in the store already; remove it there, or leave it out"
            )
        names.add(name)
    rows.flush()
    insert_run = insert_text(schema.run, RUN_COLUMNS)
    ids = [_place(connection, rows, archive, insert_run) for archive in operation.archives]
    _write_events(connection, operation.archives, ids)
    for part, (table, kind, _) in PARTS.items():
        values = [
            (run_id, *row[1:])
            for run_id, archive in zip(ids, operation.archives, strict=True)
            for row in getattr(archive, part)
        ]
        if values:
            connection.executemany(insert_text(table, kind._fields), values)
    rows.forget()
    return ids


def _place(connection: sqlite3.Connection, rows: Rows, archive: Archive, insert_run: str) -> int:
    """Write the row of a run, which no worker has."""
    run = archive.run.copy()
    run.id = rows.add_run(run.correlation_id, run.workflow, run.created_at).id
    run.owner = None
    connection.execute(insert_run, run.values())
    return run.id


def _write_events(
    connection: sqlite3.Connection, archives: Sequence[Archive], ids: Sequence[int]
) -> None:
    text = insert_text(schema.event, (*StoredEvent._fields, "hash"))
    for run_id, archive in zip(ids, archives, strict=True):
        pairs = zip(archive.events, archive.hashes, strict=True)
        connection.executemany(text, [(run_id, *event[1:], digest) for event, digest in pairs])
