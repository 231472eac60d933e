"""Runs that were removed: what is said to those who still send them events. Decisions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flowstore.clock import to_datetime
from flowstore.store import base
from flowstore.store.base import Appended, DropRow

if TYPE_CHECKING:
    from flowstore.store.base import Append, EndTask, RunRow
    from flowstore.store.ledger import Ledger
    from flowstore.store.lookup import Lookup


class Tombstone(NamedTuple):
    """What is left of a run, or of one of its events.

    Attributes:
        position: the event's place; that of the run's last one.
        status: what the run was.
        pruned_at: when it was removed.
    """

    position: int
    status: str
    pruned_at: int

    @property
    def date(self) -> str:
        """Return the day on which it was removed, in UTC."""
        return to_datetime(self.pruned_at).date().isoformat()


class Tombstones:
    """Refuses what comes to runs that were removed."""

    def __init__(self, ledger: Ledger, lookup: Lookup) -> None:
        self._ledger = ledger
        self._lookup = lookup

    def refuse(
        self, run: RunRow | None, operation: Append | EndTask, *, is_chosen: bool
    ) -> Appended | None:
        """Refuse an event that a removed run had, and any for one that was closed (G5, G6).

        A run that was idle begins anew, and refuses only what it had.
        """
        name = operation.correlation_id
        left = self._lookup.pruned(name, "")
        if left is None or (run is not None and run.workflow != operation.workflow):
            return None
        if run is not None and run.head and left.status in base.CLOSED:
            return None  # it was put back
        had = self._lookup.pruned(name, operation.event.id) if is_chosen else None
        if had is not None:
            detail = f"position {had.position} had this id, before the run was pruned on {had.date}"
            run = run or self._begin(left, operation)
            event = operation.event
            self._ledger.drops.append(
                DropRow(
                    run.id, event.id, event.name, None, None, base.DUPLICATE, detail, operation.now
                )
            )
            return Appended("duplicate", had.position, run.id, run.status, run.owner, detail)
        if left.status not in base.CLOSED:
            return None
        run = run or self._begin(left, operation)
        detail = f"the run was {left.status}, and pruned on {left.date}"
        return self._ledger.refuse(run, operation, base.STALE, detail)

    def known(self, run: RunRow, version: int) -> int:
        """Return the version of the state that a worker has in memory, -1 if it may be another's.

        A run that begins anew can come to a version that the removed one of its name had.
        """
        lookup = self._lookup
        if lookup.has_pruned and lookup.pruned(run.correlation_id, "") is not None:
            return -1
        return version

    def _begin(self, left: Tombstone, operation: Append | EndTask) -> RunRow:
        """Make a run without events, for the record of what it refuses."""
        run = self._lookup.add_run(operation.correlation_id, operation.workflow, operation.now)
        run.status = left.status
        if left.status in base.CLOSED:  # else the reason would be one to fail for
            run.reason = f"pruned on {left.date}; it had {left.position} events"
        self._ledger.new_runs.append(run)
        return run
