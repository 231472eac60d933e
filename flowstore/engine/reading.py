"""Reading a stream: from this process's memory as far as that has it, else from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flowstore.door import decode_json
from flowstore.engine.tape import MOST_SPENT
from flowstore.engine.watch import Waiter
from flowstore.errors import StreamFailedError, StreamRestartedError
from flowstore.store.base import SETTLED, STREAM_ENDED, STREAM_FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.engine.attendance import Attendance
    from flowstore.engine.tape import Tape
    from flowstore.store.base import Store, StreamRecord

_PAGE = 16
"""Rows of chunks that are read at a time; a row is small or a single chunk."""


class Home(Protocol):
    """Where streams are made in this process."""

    store: Store

    @property
    def attendance(self) -> Attendance:
        """Return where to wait for what others do."""
        ...

    def live(self, name: str, stream_id: str) -> Tape | None:
        """Return the tape of a stream that is being made here."""
        ...


class Recorded:
    """A stream that is in the store. Implements `flowstore.stream.Source`.

    Args:
        tape: the original chunks, for those who hold this from the beginning.
    """

    __slots__ = ("__weakref__", "_tape", "home", "name", "stream_id")

    def __init__(self, home: Home, name: str, stream_id: str, tape: Tape | None) -> None:
        self.home = home
        self.name = name
        self.stream_id = stream_id
        self._tape = tape
        if tape is not None:
            tape.keep(self, 0)

    def read(self, offset: int) -> Reading:
        """Return an iterator over the chunks from an offset on."""
        tape = self.home.live(self.name, self.stream_id)
        if tape is None and self._tape is not None:
            tape = self._tape.newest()
        self._tape = tape
        reading = Reading(self, tape, offset)
        if tape is not None:
            tape.release(self)
        return reading

    @property
    def origin(self) -> Recorded:
        """Return who would read the stream from its new beginning."""
        return self

    def forget(self, generation: int) -> None:
        """The chunks in memory are void if they are of this beginning: it began anew elsewhere."""
        if self._tape is not None and self._tape.newest().generation == generation:
            self._tape = None


class Reading:
    """One iteration of a stream."""

    def __init__(self, source: Recorded, tape: Tape | None, offset: int) -> None:
        self._source = source
        self._tape = tape
        self._offset = self._kept = offset
        self._page: Sequence[Any] = ()
        self._next = 0
        self._generation: int | None = None
        self._is_over = False
        if tape is not None:
            tape.keep(self, offset)

    @property
    def origin(self) -> Recorded:
        """Return who would read the stream from its new beginning."""
        return self._source

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Any:
        if self._tape is not None and self._tape.successor is not None:
            self._restarted()
        if self._next >= len(self._page) and not await self._turn_page():
            self._is_over = True
            raise StopAsyncIteration
        chunk = self._page[self._next]
        self._next += 1
        return chunk

    async def _turn_page(self) -> bool:
        """Get further chunks; False at the end."""
        self._offset += len(self._page)
        self._page, self._next = (), 0
        while not self._is_over:
            tape = self._tape
            if tape is None or self._offset < tape.first:
                return await self._from_store()
            if tape.successor is not None:
                self._restarted()
            self._page = tape.chunks(self._offset)
            if self._page:
                self._let_go(tape)
                return True
            if tape.has_ended:
                return False
            if tape.is_over:  # what becomes of it is in the store
                self._generation = tape.generation
                self._leave(tape)
            else:
                await tape.more()
        return False

    def _let_go(self, tape: Tape) -> None:
        """Say how far this reader has come; not for every chunk, for that would cost as much."""
        here = self._offset + len(self._page)
        if here >= self._kept + MOST_SPENT:
            self._kept = here
            tape.keep(self, here)
            tape.trim()

    def _leave(self, tape: Tape) -> None:
        tape.release(self)
        self._tape = None

    def _restarted(self) -> None:
        self._is_over = True
        self._tape, self._page = None, ()
        raise StreamRestartedError(
            f"stream {self._source.stream_id!r} of run {self._source.name!r} began anew; "
            "iterate it again, from its new beginning"
        )

    # --- from the store --------------------------------------------------------------------

    async def _from_store(self) -> bool:
        found = await self._look()
        if found is not None:
            return found
        home = self._source.home
        with home.attendance.watch(Pulse(self._source.name)) as pulse:
            while found is None:
                pulse.calm()
                found = await self._look()
                if found is None:
                    await pulse.stirred()
        return found

    async def _look(self) -> bool | None:
        """Read on; False at the end, None if there is nothing more for now."""
        source = self._source
        record = await source.home.store.reader.read_stream(
            source.name, source.stream_id, offset=self._offset, limit=_PAGE
        )
        if record is None:
            return None
        if self._generation is None:
            self._generation = record.generation
        elif self._generation != record.generation:
            source.forget(self._generation)
            self._restarted()
        self._page = _chunks(record, self._offset)
        if self._page:
            return True
        if record.status == STREAM_ENDED:
            return False
        self._check_life(record)
        return None

    def _check_life(self, record: StreamRecord) -> None:
        problem: str | None = None
        if record.status == STREAM_FAILED:
            problem = f"broke off: {record.error}"
        elif record.run_status in SETTLED:
            problem = f"was left unfinished: its run is {record.run_status}"
        if problem is not None:
            self._is_over = True
            source = self._source
            raise StreamFailedError(f"stream {source.stream_id!r} of run {source.name!r} {problem}")


def _chunks(record: StreamRecord, offset: int) -> list[Any]:
    found: list[Any] = []
    for first, text in record.pages:
        chunks: list[Any] = decode_json(text)
        found += chunks[max(0, offset - first) :]
    return found


class Pulse(Waiter):
    """Waits until a stream, or its run, may have changed."""

    def __init__(self, correlation_id: str) -> None:
        super().__init__(correlation_id, 0)

    def settle(self, head: int) -> None:
        """Say that the run has settled."""
        super().settle(head)
        self.look()

    def moved(self) -> None:
        """Say that a stream of the run has changed."""
        self.look()

    def calm(self) -> None:
        """Count only what is said from here on."""
        self._must_look = False

    async def stirred(self) -> None:
        """Return when something has been said."""
        while not self._must_look:
            if self._error is not None:
                raise self._error
            await self._asleep()
