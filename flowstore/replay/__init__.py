"""What the log is good for afterwards: history, re-execution, forks and portable runs.

Nothing in here writes to the store that it reads, or runs a side effect (G12).

Executing a run again (ADR 13): `rerun` goes through the events; `record` is what an archive says of
the run, `undone` what of it came only with a retry; `scene` is what handlers are given, with
`steps` (those beside one another `in_turn`), `chunks` (streams) and `guard` (nothing outside);
`judge` compares, with `emitted` (events), `arranged` (timers, tasks, waits), `unreached` (steps),
`order` (of handlers), `handlers` (gone or new) and `users_code` (where it went wrong); `report` is
what comes of it, `telling` puts it into lines. Checking many runs (ADR 18): `check`, `accepted`,
`accepted_file`.

Forks (ADR 15): `fork` makes one, of what `cut` leaves of a run and how it stood then (`standing`);
`patch` edits it, `fork_writing` puts it into a store. `parting` tells where two runs part.

History: `history`, page by page, with what was `begun`. Who did what: `heard` (what attempts have
told), `origins` (those of a page), `authors` (the whole run). Values: `difference` (two of them),
`folding` (what a change makes different).

Files of runs (ADR 14): `portable`.
"""

from flowstore.replay.begun import (
    Arranged,
    EventKept,
    TaskBegun,
    TimerSet,
    WaitBegun,
    WaitEnded,
)
from flowstore.replay.difference import ABSENT, Difference
from flowstore.replay.history import Step, Transition
from flowstore.replay.portable.files import write_file
from flowstore.replay.portable.reading import FileLimits, read_file
from flowstore.replay.report import Divergence, Moment, Report
from flowstore.replay.rerun import rerun

__all__ = [
    "ABSENT",
    "Arranged",
    "Difference",
    "Divergence",
    "EventKept",
    "FileLimits",
    "Moment",
    "Report",
    "Step",
    "TaskBegun",
    "TimerSet",
    "Transition",
    "WaitBegun",
    "WaitEnded",
    "read_file",
    "rerun",
    "write_file",
]
