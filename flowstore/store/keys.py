"""Keys of timers that are the engine's own, and ids that no sender can choose."""

from __future__ import annotations

import re

from flowstore.events import DEAD_RETRIED, DEADLINE

OURS = "flowstore/"
"""Keys of timers that begin with this are the engine's own."""

DEADLINE_KEY = f"{OURS}deadline"
"""Key of the timer that is the run's deadline."""

_DEADLINE_ID = re.compile(r"\d+/.+/d\d+", re.DOTALL)
_RETRY_ID = re.compile(r"\d+/.+/r\d+", re.DOTALL)


def is_deadline(name: str, event_id: str) -> bool:
    """Tell whether an event is that of a deadline; no sender can choose an id of its shape."""
    return name == DEADLINE and _DEADLINE_ID.fullmatch(event_id) is not None


def timeout_key(task_id: str) -> str:
    """Return the key of the timer that ends an external task."""
    return f"{OURS}task/{task_id}"


def wait_key(position: int, handler: str) -> str:
    """Return the key of the timer that ends the wait of a parked handler."""
    return f"{OURS}wait/{position}/{handler}"


def retry_id(position: int, handler: str, number: int) -> str:
    """Return the id of the event that retries a dead letter.

    Args:
        position: where it is recorded.
        handler: under which name.
        number: that of the transition with which the handler failed for good.
    """
    return f"{position}/{handler}/r{number}"


def is_retry(name: str, event_id: str) -> bool:
    """Tell whether an event retries a dead letter; no sender can choose an id of its shape."""
    return name == DEAD_RETRIED and _RETRY_ID.fullmatch(event_id) is not None
