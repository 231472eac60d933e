"""Threads for tasks: as many as are needed, none of which keeps the interpreter from ending."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.errors import RemoteTaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_THREADS: Final = 128
"""How many plain functions run at a time; most of them wait for something outside."""


class InThreads:
    """Runs plain functions in threads that do not keep the interpreter from ending.

    The standard pool's threads would: it waits for each at exit, so that one function that
    never returns would hang the program.
    """

    def __init__(self, places: int = MOST_THREADS) -> None:
        self.places: int | None = places
        self._most = places
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._lost = 0
        self._is_closed = False

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call the function in a thread; see `Runner`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        job = _Job(loop, done, contextvars.copy_context(), partial(function, *args, **kwargs))
        self._put(partial(self._work, job))
        try:
            return await done
        except asyncio.CancelledError:
            with self._lock:
                if job.is_running and not job.is_over:
                    # The thread stays with what it does; another one takes its place.
                    job.is_lost = True
                    self._lost += 1
                job.is_unwanted = True
            raise

    def close(self) -> None:
        """Let idle threads end; those at work end with the program."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                for _ in range(self._threads):
                    self._jobs.put(None)

    def _put(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._is_closed:
                raise BrokenExecutor("the threads have been closed")
            if self._idle > 0:
                self._idle -= 1
            elif self._threads - self._lost < self._most:
                self._threads += 1
                threading.Thread(target=self._serve, name="flowstore-task", daemon=True).start()
            self._jobs.put(work)

    def _serve(self) -> None:
        while (work := self._jobs.get()) is not None:
            work()
            del work  # what it holds is not kept until the next one comes
            with self._lock:
                if self._threads - self._lost > self._most:
                    self._threads -= 1
                    return
                self._idle += 1

    def _work(self, job: _Job) -> None:
        with self._lock:
            if job.is_unwanted:
                return
            job.is_running = True
        job.run()
        with self._lock:
            job.is_over = True
            if job.is_lost:
                self._lost -= 1
        job.deliver()


class _Job:
    """One call in a thread."""

    __slots__ = (
        "_call",
        "_context",
        "_done",
        "_error",
        "_loop",
        "_value",
        "is_lost",
        "is_over",
        "is_running",
        "is_unwanted",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[Any],
        context: contextvars.Context,
        call: Callable[[], Any],
    ) -> None:
        self._loop = loop
        self._done = done
        self._context = context
        self._call: Callable[[], Any] | None = call
        self._value: Any = None
        self._error: BaseException | None = None
        self.is_running = False
        self.is_over = False
        self.is_lost = False
        self.is_unwanted = False

    def run(self) -> None:
        """Call the function; whatever it raises is its own failure, not the thread's."""
        call, self._call = self._call, None
        try:
            self._value = self._context.run(cast("Callable[[], Any]", call))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a task ends no engine
            self._error = error if can_travel(error) else translate(error)

    def deliver(self) -> None:
        """Hand the outcome to the loop, if it still runs."""
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop is closed, so no one waits
            return

    def _settle(self) -> None:
        if self._done.done():
            return
        if self._error is not None:
            self._done.set_exception(self._error)
        else:
            self._done.set_result(self._value)


def can_travel(error: BaseException) -> bool:
    """Tell whether an error can be raised where the function's caller is.

    StopIteration cannot pass through a future, and what is no Exception would end the loop.
    """
    return isinstance(error, Exception) and not isinstance(error, StopIteration)


def translate(error: BaseException) -> RemoteTaskError:
    """Return an error that says what another was, and can be raised anywhere."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's __str__ is the user's code
        text = "its message cannot be shown"
    return RemoteTaskError(type(error).__name__, text)
