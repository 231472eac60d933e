"""Makes a stream: takes the chunks from the handler's iterator, and has them recorded.

Chunks are shown to readers in this process at once. Those that gather while others are being
written go to the store together, so the number of transactions does not grow with their number.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from flowstore.errors import InvalidValueError
from flowstore.store.base import (
    STREAM_ENDED,
    STREAM_FAILED,
    STREAM_OPEN,
    AddChunks,
    BeginStream,
    ChunkRow,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.tape import Tape
    from flowstore.store.base import Store, StreamRow

PACE_SECONDS = 0.02
"""From one write to the next at least: no other process looks more often."""

_TURN_CHUNKS = 64
_TURN_BYTES = 64 * 1024
"""An iterator that never waits lets others have their turn after so many chunks or bytes."""

_ROW_BYTES = 256 * 1024
"""A row has no more chunks than fit into this, or one."""

_MOST_BYTES = 8 * 1024 * 1024
"""What may gather before an iterator that is faster than the disk has to wait."""


class Mill(Protocol):
    """What a pump needs of the engine."""

    store: Store
    codec: Codec
    loop: asyncio.AbstractEventLoop

    def moved(self, run: ActiveRun) -> None:
        """Tell those who read the store that a stream has changed."""
        ...


class Pump:
    """Makes one stream.

    Args:
        path: where the iterator is in the event, for messages.
        source: the iterator.
        tape: where the chunks are for readers in this process.

    Attributes:
        id: the stream's name in its run.
        task: what takes the chunks; None before it has begun.
    """

    def __init__(
        self,
        mill: Mill,
        run: ActiveRun,
        stream_id: str,
        *,
        path: str,
        source: AsyncIterable[Any],
        tape: Tape,
    ) -> None:
        self._mill = mill
        self._run = run
        self.id = stream_id
        self._path = path
        self._source = source
        self.tape = tape
        self._written = 0
        self._texts: list[str] = []
        self._bytes = 0
        self._in_flight = 0
        self._next_write = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None
        self._problem: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    # --- for the attempt -----------------------------------------------------------------

    def begin(self) -> None:
        """Record that the stream has begun, and start."""
        run = self._run
        self._mill.store.submit(BeginStream(run.id, run.epoch, self.id), self._begun)
        self.task = self._mill.loop.create_task(self._work())

    def fail(self, text: str) -> None:
        """Record that the stream has broken off for good, if it has not come to its end."""
        if not self.tape.has_ended:
            self.tape.end(is_complete=False)
            self._submit(self._take_rows(), STREAM_FAILED, text)

    # --- the iterator ----------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            await self._drain()
            await self._finish()
        except asyncio.CancelledError:
            if self._problem is not None:
                raise self._problem from None
            raise
        except BaseException:
            self._write()  # it may take long until the handler is tried again
            raise
        finally:
            self._stop_timer()
            if not self.tape.is_over:
                self.tape.end(is_complete=False)
            await close(self._source)

    async def _drain(self) -> None:
        add, encode, path = self.tape.add, self._mill.codec.encode_chunk, self._path
        count = turn = 0  # locals, as this is done for every chunk
        self._source = aiter(self._source)
        async for chunk in self._source:
            try:
                text = encode(chunk, path)
            except InvalidValueError as error:
                place = f"{path}[{count}]{error.path.removeprefix(path)}"
                raise type(error)(place, error.problem) from None
            count += 1
            add(chunk)
            self._texts.append(text)
            self._bytes += len(text)
            turn += len(text)
            if self._timer is None and self._in_flight == 0:
                self._write_in_time()
            if turn > _TURN_BYTES or count % _TURN_CHUNKS == 0:
                turn = 0
                if self._bytes > _MOST_BYTES:
                    await self._wait_for_room()
                else:
                    await asyncio.sleep(0)

    async def _wait_for_room(self) -> None:
        self._write()
        self._room = self._mill.loop.create_future()
        await self._room

    async def _finish(self) -> None:
        """Record the last chunks and the end; return when they are on the disk."""
        done: asyncio.Future[None] = self._mill.loop.create_future()
        self._room = done
        self._stop_timer()
        self._submit(self._take_rows(), STREAM_ENDED)
        while self._in_flight:
            await done
            self._room = done = self._mill.loop.create_future()
        self.tape.end(is_complete=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the store -------------------------------------------------------------------------

    def _write_in_time(self) -> None:
        """Write what has gathered, but not too soon after the last time."""
        now = self._mill.loop.time()
        if now >= self._next_write:
            self._write()
        else:
            self._timer = self._mill.loop.call_at(self._next_write, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        if self._texts:
            self._next_write = self._mill.loop.time() + PACE_SECONDS
            self._submit(self._take_rows(), STREAM_OPEN)

    def _take_rows(self) -> list[ChunkRow]:
        rows: list[ChunkRow] = []
        first, size, texts = self._written, 0, list[str]()
        for text in self._texts:
            if texts and size + len(text) > _ROW_BYTES:
                rows.append(self._row(first, texts))
                first, size, texts = first + len(texts), 0, []
            texts.append(text)
            size += len(text)
        if texts:
            rows.append(self._row(first, texts))
        self._written += len(self._texts)
        self._texts, self._bytes = [], 0
        return rows

    def _row(self, first: int, texts: list[str]) -> ChunkRow:
        return ChunkRow(self._run.id, self.id, first, f"[{','.join(texts)}]")

    def _submit(self, rows: list[ChunkRow], status: str, error: str | None = None) -> None:
        run, count = self._run, self._written
        self._in_flight += 1

        def deliver(_result: None, problem: BaseException | None) -> None:
            self._in_flight -= 1
            if problem is not None:
                self.break_off(problem)
                return
            tape = self.tape
            tape.recorded = count
            tape.trim()
            self._mill.moved(run)
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            if self._texts and self._timer is None and not (self._in_flight or tape.is_over):
                self._write_in_time()

        operation = AddChunks(run.id, run.epoch, self.id, rows, count, status, error)
        self._mill.store.submit(operation, deliver)

    def _begun(self, row: StreamRow | None, problem: BaseException | None) -> None:
        if row is None:
            self.break_off(problem)
            return
        self.tape.generation = row.generation
        self._mill.moved(self._run)

    def break_off(self, problem: BaseException | None) -> None:
        """The store failed, which is not the handler's fault: stop here."""
        if self.tape.is_over or problem is None:
            return
        self._problem = self._run.error = problem
        if self.task is not None:
            self.task.cancel()


class Unread:
    """Stands for the pump of a stream that was made before: its iterator is closed unread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: AsyncIterable[Any]) -> None:
        self._loop = loop
        self._source = source
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Close the iterator."""
        self.task = self._loop.create_task(close(self._source))

    def fail(self, text: str) -> None:
        """There is nothing to fail."""


async def close(source: AsyncIterable[Any]) -> None:
    """Close an iterator, if that can be done."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()
