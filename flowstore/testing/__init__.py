"""For tests of code that uses flowstore: a clock that moves only when it is told to."""

from flowstore.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
