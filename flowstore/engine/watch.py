"""Watchers: whoever iterates a run's events while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from flowstore.errors import RunNotFoundError
from flowstore.store.base import SETTLED

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping, Sequence

    from flowstore.store.base import Reader, StoredEvent
    from flowstore.stream import Stream

_PAGE = 500


class Watcher:
    """Follows one run: fed from memory where it is handled here, else by looking again.

    Args:
        position: events up to here are not wanted.
    """

    shows_events = True
    """Whether anyone gets to see the events, and so the streams that they have."""

    def __init__(self, correlation_id: str, position: int) -> None:
        self.correlation_id = correlation_id
        self.position = position
        self.held: dict[str, Mapping[str, Stream]] = {}
        """Streams with their original chunks, by the ids of events that are still to be shown."""
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

    def hold(self, event_id: str, streams: Mapping[str, Stream]) -> bool:
        """Keep the streams of an event that is about to be appended, if they are not here."""
        return self.held.setdefault(event_id, streams) is streams

    def moved(self) -> None:
        """Say that a stream of the run has changed; its events have not."""

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

    async def next(self, reader: Reader) -> StoredEvent | None:
        """Return the next event, each once and in order; None when the run has settled."""
        while True:
            fed = self._fed
            while fed:
                if fed[0].position > self.position + 1:
                    await self._fill(reader, fed[0].position - 1)
                event = fed.popleft()
                if event.position > self.position:
                    self.position = event.position
                    return event
            if self._settled_head is not None:
                if self.position == self._settled_head:
                    return None
                if self.position < self._settled_head:
                    await self._fill(reader, self._settled_head)
                else:  # that was before the event from which on this one watches
                    self._settled_head = None
            elif self._error is not None:
                raise self._error
            elif self._must_look:
                self._must_look = False
                await self._look(reader)
            else:
                await self._asleep()

    def _asleep(self) -> asyncio.Future[None]:
        """Return what is done when something has been said."""
        self._wake = asyncio.get_running_loop().create_future()
        return self._wake

    async def _look(self, reader: Reader) -> None:
        run = await reader.get_run(self.correlation_id)
        if run is None:
            return
        if self.position < run.head:
            await self._fill(reader, run.head)
        if run.status in SETTLED:
            self._settled_head = run.head

    async def _fill(self, reader: Reader, until: int) -> None:
        """Put a page of what was missed before what has been fed."""
        page = await reader.read_events(
            self.correlation_id, after=self.position, until=until, limit=_PAGE
        )
        if not page:
            message = f"run {self.correlation_id!r} has no events behind {self.position}"
            raise RunNotFoundError(message)
        if page[-1].position < until:
            self._must_look = True
        self._fed.extendleft(reversed(page))


class Waiter(Watcher):
    """Waits until a run has settled, without looking at its events."""

    shows_events = False
    was_left_out = False
    """A claim has come back without the run: before that a dead worker may still have it."""

    def feed(self, event: StoredEvent) -> None:
        """Events do not matter here."""

    async def wait(self, reader: Reader, worker_id: str | None = None) -> bool:
        """Return true when the run has settled.

        Args:
            reader: where to look when the run is handled elsewhere.
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
                is_free = worker_id is None or run.owner in (None, worker_id)
                if self.was_left_out and not is_free:
                    return False
            else:
                await self._asleep()
        return True


AnyWatcher = TypeVar("AnyWatcher", bound=Watcher)


class Watchers:
    """Who watches which run."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Watcher]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    @contextlib.contextmanager
    def add(self, watcher: AnyWatcher) -> Generator[AnyWatcher]:
        """Feed a watcher for as long as the block lasts."""
        self.enter(watcher)
        try:
            yield watcher
        finally:
            self.leave(watcher)

    def enter(self, watcher: Watcher) -> None:
        """Feed a watcher until it leaves."""
        self._by_name.setdefault(watcher.correlation_id, []).append(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Feed a watcher no longer."""
        watchers = self._by_name[watcher.correlation_id]
        watchers.remove(watcher)
        if not watchers:
            del self._by_name[watcher.correlation_id]

    def feed(self, name: str, events: Iterable[StoredEvent]) -> None:
        """Show events that have just been appended."""
        watchers = self._by_name.get(name)
        if watchers:
            for event in events:
                for watcher in watchers:
                    watcher.feed(event)

    def settle(self, name: str, head: int) -> None:
        """Say that a run has settled."""
        for watcher in self._by_name.get(name, ()):
            watcher.settle(head)

    def fail(self, name: str, error: BaseException) -> None:
        """Say that a run cannot go on here."""
        for watcher in self._by_name.get(name, ()):
            watcher.fail(error)

    def fail_all(self, error: BaseException) -> None:
        """Say that nothing goes on here."""
        for name in self._by_name:
            self.fail(name, error)

    def of(self, name: str) -> Sequence[Watcher]:
        """Return those who watch a run."""
        return self._by_name.get(name, ())

    def moved(self, name: str) -> None:
        """Say that a stream of a run has changed."""
        for watcher in self._by_name.get(name, ()):
            watcher.moved()

    def look(self, name: str) -> None:
        """Have those who watch a run look in the store."""
        for watcher in self._by_name.get(name, ()):
            watcher.look()

    def leave_out(self, name: str) -> None:
        """Say that a run was not to be had."""
        for watcher in self._by_name.get(name, ()):
            if isinstance(watcher, Waiter):
                watcher.was_left_out = True
            watcher.look()

    def look_beyond(self, active: Collection[str]) -> None:
        """Have everyone look whose run is not handled here."""
        for name in self._by_name:
            if name not in active:
                self.look(name)
