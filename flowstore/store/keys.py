"""Keys, ids, names and reasons that the engine makes up, and that are told by their shape."""

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


def name_behind(handler: str, position: int) -> str:
    """Return under which name a handler goes on that waited, or put its event off.

    Args:
        handler: its name.
        position: that of the event which it handles.
    """
    return f"{handler}@{position}"


def began_at(handler: str, position: int) -> tuple[int, str]:
    """Return the event that an attempt was for, and its handler's name: see `name_behind`.

    Args:
        handler: under which name the attempt is recorded.
        position: where.
    """
    name, _, place = handler.rpartition("@")
    if name and place.isdecimal() and 0 < int(place) < position:
        return int(place), name
    return position, handler


def failure_reason(handler: str, event: str, position: int, error: str | None) -> str:
    """Return why a run fails for which this is the first failure; a retry finds it by this text.

    Args:
        handler: under which name the dead letter is recorded.
        event: the event's name.
        position: where it is recorded.
        error: why the handler failed.
    """
    return f"handler {handler!r} on {event!r} at {position} failed: {error}"


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
