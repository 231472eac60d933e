"""What the log is good for afterwards: history, re-execution, forks and portable runs.

Nothing in here writes to the store that it reads, or runs a side effect (G12).
"""

from flowstore.replay.difference import ABSENT, Absent, Difference, covers, differences

__all__ = ["ABSENT", "Absent", "Difference", "covers", "differences"]
