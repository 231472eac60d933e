"""The original chunks of a stream that is being made in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SPENT = 256
"""So many chunks a reader takes at a time, and so many that no one can read are let go of."""


class Holder(Protocol):
    """Someone who can still read chunks."""

    @property
    def origin(self) -> Holder:
        """Return who would read the stream from its new beginning."""
        ...


class Tape:
    """The chunks of a stream that someone in this process can still read.

    Attributes:
        first: the number of the first chunk that is here.
        recorded: how many chunks are in the store.
        generation: how often the stream has begun; None until the store has said so.
        is_over: nothing is added any more.
        has_ended: it is complete.
        successor: the tape on which the stream began anew.
    """

    def __init__(self) -> None:
        self.first = 0
        self.recorded = 0
        self.generation: int | None = None
        self.is_over = False
        self.has_ended = False
        self.successor: Tape | None = None
        self._chunks: list[Any] = []
        self._places: WeakKeyDictionary[Holder, int] = WeakKeyDictionary()
        self._readers: WeakSet[Holder] = WeakSet()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def count(self) -> int:
        """Return how many chunks the stream has so far."""
        return self.first + len(self._chunks)

    # --- those who make it ---------------------------------------------------------------

    def add(self, chunk: Any) -> None:
        """Put a chunk behind the others."""
        self._chunks.append(chunk)
        if self._waiting:
            self._wake()

    def end(self, *, is_complete: bool) -> None:
        """Say that nothing comes any more."""
        self.is_over = True
        self.has_ended = is_complete
        self._wake()

    def restart(self, successor: Tape) -> None:
        """Say that the stream has begun anew; who may read this one may read that one."""
        self.successor = successor
        for reader in self._readers:
            successor.keep(reader, 0)
        self._chunks.clear()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # --- those who read it ---------------------------------------------------------------

    def newest(self) -> Tape:
        """Return the tape of the stream's newest beginning."""
        tape = self
        while tape.successor is not None:
            tape = tape.successor
        return tape

    def keep(self, reader: Holder, place: int) -> None:
        """Keep the chunks from a place on for a reader, as long as that lives."""
        self._places[reader] = place
        self._readers.add(reader.origin)

    def release(self, reader: Holder) -> None:
        """Keep nothing for a reader any more."""
        self._places.pop(reader, None)

    def trim(self) -> None:
        """Let go of chunks that are in the store and that no one has left to read."""
        spent = min(self._places.values(), default=self.recorded)
        spent = min(spent, self.recorded) - self.first
        if spent >= min(MOST_SPENT, len(self._chunks)):
            del self._chunks[:spent]
            self.first += spent

    def chunks(self, offset: int) -> Sequence[Any]:
        """Return some chunks from an offset on; it is not before ``first``."""
        start = offset - self.first
        return self._chunks[start : start + MOST_SPENT]

    def more(self) -> asyncio.Future[None]:
        """Return what is done when there is more to say."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future
