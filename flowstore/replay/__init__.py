"""What the log is good for afterwards: history, re-execution, forks and portable runs.

Nothing in here writes to the store that it reads, or runs a side effect (G12).
"""

from flowstore.replay.difference import ABSENT, Absent, Difference, covers, differences
from flowstore.replay.history import Step, Transition
from flowstore.replay.portable_files import write_file
from flowstore.replay.portable_reading import FileLimits, read_file
from flowstore.replay.report import Divergence, Moment, Report
from flowstore.replay.rerun import rerun

__all__ = [
    "ABSENT",
    "Absent",
    "Difference",
    "Divergence",
    "FileLimits",
    "Moment",
    "Report",
    "Step",
    "Transition",
    "covers",
    "differences",
    "read_file",
    "rerun",
    "write_file",
]
