"""One timer for everything that is due later: no task for each waiting run."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.clock import Clock


class Alarm:
    """Calls back with the names whose time has come.

    Args:
        ring: called with the names that are due; None stands for "look in the store".
        turned_back: called within a minute when the clock has been set back, if something is due
            later.
    """

    def __init__(
        self,
        clock: Clock,
        ring: Callable[[set[str | None]], None],
        turned_back: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._ring = ring
        self._turned_back = turned_back
        self._heap: list[tuple[int, str]] = []
        self._task: asyncio.Task[None] | None = None
        self._next = 0
        self._seen = 0
        """The time when this was last looked at."""

    def set(self, moment: int, name: str | None) -> None:
        """Ring for this name at this moment, in microseconds since 1970."""
        entry = (moment, name or "")
        if entry in self._heap[:1]:
            return
        heapq.heappush(self._heap, entry)
        if self._task is None or self._task.done() or moment < self._next:
            if self._task is not None:
                self._task.cancel()
            self._task = asyncio.get_running_loop().create_task(self._wait())

    def stop(self) -> None:
        """Forget everything."""
        self._heap.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _wait(self) -> None:
        while self._heap:
            self._next = self._heap[0][0]
            # A clock that was set ahead or back is asked again, instead of trusting the sleep.
            while (left := self._next - (now := self._clock.now())) > 0:
                seen, self._seen = self._seen, now
                if now < seen and self._turned_back is not None:
                    self._turned_back()
                await self._clock.sleep(min(left / 1_000_000, 60.0))
            due: set[str | None] = set()
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                due.add(heapq.heappop(self._heap)[1] or None)
            self._ring(due)
