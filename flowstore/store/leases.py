"""Which workers live: their signs of life, and the leases that run out when they say nothing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flowstore.store.lock import is_alive

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

LEASE_SECONDS = 30.0
"""How long a worker that lives but says nothing keeps its runs."""


class Leases:
    """The rows of `worker`, by the machine's clock: a lease is about processes, not workflows.

    Args:
        path: the database; None in memory, where there is no other process.
        seconds: how long a lease lasts.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        seconds: float = LEASE_SECONDS,
    ) -> None:
        self._connection = connection
        self._path = path
        self._microseconds = int(seconds * 1_000_000)

    def is_lost(self, worker_id: str) -> bool:
        """Tell whether this worker is dead, or silent beyond its lease (G8, G9)."""
        if self._path is None or not is_alive(self._path, worker_id):
            return True
        row = self._connection.execute(
            "SELECT lease FROM worker WHERE id = ?", (worker_id,)
        ).fetchone()
        return row is None or row[0] < _now()

    def register(self, worker_id: str) -> None:
        """Record this process as a worker, and forget those that are gone.

        A transaction must be open.
        """
        execute = self._connection.execute
        for (other,) in execute("SELECT id FROM worker").fetchall():
            if self._path is not None and not is_alive(self._path, other):
                execute("DELETE FROM worker WHERE id = ?", (other,))
        now = _now()
        execute(
            "INSERT OR REPLACE INTO worker (id, host, pid, started_at, lease) "
            "VALUES (?, ?, ?, ?, ?)",
            (worker_id, os.uname().nodename, os.getpid(), now, now + self._microseconds),
        )

    def renew(self, worker_id: str) -> None:
        """Say that this worker is still at work."""
        self._connection.execute(
            "UPDATE worker SET lease = ? WHERE id = ?", (_now() + self._microseconds, worker_id)
        )

    def end(self, worker_id: str) -> None:
        """Sign off."""
        self._connection.execute("DELETE FROM worker WHERE id = ?", (worker_id,))


def _now() -> int:
    return time.time_ns() // 1000
