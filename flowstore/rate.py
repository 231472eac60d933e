"""How often tasks may start."""

from __future__ import annotations

import re
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
