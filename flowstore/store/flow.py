"""What recorded runs show of who gets which events and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

WOKEN: Final = ""
"""Stands for the event of a handler that waited, or was retried, and went on at another one."""


@dataclass(slots=True)
class Flow:
    """How often handlers of a workflow did what, over all of its runs.

    Attributes:
        handled: events that a handler came to an end with, by handler and event.
        emitted: events that came of a handler's work, also later, as those of timers do, by
            handler and event.
        submitted: tasks, by handler and task.
        sent: events that came from outside, by event.
    """

    handled: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    emitted: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    submitted: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    sent: dict[str, int] = field(default_factory=dict[str, int])
