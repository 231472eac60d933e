"""How often tasks may start."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

from flowstore.errors import ConfigurationError

_RATE: Final = re.compile(r"([1-9]\d{0,6})/(s|min|h)")
_SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """How many tasks may start in any span of this many seconds."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: object) -> Rate:
        """Read ``"60/min"``: a number, a slash, and ``s``, ``min`` or ``h``.

        Raises:
            ConfigurationError: it is something else.
        """
        match = _RATE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ConfigurationError(
                f'rate={text!r}: write how many may start in which time, as in "60/min"; '
                "the units are s, min and h"
            )
        return cls(int(match[1]), _SECONDS[match[2]])


class Limiter:
    """Keeps starts to a rate: at most so many in any span of time, by a clock's microseconds.

    When the clock is set back, starts that then lie in the future do not count: nothing waits
    for the time to come that has been before.
    """

    def __init__(self, rate: Rate) -> None:
        self._most = rate.count
        self._span = round(rate.seconds * 1_000_000)
        self._starts: deque[int] = deque()

    def wait(self, now: int) -> int:
        """Return how long the next start has to wait, in microseconds; 0 if it may be now."""
        starts = self._starts
        while starts and starts[-1] > now:
            starts.pop()
        while starts and starts[0] <= now - self._span:
            starts.popleft()
        return starts[0] + self._span - now if len(starts) >= self._most else 0

    def start(self, now: int) -> None:
        """Take note of a start."""
        self._starts.append(now)
