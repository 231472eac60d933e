"""One thing that a handler does, as its code says."""

from __future__ import annotations

from typing import Final, NamedTuple

EMITS: Final = "emits"
SCHEDULES: Final = "schedules"
SUBMITS: Final = "submits"
WAITS: Final = "waits for"


class Mention(NamedTuple):
    """Something that a handler does, as its code says.

    Attributes:
        how: `EMITS`, `SCHEDULES`, `SUBMITS` or `WAITS`.
        event: the name of the event; None if only running the code would tell. Of a task that is
            submitted it is None.
        task: the task that is submitted, or whose end is waited for.
    """

    how: str
    event: str | None
    task: str | None = None
