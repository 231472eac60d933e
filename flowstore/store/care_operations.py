"""What who looks after a store asks the one writer to do: dead letters, and runs to be removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstore.store.outcomes import Appended


@dataclass(slots=True)
class RetryDead:
    """Have the handler called again that failed for good at an event, and no other.

    Appends an event, at which whoever serves the workflow calls it. A run that failed because of
    a dead letter is open again.

    Args:
        position: where the dead letter is recorded.
        handler: under which name; None if it is the only one there.
    """

    correlation_id: str
    position: int
    handler: str | None
    now: int


@dataclass(slots=True)
class DiscardDead:
    """Record that nothing is to be done about a dead letter, which is listed no more.

    Args:
        position, handler: as in `RetryDead`.
        reason: why, for the record.
    """

    correlation_id: str
    position: int
    handler: str | None
    reason: str | None
    now: int


@dataclass(slots=True)
class SettledDead:
    """What became of a `RetryDead` or a `DiscardDead`.

    Args:
        handler: under which name the dead letter is recorded.
        error: why it failed.
        appended: the event at which it is called again; None if it is discarded.
    """

    handler: str
    error: str | None
    appended: Appended | None = None
