"""Streams while a run is executed again: the recorded chunks; no iterator is read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.door import decode_json
from flowstore.engine.pump import Unread
from flowstore.errors import StreamFailedError
from flowstore.outside import refusal
from flowstore.store.base import STREAM_ENDED, STREAM_FAILED
from flowstore.stream import Stream, marks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
    from typing import Protocol

    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.pump import Pump
    from flowstore.events import WorkflowEvent
    from flowstore.replay.record import Record
    from flowstore.store.base import NewEvent, StoredEvent

    class Stage(Protocol):
        """What streams need of a replay."""

        codec: Codec
        loop: asyncio.AbstractEventLoop
        announced: list[NewEvent]


class Streams:
    """Implements `flowstore.engine.surroundings.StreamMaker` over the record.

    Args:
        live: names of events whose streams are really made.
    """

    def __init__(self, stage: Stage, record: Record, live: Collection[str]) -> None:
        self._stage = stage
        self._record = record
        self._live = live

    def event(self, stored: StoredEvent, name: str) -> WorkflowEvent:
        """Return an event as users get it, with the recorded chunks of its streams."""
        event = self._stage.codec.event(stored, name)
        if "/c" in stored.id:
            for key, stream in marks(stored.id, event.data).items():
                event.data[key] = self.recorded(name, stream)
        return event

    def recorded(self, name: str, stream_id: str) -> Stream:  # noqa: ARG002 - there is one run
        """Return a stream with its recorded chunks."""
        return Stream(stream_id, Chunks(self._record, stream_id))

    def prepare(
        self,
        run: ActiveRun,  # noqa: ARG002 - there is one
        event: NewEvent,
        sources: Mapping[str, AsyncIterable[Any]],
    ) -> Sequence[Pump | Unread]:
        """Return what closes the iterators unread, or reads them if that is wanted."""
        kind = _Read if event.name in self._live else Unread
        return [kind(self._stage.loop, source) for source in sources.values()]

    def begin(
        self,
        run: ActiveRun,  # noqa: ARG002 - there is one
        event: NewEvent,
        pumps: Sequence[Pump | Unread],
        *,
        repeats: bool,  # noqa: ARG002 - that is for the store
    ) -> None:
        """Take note of an event with streams."""
        for pump in pumps:
            pump.begin()
        self._stage.announced.append(event)


class _Read(Unread):
    """Reads an iterator to its end, unguarded; no one gets the chunks."""

    def begin(self) -> None:
        """Start reading."""
        self.task = self._loop.create_task(_drain(self._source))


async def _drain(source: AsyncIterable[Any]) -> None:
    refusal.set(None)  # in a task of its own, with a context of its own
    async for _ in source:
        pass


class Chunks:
    """The recorded chunks of a stream. Implements `flowstore.stream.Source`."""

    def __init__(self, record: Record, stream_id: str) -> None:
        self._record = record
        self._id = stream_id

    async def read(self, offset: int) -> AsyncIterator[Any]:
        """Yield the chunks from an offset on.

        Raises:
            StreamFailedError: the stream broke off behind them.
        """
        for row in self._record.chunks.get(self._id, ()):
            chunks: list[Any] = decode_json(row.data)
            for chunk in chunks[max(0, offset - row.first) :]:
                yield chunk
        stream = self._record.streams.get(self._id)
        if stream is None or stream.status != STREAM_ENDED:
            run = self._record.archive.run
            problem = f"was left unfinished: its run is {run.status}"
            if stream is not None and stream.status == STREAM_FAILED:
                problem = f"broke off: {stream.error or ''}"
            raise StreamFailedError(f"stream {self._id!r} of run {run.correlation_id!r} {problem}")
