"""What who looks after a store asks the one writer to do: dead letters, and runs to be removed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RetryDead:
    """Have the handler called again that failed for good at an event, and no other.

    Appends an event, at which whoever serves the workflow calls it. A run that failed because of
    a dead letter is open again.

    Args:
        position: where the dead letter is recorded.
        handler: under which name; None if it is the only one there.
        dry: change nothing; find out what would be refused.
    """

    correlation_id: str
    position: int
    handler: str | None
    now: int
    dry: bool = False


@dataclass(slots=True)
class DiscardDead:
    """Record that nothing is to be done about a dead letter, which is listed no more.

    Args:
        position, handler, dry: as in `RetryDead`.
        reason: why, for the record.
    """

    correlation_id: str
    position: int
    handler: str | None
    reason: str | None
    now: int
    dry: bool = False
