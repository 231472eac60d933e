"""What who looks after a store asks the one writer to do: dead letters, and runs to be removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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


@dataclass(slots=True)
class Prune:
    """Remove runs, with all that there is of them, in one transaction.

    The ids of their events that came from outside are kept, to be refused as duplicates. A run
    stays that has another status meanwhile, was touched, has a worker or anything outstanding;
    and so do the newest run and those of the newest event and of the newest drop.

    Args:
        runs: their ids in this store.
        statuses: of what status they must be; ``running`` and ``waiting`` ones always stay.
        before: since when they must not have been touched, in microseconds since 1970.
    """

    runs: Sequence[int]
    statuses: Collection[str]
    before: int
    now: int


@dataclass(slots=True)
class PrunedRuns:
    """How much a `Prune` has removed: runs and events; and how many of its runs are left."""

    runs: int = 0
    events: int = 0
    left: int = 0
