"""Advisory file locks beside a database: fair turns for writers, and proof that a worker lives.

The operating system drops a lock when its process dies, however it dies, so a lock that can
be taken tells at once that its owner is gone: no grace period, no process ids to compare.
The files are never the database itself: closing a second descriptor of that one inside this
process would drop SQLite's own locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from typing import TYPE_CHECKING, Self

from flowstore.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

_MODE = 0o644


class FileLock:
    """An exclusive advisory lock on a file that is made when missing and never removed.

    Waiting writers get it in turn; SQLite's own busy handler sleeps and retries, and of eight
    processes let one make 20,010 commits while another made 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._waiter: _Waiter | None = None

    def acquire(self, timeout: float | None = None) -> None:
        """Wait for the lock.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            StoreBusyError: another process kept it for longer, as one that is stopped would.
            OSError: its file cannot be opened.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, _MODE)
            os.register_at_fork(after_in_child=InChild(self.close))
        if timeout is None:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            return
        if self._waiter is None or not self._waiter.want():
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._waiter = _Waiter(self._descriptor)
            else:
                return
        if not self._waiter.wait(timeout):
            raise StoreBusyError(
                f"{self._path}: another process has kept the turn to write for {timeout:g} s; "
                "see whether one is stopped, or allow more with ?busy_timeout=SECONDS"
            )
        self._waiter = None

    def release(self) -> None:
        """Let the next one have it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which releases the lock unless another process shares it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Waiter:
    """Waits for a lock in a thread of its own: the system's own wait is fair, but has no end.

    A lock that comes when no one wants it any more is let go at once.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mutex = threading.Lock()
        self._has_come = threading.Event()
        self._is_wanted = True
        self._has_ended = False
        threading.Thread(target=self._wait, name="flowstore-turn", daemon=True).start()

    def _wait(self) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile: no one wants it
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            with self._mutex:
                self._has_ended = True
                if self._is_wanted:
                    self._has_come.set()
                else:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def want(self) -> bool:
        """Want the lock again after a wait that was too short; false if it has come and gone."""
        with self._mutex:
            self._is_wanted = not self._has_ended
            return self._is_wanted

    def wait(self, timeout: float) -> bool:
        """Return true when the lock has been taken."""
        self._has_come.wait(timeout)
        with self._mutex:
            self._is_wanted = self._has_come.is_set()
            return self._is_wanted


class Presence:
    """A worker's sign of life: a file that it keeps locked for as long as it lives."""

    def __init__(self, database: Path, worker_id: str) -> None:
        self._path = presence_path(database, worker_id)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, _MODE)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.register_at_fork(after_in_child=InChild(self.close))

    def close(self) -> None:
        """Close the file, which releases the lock unless another process shares it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def outlive(self, stop: Callable[[], None]) -> None:
        """Stop the writer first, then end: as long as it writes, its worker lives."""
        stop()
        self.end()

    def end(self) -> None:
        """Remove the file: this worker owns nothing any more."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            self.close()


class InChild:
    """Calls a method in every forked child, which shares locks and could outlive its parent.

    Keeps nothing alive; the interpreter keeps this small object for good.
    """

    def __init__(self, method: Callable[[], None]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self) -> None:
        """Call it, if its object is still there."""
        method = self._method()
        if method is not None:
            method()


def presence_path(database: Path, worker_id: str) -> Path:
    """Return where a worker's sign of life lies."""
    return database.with_name(f"{database.name}-worker-{worker_id}")


def is_alive(database: Path, worker_id: str) -> bool:
    """Tell whether a worker on this machine still holds its sign of life.

    The file of a dead one is removed.
    """
    path = presence_path(database, worker_id)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)


def any_worker(database: Path) -> bool:
    """Tell whether any worker on this machine holds a sign of life."""
    lead = presence_path(database, "")
    names = [path.name for path in lead.parent.iterdir() if path.name.startswith(lead.name)]
    return any(is_alive(database, name.removeprefix(lead.name)) for name in names)
