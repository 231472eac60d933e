"""The commands about the database itself: ``db upgrade``, ``db current`` and ``db check``."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from flowstore.cli import output
from flowstore.cli.reading import existing, file_of
from flowstore.errors import SchemaError
from flowstore.store import migrate
from flowstore.store.failures import translate
from flowstore.store.readonly import read_only_uri
from flowstore.store.sqlite import open_writer
from flowstore.store.url import StoreUrl, parse

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def upgrade(store: str, *, as_json: bool) -> int:
    """Create the database or bring it to the newest revision."""
    path = file_of(store)
    before = _revision(path) if path.exists() else None
    open_writer(parse(store)).close()
    if as_json:
        output.print_json({"store": str(path), "before": before, "revision": migrate.LATEST})
    elif before == migrate.LATEST:
        output.write(f"{path}: at revision {migrate.LATEST} already\n")
    elif before is None:
        output.write(f"{path}: created at revision {migrate.LATEST}\n")
    else:
        output.write(f"{path}: upgraded from revision {before} to {migrate.LATEST}\n")
    return 0


def print_current(store: str, *, as_json: bool) -> int:
    """Print the revision that the database has."""
    path = existing(store)
    revision = _revision(path)
    if revision is None:
        message = f"{path}: this is not a flowstore database; `flowstore db upgrade` makes one"
        raise SchemaError(message)
    if as_json:
        output.print_json({"store": str(path), "revision": revision, "latest": migrate.LATEST})
    else:
        newest = "the newest" if revision == migrate.LATEST else f"not {migrate.LATEST}"
        output.write(f"{revision} ({newest})\n")
    return 0


def check(store: str, *, as_json: bool) -> int:
    """Print what is wrong with the database; 1 if anything is."""
    path = existing(store)
    with looking(path) as connection:
        problems = migrate.check(connection)
    with output.unread_or_not():
        if as_json:
            output.print_json({"store": str(path), "ok": not problems, "problems": problems})
        elif problems:
            for problem in problems:
                output.write(f"{output.printable(problem)}\n")
        else:
            output.write(f"{path}: sound, at revision {migrate.LATEST}\n")
    return int(bool(problems))


def _revision(path: Path) -> str | None:
    with looking(path) as connection:
        return migrate.current(connection)


def require_latest(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse to look into a database of another revision.

    Raises:
        SchemaError: it is one.
    """
    revision = migrate.current(connection)
    if revision != migrate.LATEST:
        raise migrate.other_revision(str(path), revision)


@contextlib.contextmanager
def looking(path: Path) -> Generator[sqlite3.Connection]:
    """Give a connection that cannot write."""
    try:
        uri = read_only_uri(StoreUrl(path))
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only=1")
            yield connection
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
