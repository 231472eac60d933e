"""Watchers: whoever iterates a run's events while it goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from flowstore.store.base import SETTLED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowstore.store.base import Reader, StoredEvent

_PAGE = 500


class Watcher:
    """Follows one run: fed from memory where it is handled here, else by looking again.

    Args:
        position: events up to here are not wanted.
    """

    def __init__(self, correlation_id: str, position: int) -> None:
        self.correlation_id = correlation_id
        self.position = position
        self._fed: deque[StoredEvent] = deque()
        self._settled_head: int | None = None
        self._must_look = False
        self._error: BaseException | None = None
        self._wake: asyncio.Future[None] | None = None

    # --- fed by the engine -------------------------------------------------------------

    def start_at(self, position: int) -> None:
        """Watch from this position on; what the run came to before it does not matter."""
        self.position = position - 1
        if self._settled_head is not None and self._settled_head < position:
            self._settled_head = None

    def feed(self, event: StoredEvent) -> None:
        """Show an event that has just been appended."""
        self._fed.append(event)
        self._stir()

    def settle(self, head: int) -> None:
        """Say that the run has settled with this head."""
        self._settled_head = head
        self._stir()

    def look(self) -> None:
        """Say that the store may have more."""
        self._must_look = True
        self._stir()

    def fail(self, error: BaseException) -> None:
        """Say that the run cannot go on here."""
        self._error = error
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # --- read by the one who watches -----------------------------------------------------

    async def events(self, reader: Reader) -> AsyncIterator[StoredEvent]:
        """Yield events in order, each once, until the run has settled."""
        while True:
            while self._fed:
                event = self._fed.popleft()
                if event.position > self.position + 1:
                    async for missed in self._read(reader, event.position - 1):
                        yield missed
                if event.position > self.position:
                    self.position = event.position
                    yield event
            if self._settled_head is not None:
                head, self._settled_head = self._settled_head, None
                if head < self.position:
                    continue  # that was before the event from which on this one watches
                if self.position < head:
                    async for missed in self._read(reader, head):
                        yield missed
                if not self._fed:
                    return
            elif self._error is not None:
                raise self._error
            elif self._must_look:
                self._must_look = False
                async for missed in self._look(reader):
                    yield missed
            elif not self._fed:
                await self._sleep()

    async def _sleep(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    async def _look(self, reader: Reader) -> AsyncIterator[StoredEvent]:
        run = await reader.get_run(self.correlation_id)
        if run is None:
            return
        async for event in self._read(reader, run.head):
            yield event
        if run.status in SETTLED and self.position >= run.head:
            self._settled_head = run.head

    async def _read(self, reader: Reader, until: int) -> AsyncIterator[StoredEvent]:
        while self.position < until:
            page = await reader.read_events(
                self.correlation_id, after=self.position, until=until, limit=_PAGE
            )
            if not page:
                return
            for event in page:
                self.position = event.position
                yield event


class Waiter(Watcher):
    """Waits until a run has settled, without looking at its events."""

    def feed(self, event: StoredEvent) -> None:
        """Events do not matter here."""

    async def wait(self, reader: Reader, worker_id: str | None = None) -> bool:
        """Return true when the run has settled.

        Args:
            worker_id: give up, returning false, when another worker has the run.
        """
        while self._settled_head is None:
            if self._error is not None:
                raise self._error
            if self._must_look:
                self._must_look = False
                run = await reader.get_run(self.correlation_id)
                if run is None or run.status in SETTLED:
                    return True
                if worker_id is not None and run.owner not in (None, worker_id):
                    return False
            else:
                await self._sleep()
        return True
