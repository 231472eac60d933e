"""What a look into an SQLite database finds that someone should know, each with its remedy."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from flowstore.printable import counted
from flowstore.store import differences, migrate
from flowstore.store.doctor_files import Workers, lives, look_at_files, look_at_sqlite
from flowstore.store.doctor_findings import error, info, warning
from flowstore.store.doctor_runs import look_at_runs
from flowstore.store.readonly import read_only_uri
from flowstore.store.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flowstore.store.doctor_findings import Finding
    from flowstore.store.url import StoreUrl

SAMPLE: Final = 20
"""Runs whose hashes are computed again, those that were touched last, if not all are."""

MOST_NAMED: Final = 5


def examine(
    connection: sqlite3.Connection, url: StoreUrl, path: Path, *, full: bool
) -> Iterator[Finding]:
    """Yield what is found; nothing is changed.

    Args:
        connection: reads only.
        url: how the database was named.
        path: its file.
        full: check the whole file, and the hashes of all events.
    """
    yield from look_at_files(path)
    workers = Workers(set(), set())
    steps: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("integrity", lambda: _integrity(connection, full=full)),
        ("schema", lambda: _schema(connection)),
    ]
    for name, step in steps:
        yield from _guarded(name, step)
    if _is_current(connection):
        now = time.time_ns() // 1000
        later: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("workers", lambda: _workers(connection, path, workers, now)),
            ("runs", lambda: look_at_runs(connection, workers, now)),
            ("hashes", lambda: _hashes(connection, full=full)),
        ]
        for name, step in later:
            yield from _guarded(name, step)
    yield from _settings(connection, url)
    yield from look_at_sqlite(len(workers.live))


def _guarded(name: str, step: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Report that something cannot be read instead of failing."""
    try:
        yield from step()
    except (sqlite3.Error, ValueError) as problem:
        yield error(
            name,
            f"it cannot be read: {' '.join(str(problem).split())}",
            "put the file aside and restore a backup; `sqlite3 FILE .recover` saves what it can",
        )


def _is_current(connection: sqlite3.Connection) -> bool:
    try:
        return migrate.current(connection) == migrate.LATEST
    except Exception:  # noqa: BLE001 - it has been reported
        return False


def _integrity(connection: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    pragma = "integrity_check" if full else "quick_check"
    found = [text for (text,) in connection.execute(f"PRAGMA {pragma}(20)") if text != "ok"]
    if full:
        found += differences.broken_references(connection)
    remedy = "put the file aside and restore a backup; `sqlite3 FILE .recover` saves what it can"
    for text in found:
        yield error("integrity", " ".join(str(text).split()), remedy)


def _schema(connection: sqlite3.Connection) -> Iterator[Finding]:
    revision = migrate.current(connection)
    if revision is None:
        remedy = "name the right file; `flowstore db upgrade` makes a new database"
        yield error("schema", "this is not a flowstore database", remedy)
    elif revision != migrate.LATEST:
        message = f"the schema is at revision {revision}, not {migrate.LATEST}"
        if revision < migrate.LATEST:
            yield warning("schema", message, "`flowstore db upgrade`, which makes a backup first")
        else:
            yield error("schema", message, "install a newer flowstore-engine")
    else:
        for line in differences.from_schema(connection, migrate.version_table.name):
            remedy = "see who changed it; a backup has the tables as flowstore made them"
            yield error("schema", line, remedy)


def _settings(connection: sqlite3.Connection, url: StoreUrl) -> Iterator[Finding]:
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    except sqlite3.Error:
        return  # it has been reported
    # Where nobody can write, SQLite looks at the file alone, and knows of no WAL.
    if mode != "wal" and "immutable=1" not in read_only_uri(url):
        message = f"its journal mode is {mode}: readers and writers wait for each other"
        yield warning("journal", message, "open it once with a flowstore worker, which sets WAL")
    if url.synchronous == "OFF":
        message = "synchronous=OFF: a crash of the machine can damage it (G1 does not hold)"
        yield warning("journal", message, "leave the parameter out of the store's URL")
    elif url.synchronous == "NORMAL":
        message = "synchronous=NORMAL: a crash of the machine can lose the last commits"
        yield info("journal", message)


def _workers(
    connection: sqlite3.Connection, path: Path, workers: Workers, now: int
) -> Iterator[Finding]:
    rows: list[Any] = connection.execute(
        "SELECT id, host, pid, lease FROM worker ORDER BY started_at"
    ).fetchall()
    for worker_id, host, pid, lease in rows:
        where = f"worker {worker_id[:8]} (process {pid} on {host})"
        if lives(path, worker_id):
            workers.live.add(worker_id)
            if lease < now:
                seconds = (now - lease) // 1_000_000
                message = f"{where} lives, and has said nothing for {seconds} s beyond its lease"
                yield warning("workers", message, f"see whether process {pid} is stopped; end it")
            else:
                yield info("workers", f"{where} is at work")
            continue
        workers.dead.add(worker_id)
        if host != os.uname().nodename:
            message = f"{where} is another machine's: SQLite's locks do not reach there"
            yield warning("workers", message, "let the workers of one machine alone use the file")
        else:
            yield info("workers", f"{where} ended without signing off", "nothing: others take over")


def _hashes(connection: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    names: list[str | None] = [None]
    if not full:
        rows = connection.execute(
            "SELECT correlation_id FROM run ORDER BY updated_at DESC LIMIT ?", (SAMPLE,)
        )
        names = [name for (name,) in rows]
    flaws = [
        flaw
        for name in names
        if (found := verify(connection, name)) is not None
        for flaw in found.flaws
    ]
    for flaw in flaws[:MOST_NAMED]:
        place = "" if flaw.position is None else f", position {flaw.position}"
        message = f"run {flaw.correlation_id!r}{place}: {flaw.kind}: {flaw.message}"
        yield error("hashes", message, "`flowstore verify` names all; see who can write the file")
    if len(flaws) > MOST_NAMED:
        rest = counted(len(flaws) - MOST_NAMED, "more run is", "more runs are")
        yield error("hashes", f"{rest} not as appended", "`flowstore verify` names all")
