"""Streams of this process: those that are made here, and what events have of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from flowstore.door import child
from flowstore.engine.pump import Pump, Unread
from flowstore.engine.reading import Recorded
from flowstore.engine.tape import Tape
from flowstore.errors import ConfigurationError, EventTypeError, StoreError
from flowstore.events import WorkflowEvent
from flowstore.store.base import NewEvent
from flowstore.stream import Stream, event_id, marked, marks, sources_of, stream_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Mapping, Sequence

    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.attendance import Attendance
    from flowstore.engine.surroundings import Surroundings
    from flowstore.engine.watch import Watcher, Watchers
    from flowstore.routing import Handler
    from flowstore.store.base import Committed, Store, StoredEvent


class Host(Protocol):
    """What streams need of the engine."""

    store: Store
    codec: Codec
    loop: asyncio.AbstractEventLoop
    attendance: Attendance

    def announce(
        self, run: ActiveRun, event: NewEvent, *, repeats: bool
    ) -> asyncio.Future[Committed]:
        """Append an event now."""
        ...


class Streams:
    """The streams that are made in this process, and whoever reads streams here."""

    def __init__(self, host: Host, watchers: Watchers) -> None:
        self.store = host.store
        self.codec = host.codec
        self.loop = host.loop
        self._host = host
        self._watchers = watchers
        self._tapes: WeakValueDictionary[tuple[str, str], Tape] = WeakValueDictionary()

    @property
    def attendance(self) -> Attendance:
        """Return where to wait for what others do."""
        return self._host.attendance

    # --- making them -------------------------------------------------------------------------

    def prepare(
        self, run: ActiveRun, event: NewEvent, sources: Mapping[str, AsyncIterable[Any]]
    ) -> list[Pump]:
        """Return what makes the streams of an event; nothing has begun yet."""
        pumps: list[Pump] = []
        for key, source in sources.items():
            stream = stream_id(event.id, key)
            place = (run.correlation_id, stream)
            tape, before = Tape(), self._tapes.get(place)
            if before is not None:
                before.restart(tape)
            self._tapes[place] = tape
            path = child("data", key)
            pumps.append(Pump(self, run, stream, path=path, source=source, tape=tape))
        return pumps

    def begin(
        self, run: ActiveRun, event: NewEvent, pumps: Sequence[Pump | Unread], *, repeats: bool
    ) -> None:
        """Begin the streams of an event, and append it, for everyone to see."""
        made = [pump for pump in pumps if isinstance(pump, Pump)]
        for pump in made:
            pump.begin()
        name = run.correlation_id
        holding: list[Watcher] = []
        for watcher in self._watchers.of(name):
            if not watcher.shows_events:
                continue
            held = {pump.id: self._stream(name, pump.id, pump.tape) for pump in made}
            if watcher.hold(event.id, held):
                holding.append(watcher)

        def announced(appended: asyncio.Future[Committed]) -> None:
            problem = StoreError() if appended.cancelled() else appended.exception()
            if problem is not None:
                for pump in made:
                    pump.break_off(problem)
            if problem is not None or not appended.result().events:
                for watcher in holding:  # it is in the log already, and is not shown again
                    watcher.held.pop(event.id, None)

        self._host.announce(run, event, repeats=repeats).add_done_callback(announced)

    def moved(self, run: ActiveRun) -> None:
        """Tell those who read the store that a stream has changed."""
        self._watchers.moved(run.correlation_id)

    # --- reading them ------------------------------------------------------------------------

    def live(self, name: str, stream_id: str) -> Tape | None:
        """Return the tape of a stream that is being made here."""
        tape = self._tapes.get((name, stream_id))
        return None if tape is None or tape.is_over else tape

    def event(
        self, stored: StoredEvent, name: str, held: Mapping[str, Stream] | None = None
    ) -> WorkflowEvent:
        """Return an event of the log as users get it.

        Args:
            stored: the event.
            name: its run.
            held: streams whose original chunks were kept for this user, by id.
        """
        event = self.codec.event(stored, name)
        if "/c" not in stored.id:  # the usual case: `marks` would cost three calls an event
            return event
        for key, stream in marks(stored.id, event.data).items():
            known = None if held is None else held.get(stream)
            event.data[key] = known or self._stream(name, stream, self.live(name, stream))
        return event

    def recorded(self, name: str, stream_id: str) -> Stream:
        """Return a stream as it is, or will be, recorded; no chunks are kept for it."""
        return self._stream(name, stream_id, None)

    def _stream(self, name: str, stream_id: str, tape: Tape | None) -> Stream:
        return Stream(stream_id, Recorded(self, name, stream_id, tape))


class Streaming:
    """The streams of one attempt of a handler.

    Attributes:
        begun: how many streams the handler has emitted.
        count: how many events with streams.
        has_broken: the handler failed of what an iterator raised.
    """

    __slots__ = (
        "_around",
        "_handler",
        "_is_over",
        "_pumps",
        "_run",
        "_stored",
        "begun",
        "count",
        "has_broken",
    )

    def __init__(
        self,
        around: Surroundings,
        run: ActiveRun,
        stored: StoredEvent,
        handler: Handler,
    ) -> None:
        self._around = around
        self._run = run
        self._stored = stored
        self._handler = handler
        self.count = 0
        self._pumps: list[Pump | Unread] = []
        self._is_over = False
        self.begun = 0
        self.has_broken = False

    def emit(self, event: WorkflowEvent, *, is_replayed: bool, repeats: bool) -> None:
        """Take an event with streams through the door, and begin with them.

        Args:
            event: has an async iterator in its data.
            is_replayed: what the handler does has been recorded before; the iterators are
                closed unread.
            repeats: the event may be in the log.

        Raises:
            InvalidValueError: something else in the event cannot be stored.
            EventTypeError: the event has an id of its own, or is one of a class.
        """
        around, stored, run = self._around, self._stored, self._run
        if around.codec.types.type_for(event.name) is not None:
            raise EventTypeError(
                f"{event.name!r} is the name of a class, whose objects cannot have streams; "
                "emit the stream under another name"
            )
        if event.correlation_id not in (None, run.correlation_id):
            raise EventTypeError(f"{event.name!r}: a handler emits into its own run")
        sources = sources_of(event)
        new_id = event_id(stored.position, self._handler.name, self.count + 1)
        data = marked(event, new_id, sources)
        shown = WorkflowEvent(event.name, data, event.metadata, event.error)
        encoded = around.codec.encode(shown)
        self.count += 1
        self.begun += len(sources)
        new = NewEvent(new_id, *encoded, stored.id, around.clock.now(), None)
        for key in sources:  # the handler may want what it has shown, and in a replay, too
            event.data[key] = around.streams.recorded(run.correlation_id, stream_id(new_id, key))
        if is_replayed:
            self._start(lambda: self._close(sources))
        else:
            self._start(lambda: self._begin(new, sources, repeats=repeats))

    def _start(self, action: Callable[[], None]) -> None:
        loop = self._around.loop
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:  # in a thread
            is_here = False
        if is_here:
            action()
        else:
            loop.call_soon_threadsafe(action)

    def _begin(
        self, new: NewEvent, sources: Mapping[str, AsyncIterable[Any]], *, repeats: bool
    ) -> None:
        if self._is_over:
            return
        streams, run = self._around.streams, self._run
        pumps = streams.prepare(run, new, sources)
        self._pumps += pumps
        streams.begin(run, new, pumps, repeats=repeats)

    def _close(self, sources: Mapping[str, AsyncIterable[Any]]) -> None:
        unread = [Unread(self._around.loop, source) for source in sources.values()]
        self._pumps += unread
        for each in unread:
            each.begin()

    async def drain(self, first: int = 0) -> None:
        """Return when the streams behind the first so many are in the store, to their ends."""
        for pump in self._pumps[first:]:
            if pump.task is asyncio.current_task():
                raise ConfigurationError("a stream's iterator cannot wait for the stream's end")
            if pump.task is not None:
                try:
                    await pump.task
                except Exception:
                    self.has_broken = True
                    raise

    async def stop(self) -> None:
        """Break off what has not come to its end."""
        self._is_over = True
        tasks = [pump.task for pump in self._pumps if pump.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, text: str) -> None:
        """Record that streams have broken off for good; those that have ended stay as they are."""
        for pump in self._pumps:
            pump.fail(text)
