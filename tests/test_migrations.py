"""The schema of a database: created, upgraded, refused and compared."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from flowstore.errors import SchemaError, StoreCorruptError, StoreUnavailableError
from flowstore.store import migrate, schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = '''
"""A revision that only tests have."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("run", sa.Column("extra", sa.Text()))
    with op.batch_alter_table("run") as batch:
        batch.alter_column("workflow", new_column_name="kind")
    {last}
'''

RUN = (
    "INSERT INTO run (correlation_id, workflow, status, head, cursor, state_version, epoch,"
    " created_at, updated_at) VALUES ('r', 'w', 'idle', 1, 1, 0, 0, 0, 0)"
)
EVENT = (
    "INSERT INTO event (run_id, position, id, name, version, created_at)"
    " VALUES (1, 1, 'e', 'n', 1, 0)"
)


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def contents(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


def definitions(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master")
    # A column that was added stands in the same place, on the line of the one before it.
    return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in rows}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a database at the newest revision, with a row in it, as a store has it open."""
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate.prepare(connection, path)
        connection.execute(RUN)
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (1,)
        connection.execute(EVENT)
        yield connection


def with_second_revision(folder: Path, last: str = "pass") -> Path:
    scripts = folder / "100% scripts"
    shutil.copytree(migrate.find_scripts(), scripts)
    (scripts / "versions" / "0005_second.py").write_text(SECOND.format(last=last))
    return scripts


# --- an empty database ---------------------------------------------------------------------


def test_an_empty_database_gets_the_newest_tables(path: Path) -> None:
    with opened(path) as connection:
        migrate.prepare(connection, path)
        assert migrate.current(connection) == migrate.LATEST
        assert migrate.check(connection) == []
        assert not connection.in_transaction


def test_preparing_again_changes_nothing(database: sqlite3.Connection, path: Path) -> None:
    before = contents(database)
    migrate.prepare(database, path)
    assert contents(database) == before
    assert [file.name for file in path.parent.glob("*backup*")] == []


def test_neither_creating_nor_opening_imports_alembic(path: Path) -> None:
    program = (
        "import sqlite3, sys\n"
        "from pathlib import Path\n"
        "from flowstore.store import migrate\n"
        "for turn in range(2):\n"
        "    connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "    migrate.prepare(connection, Path(sys.argv[1]))\n"
        "    connection.close()\n"
        "assert 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_opening_a_current_database_takes_no_lock(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")
    with opened(path) as other:
        other.execute("PRAGMA busy_timeout = 0")
        migrate.prepare(other, path)
        assert not other.in_transaction
        assert migrate.current(other) == migrate.LATEST
    database.execute("ROLLBACK")


# --- tables and scripts agree --------------------------------------------------------------


def test_the_scripts_lead_to_the_latest_revision() -> None:
    folder = migrate.find_scripts()
    assert ScriptDirectory(str(folder)).get_heads() == [migrate.LATEST]


def configured(path: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrate.find_scripts()))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    return config


def test_scripts_and_tables_make_the_same_database(tmp_path: Path) -> None:
    """Also in what alembic does not compare: partial indexes, WITHOUT ROWID, names."""
    by_scripts, by_tables, by_sqlalchemy = (tmp_path / name for name in "abc")
    command.upgrade(configured(by_scripts), "head")
    with opened(by_tables) as connection:
        migrate.prepare(connection, by_tables)
        directly = definitions(connection)
    engine = create_engine(f"sqlite:///{by_sqlalchemy}", poolclass=NullPool)
    schema.metadata.create_all(engine)
    with opened(by_scripts) as connection:
        assert migrate.check(connection) == []
        assert definitions(connection) == directly
    with opened(by_sqlalchemy) as connection:
        expected = definitions(connection)
    ours = {row for row in directly if "flowstore_version" not in row[1]}
    strip = {(kind, name, sql and sql.strip()) for kind, name, sql in expected}
    assert {(kind, name, sql and sql.strip()) for kind, name, sql in ours} == strip


def test_a_database_made_by_the_command_line_opens(path: Path) -> None:
    command.upgrade(configured(path), "head")
    with opened(path) as connection:
        before = contents(connection)
        migrate.prepare(connection, path)
        assert contents(connection) == before
        connection.execute(RUN)


def test_the_command_line_says_what_to_do_instead_of_a_downgrade(path: Path) -> None:
    config = configured(path)
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        command.upgrade(config, script.revision)
        with opened(path) as connection:
            before = contents(connection)
            with pytest.raises(CommandError, match=r"delete the database|put the backup back"):
                command.downgrade(config, "-1")
            assert contents(connection) == before


# --- an older database ---------------------------------------------------------------------


def test_an_older_database_is_backed_up_and_upgraded(
    database: sqlite3.Connection, path: Path
) -> None:
    before = contents(database)
    scripts = with_second_revision(path.parent)
    migrate.prepare(database, path, scripts=scripts, latest="0005")
    assert migrate.current(database) == "0005"
    assert not database.in_transaction
    assert database.isolation_level is None
    assert database.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert database.execute("SELECT kind, extra FROM run").fetchall() == [("w", None)]
    assert database.execute("SELECT id FROM event").fetchall() == [("e",)]
    with opened(path.with_name("runs.db.backup-0004")) as backup:
        assert contents(backup) == before
        assert migrate.check(backup) == []


def test_a_backup_is_never_overwritten(database: sqlite3.Connection, path: Path) -> None:
    names = [path.with_name(f"runs.db.backup-0004{tail}") for tail in ("", "-2")]
    for name in names:
        name.write_text("precious")
    scripts = with_second_revision(path.parent)
    migrate.prepare(database, path, scripts=scripts, latest="0005")
    assert [name.read_text() for name in names] == ["precious"] * 2
    with opened(path.with_name("runs.db.backup-0004-3")) as backup:
        assert migrate.current(backup) == "0004"
    assert list(path.parent.glob("*.partial*")) == []


def test_a_database_in_memory_is_upgraded_without_a_backup(tmp_path: Path) -> None:
    with opened(":memory:") as connection:
        migrate.prepare(connection, None)
        migrate.prepare(connection, None, scripts=with_second_revision(tmp_path), latest="0005")
        assert migrate.current(connection) == "0005"


@pytest.mark.parametrize(
    "last",
    [
        "raise RuntimeError('no more')",
        "op.execute('SELECT nonsense')",
        "op.execute('DELETE FROM run')",
    ],
    ids=["exception", "bad SQL", "broken reference"],
)
def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    database: sqlite3.Connection, path: Path, last: str
) -> None:
    before = contents(database)
    scripts = with_second_revision(path.parent, last)
    with pytest.raises(SchemaError, match=r"as it was.*backup-0004"):
        migrate.prepare(database, path, scripts=scripts, latest="0005")
    assert contents(database) == before
    assert not database.in_transaction
    assert migrate.check(database) == []
    database.execute("DELETE FROM event")


def test_a_backup_that_cannot_be_made_stops_the_upgrade(
    database: sqlite3.Connection, path: Path
) -> None:
    before = contents(database)
    scripts = with_second_revision(path.parent)
    path.with_name("runs.db.backup-0004.partial").mkdir()
    with pytest.raises(StoreUnavailableError, match="the backup before"):
        migrate.prepare(database, path, scripts=scripts, latest="0005")
    assert contents(database) == before


def test_one_of_several_processes_upgrades(database: sqlite3.Connection, path: Path) -> None:
    scripts = with_second_revision(path.parent)
    program = (
        "import sqlite3, sys\n"
        "from pathlib import Path\n"
        "from flowstore.store import migrate\n"
        "path, scripts = map(Path, sys.argv[1:])\n"
        "connection = sqlite3.connect(path, isolation_level=None, timeout=60)\n"
        "sys.stdin.read()\n"
        "migrate.prepare(connection, path, scripts=scripts, latest='0005')\n"
        "assert migrate.current(connection) == '0005'\n"
        "connection.close()\n"
    )
    command_line = [sys.executable, "-c", program, str(path), str(scripts)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command_line, stdin=subprocess.PIPE))
            for _ in range(4)
        ]
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait() for process in started] == [0] * 4
    assert [file.name for file in path.parent.glob("*backup*")] == ["runs.db.backup-0004"]
    assert database.execute("SELECT kind FROM run").fetchall() == [("w",)]


# --- databases that are refused ------------------------------------------------------------


@pytest.mark.parametrize("revision", ["0005", "9999", "abcd", "00003", ""])
def test_a_newer_or_unknown_revision_is_refused(
    database: sqlite3.Connection, path: Path, revision: str
) -> None:
    database.execute("UPDATE flowstore_version SET version_num = ?", (revision,))
    before = contents(database)
    with pytest.raises(SchemaError, match=rf"'{revision}'.*'0004'.*install a newer flowstore"):
        migrate.prepare(database, path)
    assert contents(database) == before


def test_a_database_without_a_revision_is_refused(database: sqlite3.Connection, path: Path) -> None:
    database.execute("DELETE FROM flowstore_version")
    with pytest.raises(SchemaError, match="flowstore_version is empty"):
        migrate.prepare(database, path)


@pytest.mark.parametrize("taken", ["TABLE run (id)", "TABLE Event (id)", "VIEW step AS SELECT 1"])
def test_somebody_elses_tables_of_our_names_are_refused(path: Path, taken: str) -> None:
    with opened(path) as connection:
        connection.execute(f"CREATE {taken}")
        before = contents(connection)
        with pytest.raises(SchemaError, match="not a flowstore database") as caught:
            migrate.prepare(connection, path)
        assert " ".join(taken.split()[:2]).lower() in str(caught.value).lower()
        assert str(path) in str(caught.value)
        assert contents(connection) == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"hello " * 1000)
    with opened(path) as connection, pytest.raises(StoreCorruptError, match="not a database"):
        migrate.prepare(connection, path)
    assert path.read_bytes() == b"hello " * 1000


def test_a_damaged_database_is_named(path: Path) -> None:
    with opened(path) as connection:
        migrate.prepare(connection, path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    with opened(path) as connection, pytest.raises(StoreCorruptError, match=r"runs\.db.*damaged"):
        migrate.prepare(connection, path)
    with opened(path) as connection:
        assert len(migrate.check(connection)) == 1


# --- sharing the file ----------------------------------------------------------------------


def test_the_users_tables_and_alembic_are_left_alone(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0007')")
        connection.execute("CREATE TABLE invoice (id INTEGER PRIMARY KEY, total)")
        connection.execute("INSERT INTO invoice VALUES (1, 9.5)")
        migrate.prepare(connection, path)
        assert migrate.check(connection) == []
        scripts = with_second_revision(path.parent)
        migrate.prepare(connection, path, scripts=scripts, latest="0005")
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("0007",)]
        assert connection.execute("SELECT * FROM invoice").fetchall() == [(1, 9.5)]


# --- differences ---------------------------------------------------------------------------


def test_check_names_what_differs(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA foreign_keys = OFF")
    database.execute("DROP TABLE worker")
    database.execute("DROP INDEX ix_drop_run_id")
    database.execute("ALTER TABLE event ADD COLUMN colour TEXT")
    database.execute("ALTER TABLE snapshot DROP COLUMN state")
    database.execute("ALTER TABLE snapshot ADD COLUMN state INTEGER")
    database.execute("DELETE FROM run")
    assert sorted(migrate.check(database)) == [
        "column event.colour: not in the schema",
        "index ix_drop_run_id: missing from the database",
        "nullable of column snapshot.state: True in the database, not False",
        "table event: row 1 refers to a missing row of run",
        "table worker: missing from the database",
        "type of column snapshot.state: INTEGER in the database, not TEXT",
    ]


def test_check_of_a_database_that_is_not_ours() -> None:
    with opened(":memory:") as connection:
        assert "not a flowstore database" in migrate.check(connection)[0]


def test_rolled_back_definitions_do_not_persist(path: Path) -> None:
    """The trap of the driver on Python 3.11 and 3.12, in alembic's command line too."""
    folder = with_second_revision(path.parent, "raise RuntimeError('no more')")
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    with pytest.raises(RuntimeError, match="no more"):
        command.upgrade(config, "head")
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar() == 0
