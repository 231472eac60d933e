"""Processes of our own in which tasks run.

Not imported before a task needs it: multiprocessing takes longer to import than all of flowstore's
own tasks.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from flowstore.threads import translate
from flowstore.transfer import Named, portable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection


class InProcesses:
    """Runs functions in processes of their own, started when they are first needed.

    Args:
        places: how many processes; None for one for each processor.
    """

    def __init__(self, places: int | None = None) -> None:
        self.places: int | None = places or os.cpu_count() or 1
        self._pool: _Pool | None = None
        self._retired: list[_Pool] = []
        self._is_closed = False

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call the function in a process; see `Runner`."""
        named = Named.of(function)
        if self._is_closed:
            raise BrokenExecutor("the processes have been closed")
        if self._pool is None:
            self._pool = _Pool(self.places or 1)
        pool = self._pool
        future: Future[bytes] | None = None
        try:
            future = pool.submit(named, args, kwargs)
            return _unpack(await asyncio.wrap_future(future))
        except BrokenExecutor:
            self._retire(pool)
            raise
        except asyncio.CancelledError:
            # What has begun cannot be cancelled. Its process is not waited for: others finish
            # what they have in hand, and then the pool ends with it.
            if future is not None and not pool.cancel(future):
                self._retire(pool)
            raise
        finally:
            pool.forget_done()
            self._retired = [each for each in self._retired if not each.end_if_idle()]

    def close(self) -> None:
        """End the processes."""
        self._is_closed = True
        pools = [*self._retired, *([self._pool] if self._pool else [])]
        self._pool, self._retired = None, []
        for pool in pools:
            pool.end()

    def _retire(self, pool: _Pool) -> None:
        if self._pool is pool:
            self._pool = None
        if pool not in self._retired:
            self._retired.append(pool)


class _Pool:
    """A pool of processes that can be ended at any time, and that end with this process.

    The children hold the reading end of a pipe whose writing end is here. When that is
    closed, by us or by the death of this process, they end at once, whatever they do.
    """

    def __init__(self, places: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._reader, self._writer = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            places, mp_context=context, initializer=_begin, initargs=(self._reader,)
        )
        self._busy: set[Future[bytes]] = set()

    def submit(
        self, function: Named, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Future[bytes]:
        future = self._pool.submit(_call_packed, function, tuple(args), dict(kwargs))
        self._busy.add(future)
        return future

    def cancel(self, future: Future[bytes]) -> bool:
        """Give up a call; false if a process is at it already."""
        self._busy.discard(future)
        return future.cancel() or (future.done() and not future.cancelled())

    def forget_done(self) -> None:
        self._busy = {each for each in self._busy if not each.done()}

    def end_if_idle(self) -> bool:
        self.forget_done()
        if not self._busy:
            self.end()
        return not self._busy

    def end(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._writer.close()
        self._reader.close()


def _begin(reader: Connection) -> None:
    """Prepare a child process; Ctrl-C is its parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(reader,), daemon=True).start()


def _end_with(reader: Connection) -> None:
    try:
        reader.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)


def _call_packed(function: Named, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Call the function in a child process; the outcome travels as bytes.

    An object that can be pickled and not unpickled, as many exceptions are, would break the
    whole pool when its own machinery unpickled it.
    """
    try:
        outcome: tuple[bool, Any] = (True, function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - sys.exit() is a failure of the task
        outcome = (False, portable(error))
    try:
        return pickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - __reduce__ may be the user's code
        return pickle.dumps((False, translate(error)))


def _unpack(packed: bytes) -> Any:
    is_fine, value = pickle.loads(packed)  # noqa: S301 - our own child wrote it, for a registered function
    if not is_fine:
        raise cast("Exception", value)
    return value
