"""Where the engine gets time, ids and randomness from, so that tests can inject their own."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Up to here, in the year 2106, a double has the seconds to a quarter of a microsecond, and
# the faster way of making a datetime rounds to the nearest.
_EXACT_AS_FLOAT = 2**32 * 1_000_000
_from_seconds = datetime.fromtimestamp


def to_datetime(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware datetime in UTC, exactly."""
    if 0 <= microseconds < _EXACT_AS_FLOAT:
        return _from_seconds(microseconds / 1_000_000, UTC)
    return EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(moment: datetime) -> int:
    """Turn an aware datetime into microseconds since 1970, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


class Clock(ABC):
    """The engine's only source of time, ids and randomness."""

    @abstractmethod
    def now(self) -> int:
        """Return the time in microseconds since 1970, UTC."""

    @abstractmethod
    def new_id(self) -> str:
        """Return an id that no one else has."""

    @abstractmethod
    def random(self, seed: str) -> random.Random:
        """Return a generator for this seed (a run, a position and a handler)."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return when this many seconds have passed."""


class SystemClock(Clock):
    """The machine's clock."""

    def now(self) -> int:
        """Return the time in microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def new_id(self) -> str:
        """Return a random UUID in hexadecimal."""
        return uuid.uuid4().hex

    def random(self, seed: str) -> random.Random:
        """Return a generator that gives the same numbers each time a handler is repeated."""
        return random.Random(seed)  # noqa: S311 - repeatable on purpose, never for secrets

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(max(0.0, seconds))
