"""What a run waits for, as readers see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

OutstandingKind = Literal[
    "timer", "deadline", "task", "external task", "wait", "postponed", "collected"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutstandingRecord:
    """Something that a run waits for. Times are microseconds since 1970, UTC.

    Attributes:
        kind: ``timer``, ``deadline``; ``task`` under way, ``external task`` that someone else
            ends; ``wait`` or ``postponed``: a handler that waits in the middle, or has put its
            event off; ``collected``: an event that is kept until others are there.
        name: the event that a timer sends, that a handler waits for (None if only for a time),
            or that is kept; the task's name.
        key: the timer's key, the task's id, the collection's key.
        position: the event whose handler waits, or that is kept.
        handler: the one that waits.
        attempts: how many attempts at the task have failed.
        error: why the last of them did.
        since: when it began.
        due_at: when it is due, or is over; for a task when it is tried again.
        where: what else the event must have in its data that a handler waits for, as far as the
            handler has said so with a mapping.
    """

    kind: OutstandingKind
    name: str | None = None
    key: str | None = None
    position: int | None = None
    handler: str | None = None
    attempts: int = 0
    error: str | None = None
    since: int
    due_at: int | None = None
    where: dict[str, Any] | None = None
