"""Putting whole runs into an SQLite store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.errors import RunExistsError
from flowstore.store import schema
from flowstore.store.archive_queries import PARTS
from flowstore.store.records import RUN_COLUMNS, StoredEvent
from flowstore.store.statements import insert_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import Restore
    from flowstore.store.rows import Rows


def restore(connection: sqlite3.Connection, rows: Rows, operation: Restore) -> list[int | None]:
    """Write runs as they are, under new ids; return these, None for one that was left out.

    Raises:
        RunExistsError: one of them is there; nothing has been written.
    """
    names: set[str] = set()
    wanted: list[Archive | None] = []
    for archive in operation.archives:
        name = archive.run.correlation_id
        is_there = name in names or not _is_free(rows, name)
        if is_there and not operation.skips_existing:
            raise RunExistsError(
                f"run {name!r} is in the store already; leave it out, as "
                "`flowstore import --skip-existing` does"
            )
        wanted.append(None if is_there else archive)
        names.add(name)
    rows.flush()
    ids = iter(_write(connection, rows, [archive for archive in wanted if archive is not None]))
    rows.forget()
    return [None if archive is None else next(ids) for archive in wanted]


def _is_free(rows: Rows, name: str) -> bool:
    """Tell whether a run can take this name: all that there may be is what pruning leaves."""
    run = rows.run(name)
    if run is None:
        return True
    return run.head == 0 and rows.has_pruned and rows.pruned(name, "") is not None


def _write(connection: sqlite3.Connection, rows: Rows, archives: Sequence[Archive]) -> list[int]:
    insert_run = insert_text(schema.run, RUN_COLUMNS)
    ids = [_place(connection, rows, archive, insert_run) for archive in archives]
    _write_events(connection, archives, ids)
    for part, (table, kind, _) in PARTS.items():
        values = [
            (run_id, *row[1:])
            for run_id, archive in zip(ids, archives, strict=True)
            for row in getattr(archive, part)
        ]
        if values:
            connection.executemany(insert_text(table, kind._fields), values)
    return ids


def _place(connection: sqlite3.Connection, rows: Rows, archive: Archive, insert_run: str) -> int:
    """Write the row of a run, which no worker has."""
    run = archive.run.copy()
    left = rows.run(run.correlation_id)
    run.id = rows.add_run(run.correlation_id, run.workflow, run.created_at).id
    run.owner = None
    if left is not None:
        # What a pruned run has refused since goes on as what this one has.
        connection.execute("DELETE FROM run WHERE id = ?", (left.id,))
        connection.execute('UPDATE "drop" SET run_id = ? WHERE run_id = ?', (run.id, left.id))
    connection.execute(insert_run, run.values())
    return run.id


def _write_events(
    connection: sqlite3.Connection, archives: Sequence[Archive], ids: Sequence[int]
) -> None:
    text = insert_text(schema.event, (*StoredEvent._fields, "hash"))
    for run_id, archive in zip(ids, archives, strict=True):
        pairs = zip(archive.events, archive.hashes, strict=True)
        connection.executemany(text, [(run_id, *event[1:], digest) for event, digest in pairs])
