"""What the log is good for afterwards: history, re-execution, forks and portable runs.

Nothing in here writes to the store that it reads, or runs a side effect (G12).
"""

from flowstore.replay.difference import ABSENT, Absent, Difference, covers, differences
from flowstore.replay.report import Divergence, Moment, Report
from flowstore.replay.rerun import rerun

__all__ = [
    "ABSENT",
    "Absent",
    "Difference",
    "Divergence",
    "Moment",
    "Report",
    "covers",
    "differences",
    "rerun",
]
