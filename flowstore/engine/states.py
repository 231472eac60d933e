"""States of runs that have settled lately: the next event need not load them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstore.state import State

MOST_STATES = 4096
MOST_BYTES = 64 * 1024 * 1024
"""What is kept at most, in bytes of JSON."""


class StateCache:
    """The least recently settled go first; a lease tells whether what is here is still true."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, tuple[int, State]] = OrderedDict()
        self._bytes = 0

    def put(self, name: str, version: int, state: State) -> None:
        """Keep the state of a run that has just been given back."""
        self._states[name] = (version, state)
        self._bytes += state.saved_bytes
        while len(self._states) > MOST_STATES or self._bytes > MOST_BYTES:
            _, (_, oldest) = self._states.popitem(last=False)
            self._bytes -= oldest.saved_bytes

    def discard(self, name: str) -> None:
        """Forget the state: from now on it changes."""
        kept = self._states.pop(name, None)
        if kept is not None:
            self._bytes -= kept[1].saved_bytes

    def get(self, name: str) -> tuple[int, State | None]:
        """Return the state that is here and its version, -1 for none."""
        return self._states.get(name, (-1, None))

    def items(self) -> dict[str, tuple[int, State | None]]:
        """Return every state that is here, with its version."""
        return dict(self._states)
