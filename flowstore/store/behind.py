"""What a parked handler has behind it, as its row names it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Behind(NamedTuple):
    """What a parked handler has behind it.

    Attributes:
        waits: what ended its earlier waits: the event's position, and the run's last transition
            when the handler went on from there; None if it had not been parked for it.
        collected: what its calls of ``ctx.collect`` gave: positions, or None.
        times: how often it has put its event off.
    """

    waits: list[tuple[int, int | None]]
    collected: list[list[int] | None]
    times: int = 0

    @classmethod
    def read(cls, text: str) -> Behind:
        """Read the cell of the row."""
        waits, collected, times = json.loads(text)
        return cls([(position, number) for position, number in waits], collected, times)

    def text(self) -> str:
        """Return the cell of the row."""
        return json.dumps(self, separators=(",", ":"))

    def places(self) -> Iterator[int]:
        """Return the positions of all events that are named."""
        yield from (position for position, _ in self.waits)
        for positions in self.collected:
            yield from positions or ()
