"""Bring an SQLite database to the newest schema, and tell how it differs from it.

Opening a current database costs one SELECT. An empty one gets its tables from
`flowstore.store.schema`; only an older one needs alembic and the scripts in `migrations/`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from flowstore.errors import SchemaError, StoreError, StoreFullError
from flowstore.store import differences, schema
from flowstore.store.failures import translate

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

LATEST = "0004"
"""The newest revision in `migrations/versions`."""

# Alembic's own table under another name, so that a user's alembic can share the database.
version_table = Table(
    "flowstore_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="flowstore_version_pkc"),
)

# Alembic's `op` and `context` are global to the process; stores open on threads of their own.
_alembic = threading.Lock()

_NO_SUCH_TABLE = "no such table"


def current(connection: sqlite3.Connection) -> str | None:
    """Return the database's revision, or None if it has none.

    Raises:
        SchemaError: there is a version table without a revision in it.
        sqlite3.Error: the database cannot be read.
    """
    try:
        row = connection.execute("SELECT version_num FROM flowstore_version").fetchone()
    except sqlite3.OperationalError as error:
        if _NO_SUCH_TABLE in str(error):
            return None
        raise
    if row is None:
        raise SchemaError(
            f"{_name(connection)}: the table flowstore_version is empty, so the schema's "
            "revision is not known; restore a backup"
        )
    return str(row[0])


def prepare(
    connection: sqlite3.Connection,
    path: Path | None,
    *,
    scripts: Path | None = None,
    latest: str = LATEST,
) -> None:
    """Create or upgrade the tables, in one transaction.

    The caller holds the advisory lock beside the database, and no transaction is open. An
    older database is first backed up beside itself, to ``<path>.backup-<its revision>``.

    Args:
        connection: opened with ``isolation_level=None``, used on the calling thread.
        path: the database's file; None for one in memory, which needs no backup.
        scripts: folder of the migrations; None for those that come with flowstore.
        latest: the revision to bring it to.

    Raises:
        SchemaError: the database is newer, or not flowstore's, or the upgrade failed; it
            is as it was.
        StoreCorruptError: the file is not a database, or it is damaged.
        StoreFullError: the disk is full; the database is as it was.
        StoreUnavailableError: the database or its backup cannot be written.
        StoreError: anything else that SQLite reports.
    """
    with _errors_named(connection):
        revision = current(connection)
        if revision is None:
            revision = _create(connection)
        if revision != latest:
            _require_older(connection, revision, latest)
            _upgrade(connection, path, scripts or find_scripts(), latest)


def other_revision(where: str, revision: str | None) -> SchemaError:
    """Return the error of who would read a database that is not at the newest revision.

    Args:
        where: the database, as the user knows it.
        revision: the one that it has; None if it has none.
    """
    what_to_do = "`flowstore db upgrade` brings it there"
    if revision is not None and not _is_older(revision, LATEST):
        what_to_do = "install a newer flowstore-engine"
    return SchemaError(
        f"{where}: the schema is at revision {revision}, and this looks at revision {LATEST}; "
        f"{what_to_do}"
    )


def check(connection: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the database, one line each; nothing if it is sound.

    Compares flowstore's tables with the schema and asks SQLite to check the whole file,
    which reads all of it. No transaction may be open on the connection.
    """
    try:
        return [
            *_revision_problems(connection),
            *differences.from_schema(connection, version_table.name),
            *differences.damage(connection),
        ]
    except (sqlite3.DatabaseError, DBAPIError) as error:
        return [f"the database cannot be read: {error}"]


def find_scripts() -> Path:
    """Return the folder of the migrations: the installed one, or the repository's.

    Raises:
        SchemaError: there is neither, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError(
        f"{package / '_migrations'}: the migrations are missing from this installation; "
        "install flowstore-engine again"
    )


# --- an empty database ---------------------------------------------------------------------


def _create(connection: sqlite3.Connection) -> str:
    with _immediate(connection):
        revision = current(connection)
        if revision is None:
            _require_free_names(connection)
            for statement in _definitions():
                connection.execute(statement)
            connection.execute("INSERT INTO flowstore_version VALUES (?)", (LATEST,))
            revision = LATEST
    return revision


def _definitions() -> list[str]:
    dialect = sqlite.dialect()
    tables = (*schema.metadata.sorted_tables, version_table)
    made = [CreateTable(table).compile(dialect=dialect) for table in tables]
    made += [
        CreateIndex(index).compile(dialect=dialect)
        for table in tables
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    return [str(statement) for statement in made]


def _require_free_names(connection: sqlite3.Connection) -> None:
    present = connection.execute("SELECT type, name FROM sqlite_master WHERE name IS NOT NULL")
    ours = set(schema.metadata.tables)
    ours.update(str(index.name) for table in schema.TABLES for index in table.indexes)
    taken = sorted(f"{kind} {name}" for kind, name in present if name.lower() in ours)
    if taken:
        raise SchemaError(
            f"{_name(connection)} is not a flowstore database: it has {', '.join(taken)} of its "
            "own but no table flowstore_version; give another path"
        )


# --- an older database ---------------------------------------------------------------------


def _require_older(connection: sqlite3.Connection, revision: str, latest: str) -> None:
    if _is_older(revision, latest):
        return
    raise SchemaError(
        f"{_name(connection)} has schema revision {revision!r}, and this flowstore knows up to "
        f"{latest!r}; install a newer flowstore-engine"
    )


def _is_older(revision: str, latest: str) -> bool:
    return len(revision) == len(latest) and revision.isdecimal() and revision < latest


def _upgrade(connection: sqlite3.Connection, path: Path | None, scripts: Path, latest: str) -> None:
    # SQLAlchemy ends open transactions when it first sees a connection: show it before BEGIN.
    with (
        _alembic,
        _without_foreign_keys(connection),
        differences.engine_over(connection).connect() as alchemy,
        # Alembic leaves a transaction alone that somebody else has begun.
        alchemy.begin(),
        _immediate(connection),
    ):
        revision = current(connection)
        if revision is None or revision == latest:
            return
        _require_older(connection, revision, latest)
        backup = _back_up(path, revision) if path is not None else None
        try:
            _run_scripts(alchemy, scripts, latest)
            _require_upgraded(connection, latest)
        except Exception as error:
            raise _failed(connection, revision, latest, backup, error) from error


def _run_scripts(alchemy: Connection, scripts: Path, latest: str) -> None:
    from alembic import command  # noqa: PLC0415 - only an upgrade pays for alembic
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = alchemy
    command.upgrade(config, latest)


def _require_upgraded(connection: sqlite3.Connection, latest: str) -> None:
    if not connection.in_transaction:
        raise SchemaError("a migration ended the transaction that it ran in")
    if current(connection) != latest:
        raise SchemaError(f"the migrations do not lead to revision {latest!r}")
    if broken := differences.broken_references(connection):
        raise SchemaError(broken[0])


def _failed(
    connection: sqlite3.Connection,
    revision: str,
    latest: str,
    backup: Path | None,
    error: Exception,
) -> StoreError:
    is_full = isinstance(translate(error, ""), StoreFullError)
    kind = StoreFullError if is_full else SchemaError
    cause = error.orig if isinstance(error, DBAPIError) else error
    kept = f"; there is a backup at {backup}" if backup is not None else ""
    return kind(
        f"{_name(connection)}: the upgrade from revision {revision!r} to {latest!r} failed and the "
        f"database is as it was{kept}: {cause}"
    )


def _back_up(path: Path, revision: str) -> Path:
    """Copy the database as it is under the write lock that the caller holds."""
    target = _free_name(path, revision)
    partial = target.with_name(f"{target.name}.partial")
    # The connection that holds the lock cannot be read from; another one of this process can.
    source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        partial.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        partial.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise translate(error, f"{target}, the backup before the upgrade") from error
    finally:
        source.close()
    return target


def _free_name(path: Path, revision: str) -> Path:
    target = path.with_name(f"{path.name}.backup-{revision}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.backup-{revision}-{number}")
    return target


def _revision_problems(connection: sqlite3.Connection) -> list[str]:
    try:
        revision = current(connection)
    except SchemaError as error:
        return [str(error)]
    if revision is None:
        return ["the table flowstore_version is missing: not a flowstore database"]
    if revision != LATEST:
        return [f"the schema's revision is {revision!r}, not {LATEST!r}"]
    return []


# --- connections ------------------------------------------------------------------------------


@contextlib.contextmanager
def _immediate(connection: sqlite3.Connection) -> Generator[None]:
    # The driver's own transactions would let DDL persist that was rolled back.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _without_foreign_keys(connection: sqlite3.Connection) -> Generator[None]:
    # Making a table anew drops the old one, and with it the rows that refer to it; the
    # setting cannot be changed inside a transaction.
    (enforced,) = connection.execute("PRAGMA foreign_keys").fetchone()
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA foreign_keys = {enforced}")


@contextlib.contextmanager
def _errors_named(connection: sqlite3.Connection) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, _name(connection)) from error


def _name(connection: sqlite3.Connection) -> str:
    _, _, file = connection.execute("PRAGMA database_list").fetchone()
    return file or "the database in memory"
