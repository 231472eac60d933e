"""The read-only engine: looking is free, and says what it cannot read (G12)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sample import add_run, fill, writing
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from flowstore.errors import SchemaError, StoreCorruptError, StoreError, StoreUnavailableError
from flowstore.store.readonly import open_queries, read_only_engine
from flowstore.store.url import StoreUrl, parse

if TYPE_CHECKING:
    from flowstore.store.queries import Queries


async def test_the_engine_cannot_write(filled: Path):
    engine = read_only_engine(StoreUrl(filled))
    async with engine.connect() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.execute(text("DELETE FROM run"))


async def test_reading_changes_no_byte_of_the_database(filled: Path, queries: Queries):
    before = _content(filled)
    await queries.list_runs()
    await queries.count("order-1")
    assert _content(filled) == before


def _content(path: Path) -> bytes:
    return path.read_bytes()


async def test_reading_never_waits_for_the_writer(filled: Path, queries: Queries):
    with writing(filled) as connection:
        add_run(connection, 9, "uncommitted")
        assert await queries.get_run("uncommitted") is None
    assert await queries.get_run("uncommitted") is not None


async def test_a_writer_never_waits_for_readers(filled: Path):
    engine = read_only_engine(StoreUrl(filled))
    async with engine.connect() as reader:
        assert await reader.scalar(text("SELECT count(*) FROM run")) == 3
        with writing(filled) as connection:
            add_run(connection, 9, "new")
        assert await reader.scalar(text("SELECT count(*) FROM run")) == 3


@pytest.mark.parametrize(
    "name", ["a b.db", "a?b.db", "a#b.db", "50%41.db", "größe €.db", "a&b=c;d'\".db", "new\nline"]
)
async def test_any_file_name_works(tmp_path: Path, name: str):
    fill(tmp_path / "made.db")
    (tmp_path / "made.db").rename(tmp_path / name)
    run = await open_queries(StoreUrl(tmp_path / name)).get_run("order-1")
    assert run is not None
    assert not (tmp_path / "made.db").exists()


async def test_a_relative_path_is_of_the_folder_it_was_given_in(
    filled: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(filled.parent)
    queries = open_queries(StoreUrl(Path("flowstore.db")))
    monkeypatch.chdir("/")
    assert await queries.get_run("order-1") is not None


async def test_a_store_in_memory_is_read_through_its_own_url():
    url = parse(":memory:")
    with contextlib.closing(sqlite3.connect(url.memory_uri, uri=True)) as connection:
        connection.execute("CREATE TABLE seen (number)")
        connection.execute("INSERT INTO seen VALUES (7)")
        connection.commit()
        async with read_only_engine(url).connect() as reader:
            assert await reader.scalar(text("SELECT number FROM seen")) == 7


async def test_a_cancelled_read_leaves_no_thread_behind(queries: Queries):
    before = threading.enumerate()
    for number in range(60):
        reading = asyncio.ensure_future(queries.count("order-1"))
        for _ in range(random.Random(number).randrange(60)):
            await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    # Nothing is left to be done on this loop, so their threads end without it.
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(10)
            assert not thread.is_alive()


async def test_a_cancelled_read_that_fails_says_nothing(tmp_path: Path, caplog: Any):
    reading = asyncio.ensure_future(open_queries(StoreUrl(tmp_path / "none.db")).list_runs())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    del reading
    gc.collect()
    assert caplog.records == []


# --- databases that cannot be read -------------------------------------------------------


async def _refused(path: Path, kind: type[StoreError]) -> str:
    with pytest.raises(kind) as caught:
        await open_queries(StoreUrl(path)).list_runs()
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


async def test_a_missing_file_is_not_created(tmp_path: Path):
    path = tmp_path / "none.db"
    assert "cannot be opened" in await _refused(path, StoreUnavailableError)
    assert not path.exists()


async def test_a_file_that_is_no_database(tmp_path: Path):
    path = tmp_path / "letter.db"
    path.write_text("Dear database, " * 100)
    assert "is not a database" in await _refused(path, StoreCorruptError)


async def test_a_damaged_database(filled: Path):
    with contextlib.closing(sqlite3.connect(filled)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    _damage(filled)
    assert "restore a backup" in await _refused(filled, StoreCorruptError)


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


async def test_a_database_of_someone_else(tmp_path: Path):
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (id)")
    assert "no such table: run" in await _refused(path, SchemaError)


async def test_an_older_table(tmp_path: Path):
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run (id)")
    assert "flowstore db upgrade" in await _refused(path, SchemaError)


@pytest.mark.parametrize(
    ("revision", "remedy"), [("0003", "flowstore db upgrade"), ("0999", "a newer flowstore-engine")]
)
async def test_another_revision_is_told_by_its_number(filled: Path, revision: str, remedy: str):
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute("UPDATE flowstore_version SET version_num = ?", (revision,))
        connection.execute("ALTER TABLE run RENAME COLUMN workflow TO kind")
    told = await _refused(filled, SchemaError)
    assert f"at revision {revision}, and this looks at revision" in told
    assert remedy in told


_READ_AS_SOMEONE_ELSE = """
import asyncio, os, pathlib, sys
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl
# Imported while still root, who alone may read the code in some places.
import aiosqlite, sqlalchemy.dialects.sqlite.aiosqlite
if os.getuid() == 0:
    os.setuid(65534)
print(asyncio.run(open_queries(StoreUrl(pathlib.Path(sys.argv[1]))).get_run("order-1")).head)
"""


def test_a_read_only_folder_can_be_looked_at():
    """There is no WAL, and none can be made beside the database."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "flowstore.db")
        folder.chmod(0o555)
        try:
            done = subprocess.run(
                [sys.executable, "-c", _READ_AS_SOMEONE_ELSE, str(folder / "flowstore.db")],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            folder.chmod(0o755)
    assert done.stderr == ""
    assert done.stdout == "7\n"
