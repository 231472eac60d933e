"""Where tasks run: the event loop, threads, processes, or someone else's executor.

What runs on the loop can be cancelled. A thread cannot: its result is ignored, and another
takes its place. A process that is given up is ended, once its pool has no other work.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import pickle
import signal
import threading
import uuid
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from flowstore.errors import ConfigurationError
from flowstore.threads import InThreads, can_travel, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

ASYNCIO: Final = "asyncio"
THREADS: Final = "threads"
PROCESSES: Final = "processes"

_MAIN: Final = "__main__"


class Runner(Protocol):
    """Runs functions somewhere.

    Attributes:
        places: how many it runs at a time; None if that is not for us to know. Whoever starts
            no more than that can count an attempt's timeout from its start.
    """

    places: int | None

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Return what the function returns, or raise what it raises.

        When the caller is cancelled the result is ignored, wherever the function is by then.

        Raises:
            BrokenExecutor: whatever ran it has ended; the next call finds a new one.
        """
        ...

    def close(self) -> None:
        """Give up what is under way; wait for nothing."""
        ...


def check_executor(executor: object) -> None:
    """Refuse what is no place to run a task.

    Raises:
        ConfigurationError: it is neither a name of ours nor a `concurrent.futures.Executor`.
    """
    if executor not in (ASYNCIO, THREADS, PROCESSES) and not isinstance(executor, Executor):
        raise ConfigurationError(
            f'executor={executor!r}: "asyncio", "threads", "processes", or an object that is a '
            "concurrent.futures.Executor, as Dask's client.get_executor() is"
        )


# --- functions by their names -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """A function as another process finds it: by the name that its module has it under.

    The name is that of a registered function of this program, never one from the store.
    """

    module: str
    qualname: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Named:
        """Return the name of a function.

        Raises:
            ConfigurationError: it is defined inside another function, or has no name.
        """
        module: object = getattr(function, "__module__", None)
        qualname: object = getattr(function, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(qualname, str) or "<" in qualname:
            shown = qualname if isinstance(qualname, str) else type(function).__name__
            raise ConfigurationError(
                f"{shown} cannot run in another process, which would have to import it by "
                "its name; define it with def at the top level of its module"
            )
        return cls(module, qualname)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, where this is."""
        return find(self.module, self.qualname)(*args, **kwargs)


def find(module: str, qualname: str) -> Any:
    """Return what a module has under a name.

    Raises:
        ConfigurationError: it has nothing there.
    """
    found: Any = importlib.import_module(module)
    try:
        for part in qualname.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ConfigurationError(
            f"{module} has no {qualname} in the process that should run it; define it at the "
            "top level of a module that can be imported, above what starts the program"
        ) from error
    return found


# --- the loop -----------------------------------------------------------------------------------


class OnLoop:
    """Runs coroutine functions on the event loop, and plain ones there too, which stops it."""

    places: int | None = None

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Await the function; see `Runner`."""
        value = function(*args, **kwargs)
        return await value if asyncio.iscoroutine(value) else value

    def close(self) -> None:
        """Nothing to do: who awaits `run` cancels it."""


# --- processes ------------------------------------------------------------------------------------


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
        outcome = (False, _portable(error))
    try:
        return pickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - __reduce__ may be the user's code
        return pickle.dumps((False, translate(error)))


def _portable(error: BaseException) -> BaseException:
    """Return the error if it comes back the same, else one that says what it was."""
    if not can_travel(error):
        return translate(error)
    try:
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - written in the same expression
    except Exception:  # noqa: BLE001 - its __init__ may be the user's code
        return translate(error)
    return error if type(twin) is type(error) else translate(error)


def _unpack(packed: bytes) -> Any:
    is_fine, value = pickle.loads(packed)  # noqa: S301 - our own child wrote it, for a registered function
    if not is_fine:
        raise cast("Exception", value)
    return value


# --- other executors ---------------------------------------------------------------------------


class Elsewhere:
    """Runs functions with a `concurrent.futures.Executor` that belongs to the user.

    It is neither made anew when it breaks nor closed: that is its owner's business.
    """

    places: int | None = None

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Hand the call over; see `Runner`."""
        # Dask takes equal calls for one and remembers it; a number of its own tells them apart.
        number = uuid.uuid4().hex
        future = self._executor.submit(
            _call_numbered, number, _portable_function(function), tuple(args), dict(kwargs)
        )
        is_fine, value = await asyncio.wrap_future(future)
        if not is_fine:
            raise value
        return value

    def close(self) -> None:
        """Nothing to do; calls that are still waiting were cancelled with who awaits them."""


def _portable_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what finds the function where it runs; from a script it travels as it is."""
    try:
        named = Named.of(function)
    except ConfigurationError:
        return function
    return function if named.module == _MAIN else named


def _call_numbered(
    _number: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bool, Any]:
    try:
        return True, function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - it must neither end the worker nor our loop
        return False, _portable(error)


def runner_for(executor: str | Executor) -> Runner:
    """Make what runs the tasks of one executor; one of each serves all its tasks."""
    if isinstance(executor, Executor):
        return Elsewhere(executor)
    makers: dict[str, Callable[[], Runner]] = {
        ASYNCIO: OnLoop,
        THREADS: InThreads,
        PROCESSES: InProcesses,
    }
    return makers[executor]()
