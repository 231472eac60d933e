"""A clock for tests: hours of back-off pass in no time, and each id is known beforehand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flowstore.clock import Clock, to_datetime, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

START: Final = datetime(2030, 1, 1, tzinfo=UTC)

_TURNS: Final = 25
"""Turns of the event loop that whoever has been woken is given before time moves on."""


class VirtualClock(Clock):
    """Time that stands still until `advance` is called.

    Handlers, their timeouts and the waits between retries follow it; the disk does not, so
    wait for what you expect (`Run.wait`, `until_asleep`) and not for a number of turns.

    Args:
        start: the first moment, with timezone.
        is_automatic: move on to the next sleeper's moment whenever someone sleeps. Meant for
            back-off: a handler with a timeout would run out of it at its first `await`.
        prefix: what ids begin with; clocks that share a store need different ones.
    """

    def __init__(
        self, start: datetime = START, *, is_automatic: bool = False, prefix: str = "id-"
    ) -> None:
        self._now = to_microseconds(start)
        self._is_automatic = is_automatic
        self._prefix = prefix
        self._ids = itertools.count(1)
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._hopefuls: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._driver: asyncio.Task[None] | None = None

    # --- Clock ---------------------------------------------------------------------------

    def now(self) -> int:
        """Return the virtual time in microseconds since 1970, UTC."""
        return self._now

    def new_id(self) -> str:
        """Return the next id: ``id-1``, then ``id-2`` and so on."""
        return f"{self._prefix}{next(self._ids)}"

    def random(self, seed: str) -> random.Random:
        """Return a generator that gives the same numbers for the same seed."""
        return random.Random(seed)  # noqa: S311 - repeatable on purpose, never for secrets

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved on by this many seconds."""
        due = self._now + max(0, round(seconds * 1_000_000))
        if due <= self._now:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (due, next(self._order), woken))
        self._tell()
        if self._is_automatic and (self._driver is None or self._driver.done()):
            self._driver = asyncio.get_running_loop().create_task(self._drive())
        await woken

    # --- for the test --------------------------------------------------------------------

    @property
    def moment(self) -> datetime:
        """The virtual time, in UTC."""
        return to_datetime(self._now)

    @property
    def asleep(self) -> list[float]:
        """In how many seconds each sleeper is due, the next one first."""
        return [(due - self._now) / 1_000_000 for due, _, _ in sorted(self._waiting())]

    async def advance(self, seconds: float) -> None:
        """Move on, waking sleepers in the order of their moments, each at its own.

        Args:
            seconds: how far; whoever goes back to sleep within them is woken again.
        """
        target = self._now + round(seconds * 1_000_000)
        await _settle()
        while (due := self._next()) is not None and due <= target:
            self._wake(due)
            await _settle()
        self._now = max(self._now, target)
        await _settle()

    async def until_asleep(self, seconds: float | None = None) -> None:
        """Return when someone sleeps.

        Args:
            seconds: only a sleeper that is due in at least this time counts.
        """

        def is_there() -> bool:
            least = 0.0 if seconds is None else seconds
            return any(left >= least for left in self.asleep)

        if is_there():
            return
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hopefuls.append((is_there, found))
        await found

    # --- inside --------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[int, int, asyncio.Future[None]]]:
        """Return who sleeps still: the cancelled, and those of an older loop, do not."""
        self._sleepers = [each for each in self._sleepers if not each[2].done()]
        heapq.heapify(self._sleepers)
        return self._sleepers

    def _next(self) -> int | None:
        waiting = self._waiting()
        return waiting[0][0] if waiting else None

    def _wake(self, due: int) -> None:
        self._now = max(self._now, due)
        waiting = self._waiting()
        while waiting and waiting[0][0] <= self._now:
            heapq.heappop(waiting)[2].set_result(None)

    def _tell(self) -> None:
        for hopeful in tuple(self._hopefuls):
            is_there, found = hopeful
            if found.done() or is_there():
                self._hopefuls.remove(hopeful)
                if not found.done():
                    found.set_result(None)

    async def _drive(self) -> None:
        while (due := self._next()) is not None:
            await _settle()
            self._wake(due)
            await _settle()


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
