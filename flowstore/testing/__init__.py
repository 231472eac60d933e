"""For tests of code that uses flowstore: a clock to move, crashes, and recorded runs as tests."""

from flowstore.testing.clock import VirtualClock
from flowstore.testing.faults import crash
from flowstore.testing.recorded import RecordedRun, assert_replays, recorded_runs

__all__ = ["RecordedRun", "VirtualClock", "assert_replays", "crash", "recorded_runs"]
