"""Giving the room of removed rows in an SQLite file back to the system."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from flowstore.errors import StoreBusyError
from flowstore.store.failures import translate
from flowstore.store.lock import FileLock, any_worker
from flowstore.store.sqlite import open_writer, turn_path

if TYPE_CHECKING:
    from pathlib import Path

    from flowstore.store.url import StoreUrl

MOST_BYTES_BESIDE_WORKERS: Final = 512 * 1024 * 1024
"""How large a file is made anew while workers wait: some seconds' work."""

_PATIENCE_MILLISECONDS: Final = 2_000


class Room(NamedTuple):
    """What was given back, in bytes; and why not all of it, if so."""

    freed: int
    problem: str | None = None


def give_back(url: StoreUrl, path: Path) -> Room:
    """Write the file anew without its free pages; whoever else writes waits meanwhile.

    Raises:
        StoreError: the database cannot be opened or written.
    """
    with contextlib.closing(open_writer(url)) as connection:
        before = _bytes(path)
        page, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        if not free:
            return Room(0)
        used = (pages - free) * page
        problem = _in_the_way(path, used)
        if problem is not None:
            return Room(0, problem)
        lock = FileLock(turn_path(path))
        try:
            lock.acquire(url.busy_timeout)
            problem = _make_anew(connection)
        except StoreBusyError as error:
            problem = str(error)
        except sqlite3.Error as error:
            raise translate(error, str(path)) from error
        finally:
            lock.close()
    return Room(max(0, before - _bytes(path)), problem)


def _bytes(path: Path) -> int:
    return path.stat().st_size


def _in_the_way(path: Path, used: int) -> str | None:
    room = shutil.disk_usage(path.parent).free
    if room < 2 * used:  # the copy, and the log through which it is written back
        return (
            f"making the file anew needs {2 * used} bytes of room on its disk, which has {room}: "
            "the free pages stay in the file and are used again"
        )
    if used > MOST_BYTES_BESIDE_WORKERS and any_worker(path):
        return (
            f"workers are at a file of {used} bytes, and would have to wait for long: the free "
            "pages stay in the file and are used again; do it when none is at work"
        )
    return None


def _make_anew(connection: sqlite3.Connection) -> str | None:
    connection.execute("VACUUM")
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MILLISECONDS}")
    (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        return (
            "another process is reading from the file as it was: its room is given back by the "
            "first worker that writes when that has ended"
        )
    return None
