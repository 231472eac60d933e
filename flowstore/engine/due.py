"""When something is due: the moment that ``delay=`` or ``at=`` stands for."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from flowstore.clock import to_microseconds
from flowstore.errors import ConfigurationError

_LATEST: Final = 2**62  # microseconds since 1970: beyond every datetime, within 64 bits


def due_at(now: int, delay: float | timedelta | None, at: datetime | None) -> int:
    """Return the moment in microseconds since 1970.

    Args:
        now: in microseconds since 1970.
        delay: seconds, or a timedelta.
        at: with timezone; one that has passed is due at once.

    Raises:
        ConfigurationError: neither or both are given, or they make no sense.
    """
    if (delay is None) == (at is None):
        raise ConfigurationError("give either delay= or at=, one of them")
    if at is not None:
        if not isinstance(at, datetime) or at.tzinfo is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"at={at!r}: a datetime with a timezone, such as UTC")
        return to_microseconds(at)
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not delay < math.inf:
        raise ConfigurationError(f"delay={delay!r}: seconds, or a timedelta")
    if delay < 0:
        raise ConfigurationError(f"delay={delay!r}: it cannot be negative; use at= for the past")
    # Compared before it is multiplied: an int can be larger than every float.
    return min(now + round(min(delay, _LATEST) * 1_000_000), _LATEST)
