"""How an SQLite database differs from the schema, and whether it is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from flowstore.store import schema

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Engine

_Difference = tuple[Any, ...]
_MEANING = {"add": "missing from the database", "remove": "not in the schema"}


def engine_over(connection: sqlite3.Connection) -> Engine:
    """Return an engine over this one connection, which emits no BEGIN of its own.

    Connecting for the first time ends a transaction that is open, so begin one afterwards.
    """
    return create_engine(
        "sqlite://",
        creator=lambda: connection,
        poolclass=StaticPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )


def from_schema(connection: sqlite3.Connection, version_table: str) -> list[str]:
    """Return how flowstore's tables differ from the schema; other tables are not looked at."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - rare, and alembic is slow
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as above

    options: dict[str, Any] = {"include_name": _is_ours, "version_table": version_table}
    with engine_over(connection).connect() as alchemy:
        context = MigrationContext.configure(alchemy, opts=options)
        found: list[_Difference | list[_Difference]] = compare_metadata(context, schema.metadata)
    lines: list[str] = []
    for difference in found:
        # The changes to one column come as a list of their own.
        parts = difference if isinstance(difference, list) else [difference]
        lines += [_describe(part) for part in parts]
    return lines


def damage(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds damaged in the whole file, and broken references of ours."""
    rows = connection.execute("PRAGMA integrity_check").fetchall()
    found = [f"integrity: {text}" for (text,) in rows if text != "ok"]
    return found + broken_references(connection)


def broken_references(connection: sqlite3.Connection) -> list[str]:
    """Return the rows of flowstore's tables that refer to a row that is missing."""
    found: list[str] = []
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table in schema.metadata.sorted_tables:
        if table.name in present:
            rows = connection.execute(f'PRAGMA foreign_key_check("{table.name}")')
            found += [
                f"table {table.name}: row {rowid} refers to a missing row of {parent}"
                for _, rowid, parent, _ in rows
            ]
    return found


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in schema.metadata.tables


def _describe(difference: _Difference) -> str:
    kind, *details = difference
    verb, _, noun = str(kind).partition("_")
    if verb == "modify":
        _, table, column, _, found, expected = details
        return f"{noun} of column {table}.{column}: {found} in the database, not {expected}"
    if noun == "column":
        _, table, column = details
        return f"column {table}.{column.name}: {_MEANING[verb]}"
    return f"{noun} {details[0].name}: {_MEANING.get(verb, verb)}"
