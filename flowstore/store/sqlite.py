"""The SQLite store: one file, one writer, readers that never wait for it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flowstore.errors import StoreError, StoreUnavailableError
from flowstore.store import migrate
from flowstore.store.failures import translate
from flowstore.store.leases import LEASE_SECONDS
from flowstore.store.lock import FileLock, InChild, Presence
from flowstore.store.readonly import open_queries
from flowstore.store.session import Session
from flowstore.store.url import MEMORY
from flowstore.store.writer import Call, Listener, Parcel, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flowstore.store.base import Operation, Reader
    from flowstore.store.url import StoreUrl

CACHE_KILOBYTES = 16 * 1024
"""Pages that the writer keeps in memory; SQLite's own 2 MB hold too few of a large store's."""


class SQLiteStore:
    """Runs in an SQLite file. Implements `flowstore.store.base.Store`."""

    def __init__(self, url: StoreUrl, lease_seconds: float = LEASE_SECONDS) -> None:
        self.url = url
        self.worker_id = uuid4().hex
        self.is_worker = False
        self.secret = b""
        self._is_open = False
        self.reader: Reader = open_queries(url)
        self._presence: Presence | None = None
        self._is_forked = False
        os.register_at_fork(after_in_child=InChild(self._note_fork))
        self._outbox: list[Parcel | Call] = []
        self._parcel: Parcel | None = None
        self._outbox_loop: asyncio.AbstractEventLoop | None = None
        self._writer = Writer(_Opener(url, lease_seconds), lease_seconds / 3)
        self._at_exit = weakref.finalize(self, self._writer.stop)

    def _note_fork(self) -> None:
        self._is_forked = True

    def submit(
        self, operation: Operation, deliver: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Queue an operation; what is submitted in one turn of the loop travels together."""
        loop, parcel = asyncio.get_running_loop(), self._parcel
        if parcel is None or parcel.loop is not loop or self._is_forked:
            parcel = Parcel(loop)
            self._enqueue(parcel, loop)
            self._parcel = parcel
        parcel.operations.append(operation)
        parcel.delivers.append(deliver)

    def _enqueue(self, order: Parcel | Call, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_forked:
            message = (
                "this store was opened before the process was forked; "
                "make a WorkflowManager in the child, or start it with spawn"
            )
            raise StoreError(message)
        if self._outbox_loop is not loop:
            self._outbox = []
            self._outbox_loop = loop
        if not self._outbox:
            loop.call_soon(self._send_out)
        self._outbox.append(order)
        self._parcel = None

    def _send_out(self) -> None:
        orders, self._outbox, self._parcel = self._outbox, [], None
        if not orders:
            return
        try:
            self._writer.put(orders)
        except StoreError as error:
            for order in orders:
                order.refuse(error)

    def perform(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation and return a future for its result."""
        future, deliver = _future()
        self.submit(operation, deliver)
        return future

    def _call(self, action: Callable[[Session], Any]) -> asyncio.Future[Any]:
        future, deliver = _future()
        loop = asyncio.get_running_loop()
        self._enqueue(Call(action, deliver, loop), loop)
        return future

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Call ``heard`` on this loop when another process has written."""
        return self._writer.listen(Listener(heard, asyncio.get_running_loop()))

    async def open(self) -> None:
        """Open the database now, so that what is wrong with it shows here."""
        if not self._is_open:
            await self._call(lambda _: None)
            self._is_open = True

    async def become_worker(self) -> None:
        """Show a sign of life, before the first lease is taken."""
        if self.is_worker:
            return
        await self.open()
        if self.is_worker:
            return
        if self.url.path is None:
            self.is_worker = True
            await self._call(self._register)
            return
        try:
            self._presence = Presence(self.url.path, self.worker_id)
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.url.path}: no file can be made beside the database: {error.strerror}"
            ) from error
        self._at_exit.detach()
        self._at_exit = weakref.finalize(self, partial(self._presence.outlive, self._writer.stop))
        # Whoever asks from now on has their lease behind this in the queue.
        self.is_worker = True
        try:
            await self._call(self._register)
        except BaseException:
            self.resign()
            raise
        self._writer.worker_id = self.worker_id

    def _register(self, session: Session) -> None:
        # Here and not behind the await: whoever gets a lease next needs it.
        self.secret = session.register(self.worker_id)

    async def read_secret(self) -> bytes:
        """Return what tokens are signed with; empty if no worker has made it yet."""
        if not self.secret:
            self.secret = await self._call(lambda session: session.secret())
        return self.secret

    def resign(self) -> None:
        """End this worker: its runs are anyone's; the next lease is taken under a new id."""
        if self._presence is not None:
            self._presence.end()
            self._presence = None
        self._writer.worker_id = None
        self.worker_id = uuid4().hex
        self.is_worker = False

    async def close(self) -> None:
        """Finish what is queued and close every connection."""
        self._send_out()
        await asyncio.get_running_loop().run_in_executor(None, self._at_exit)


def _future() -> tuple[asyncio.Future[Any], Callable[[Any, BaseException | None], None]]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    return future, deliver


class _Opener:
    """Opens a session on the writer's thread; holds no reference to the store."""

    def __init__(self, url: StoreUrl, lease_seconds: float) -> None:
        self._url = url
        self._lease_seconds = lease_seconds

    def __call__(self) -> Session:
        path = self._url.path
        turn = None if path is None else FileLock(turn_path(path))
        connection = open_writer(self._url)
        try:
            return Session(connection, path, turn, self._lease_seconds, self._url.busy_timeout)
        except BaseException:
            connection.close()
            raise


def turn_path(path: Path) -> Path:
    """Return the file that writers lock in turn."""
    return path.with_name(f"{path.name}-lock")


def open_writer(url: StoreUrl) -> sqlite3.Connection:
    """Open the write connection; create the schema, or upgrade it after a backup.

    Raises:
        StoreUnavailableError: the file or its folder cannot be opened or written.
        StoreCorruptError: the file is not a database, or is damaged.
        SchemaError: the schema is newer than this flowstore, or not flowstore's.
    """
    path = url.path
    try:
        if path is None:
            return _prepared(url, url.memory_uri)
        turn = FileLock(turn_path(path))
        try:
            turn.acquire(url.busy_timeout)
            return _prepared(url, path.absolute().as_uri())
        finally:
            turn.close()
    except (sqlite3.Error, OSError) as error:
        raise translate(error, MEMORY if path is None else str(path)) from error


def _prepared(url: StoreUrl, uri: str) -> sqlite3.Connection:
    connection = _connect(uri, url)
    try:
        migrate.prepare(connection, url.path)
        if url.path is not None:
            # Not before it is known to be ours: this changes the file.
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(uri: str, url: StoreUrl) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=url.busy_timeout,
        cached_statements=256,
    )
    try:
        connection.execute(f"PRAGMA synchronous={url.synchronous}")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KILOBYTES}")
        connection.execute("PRAGMA foreign_keys=OFF")
    except BaseException:
        connection.close()
        raise
    return connection
