"""Where tasks run: the event loop, threads, processes, or someone else's executor.

What runs on the loop can be cancelled. A thread cannot: its result is ignored, and another
takes its place. A process that is given up is ended, once its pool has no other work.
"""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Protocol

from flowstore.errors import ConfigurationError
from flowstore.threads import InThreads
from flowstore.transfer import Named, portable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        return False, portable(error)


def runner_for(executor: str | Executor) -> Runner:
    """Make what runs the tasks of one executor; one of each serves all its tasks."""
    if isinstance(executor, Executor):
        return Elsewhere(executor)
    if executor == PROCESSES:
        from flowstore.processes import InProcesses  # noqa: PLC0415 - few need it, it takes long

        return InProcesses()
    return OnLoop() if executor == ASYNCIO else InThreads()
