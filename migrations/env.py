"""What alembic runs: over flowstore's own connection, or from the `alembic` command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, make_url, pool

from flowstore.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alembic.operations import MigrationScript
    from alembic.runtime.migration import MigrationContext

VERSION_TABLE = "flowstore_version"


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    # The file may hold tables of the user's own.
    return kind != "table" or name in schema.metadata.tables


def _number(
    migration: MigrationContext, _revision: object, directives: Iterable[MigrationScript]
) -> None:
    for script in directives:
        script.rev_id = f"{int(migration.get_current_revision() or 0) + 1:04d}"


def _configure(**options: Any) -> None:
    context.configure(
        target_metadata=schema.metadata,
        version_table=VERSION_TABLE,
        include_name=_is_ours,
        process_revision_directives=_number,
        compare_type=True,
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run(connection: Connection) -> None:
    # SQLite cannot alter most of a table, so alembic makes a new one and copies the rows.
    _configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")


def _command_line_url() -> str:
    given = context.get_x_argument(as_dictionary=True).get("url")
    url = given or context.config.get_main_option("sqlalchemy.url")
    if not isinstance(url, str) or not url:
        message = "no database: give one with -x url=sqlite:///PATH or in alembic.ini"
        raise SystemExit(message)
    return url


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _run_from_command_line() -> None:
    url = _command_line_url()
    if context.is_offline_mode():
        _configure(url=url, literal_binds=True)
        return
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    # The driver's implicit transactions would let DDL persist that was rolled back.
    options = {"isolation_level": None} if is_sqlite else {}
    engine = create_engine(url, poolclass=pool.NullPool, connect_args=options)
    if is_sqlite:
        event.listen(engine, "begin", _begin_immediate)
    with engine.begin() as connection:
        _run(connection)


_connection = context.config.attributes.get("connection")
if _connection is None:
    _run_from_command_line()
else:
    _run(_connection)
