"""The read-only side of an SQLite store: an async engine that cannot write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from flowstore.store.failures import translate
from flowstore.store.queries import Queries
from flowstore.store.url import MEMORY

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from flowstore.store.url import StoreUrl


def open_queries(url: StoreUrl) -> Queries:
    """Return what reads this store; nothing is opened before the first read, nor kept open."""
    where = MEMORY if url.path is None else str(url.path)
    return Queries(read_only_engine(url).connect, where)


def read_only_engine(url: StoreUrl) -> AsyncEngine:
    """Return an engine whose connections read one moment each and refuse to write.

    A connection lives as long as its use: an idle one would keep a thread, and one that
    has begun to read would keep the WAL from being folded into the file.
    """
    engine = create_async_engine(
        "sqlite+aiosqlite://",
        async_creator=partial(_connect, read_only_uri(url), url.busy_timeout),
        poolclass=NullPool,
    )
    event.listen(engine.sync_engine, "connect", _forbid_writing)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def read_only_uri(url: StoreUrl) -> str:
    """Return the URI under which SQLite opens this store for reading only."""
    if url.path is None:
        return url.memory_uri
    # Made absolute now: the program may change its working directory later.
    place = quote(os.fsencode(url.path.absolute()))
    return f"file:{place}?mode=ro{'&immutable=1' if _is_frozen(url.path) else ''}"


@contextlib.asynccontextmanager
async def watch(url: StoreUrl) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
    """Give what tells whether someone has written since it was last asked.

    It asks SQLite for `PRAGMA data_version`, on a connection that stays open for as long as the
    block lasts and holds no lock.

    Raises:
        StoreUnavailableError: the database cannot be opened.
    """
    where = MEMORY if url.path is None else str(url.path)
    try:
        connection = await _connect(read_only_uri(url), url.busy_timeout)
    except (sqlite3.Error, OSError) as error:
        raise translate(error, where) from error
    seen: int | None = None

    async def has_news() -> bool:
        nonlocal seen
        try:
            rows = list(await connection.execute_fetchall("PRAGMA data_version"))
        except (sqlite3.Error, OSError) as error:
            raise translate(error, where) from error
        before, seen = seen, int(rows[0][0])
        return seen != before

    try:
        yield has_news
    finally:
        await connection.close()


async def _connect(uri: str, timeout: float) -> aiosqlite.Connection:
    # The driver opens no transaction for a SELECT: `_begin` does.
    connection = aiosqlite.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    # Before aiosqlite 0.22 the connection was the thread.
    thread: threading.Thread = getattr(connection, "_thread", cast("Any", connection))
    thread.daemon = True
    try:
        return await connection
    except BaseException:
        # It has been told to end; left alone it would report that to a closed loop.
        thread.join()
        raise


def _is_frozen(path: Path) -> bool:
    """Tell whether the database lies where SQLite can make no WAL beside it, and has none.

    Without a WAL SQLite would refuse to read it, although no one is writing.
    """
    return not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


def _forbid_writing(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=1")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
