"""For tests of code that uses flowstore: a clock that moves when it is told to, and crashes."""

from flowstore.testing.clock import VirtualClock
from flowstore.testing.faults import crash

__all__ = ["VirtualClock", "crash"]
