"""States of runs that have settled lately: the next event need not load them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstore.state import State

MOST_LIVE = 1024
"""States kept as they are; older ones are packed."""

MOST_STATES = 16_384
MOST_BYTES = 64 * 1024 * 1024
"""What is kept at most, in bytes of JSON."""


class StateCache:
    """The least recently settled go first; a lease tells whether what is here is still true.

    What is here may be packed: call `State.unpack` before it is used.
    """

    def __init__(self) -> None:
        self._live: OrderedDict[str, tuple[int, State]] = OrderedDict()
        self._packed: OrderedDict[str, tuple[int, State]] = OrderedDict()
        self._bytes = 0

    def put(self, name: str, version: int, state: State) -> None:
        """Keep the state of a run that has just been given back."""
        self._live[name] = (version, state)
        self._bytes += state.saved_bytes
        if len(self._live) > MOST_LIVE:
            oldest, kept = self._live.popitem(last=False)
            kept[1].pack()
            self._packed[oldest] = kept
        while len(self._packed) > MOST_STATES or self._bytes > MOST_BYTES:
            _, (_, forgotten) = (self._packed or self._live).popitem(last=False)
            self._bytes -= forgotten.saved_bytes

    def discard(self, name: str) -> None:
        """Forget the state: from now on it changes."""
        kept = self._live.pop(name, None) or self._packed.pop(name, None)
        if kept is not None:
            self._bytes -= kept[1].saved_bytes

    def get(self, name: str) -> tuple[int, State | None]:
        """Return the state that is here and its version, -1 for none."""
        kept = self._live.get(name) or self._packed.get(name)
        return kept or (-1, None)

    def items(self) -> dict[str, tuple[int, State | None]]:
        """Return every state that is here, with its version."""
        return {**self._packed, **self._live}
