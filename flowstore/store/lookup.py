"""What the ledger must be told about a database; every backend implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.base import Loaded, RunRow, StoredEvent, TimerRow


class Lookup(Protocol):
    """What the ledger must be told about what is already in the database."""

    def run(self, correlation_id: str) -> RunRow | None:
        """Return the run, the same object each time, or None."""
        ...

    def run_by_id(self, run_id: int) -> RunRow | None:
        """Return the run, the same object each time, or None."""
        ...

    def add_run(self, correlation_id: str, workflow: str, now: int) -> RunRow:
        """Make a run that is not in the database yet."""
        ...

    def event(self, run_id: int, event_id: str) -> StoredEvent | None:
        """Return the event with this id, also if it came in this batch."""
        ...

    def names_between(self, run_id: int, after: int, until: int) -> list[tuple[int, str, str]]:
        """Return position, id and name of the events with ``after < position <= until``."""
        ...

    def load(self, run: RunRow, cached_version: int) -> Loaded:
        """Return what a worker needs to go on with this run."""
        ...

    def load_state(self, run: RunRow) -> Loaded:
        """Return the state alone; nothing of the run waits to be written."""
        ...

    def has_lost_lease(self, owner: str) -> bool:
        """Tell whether this worker is dead, or silent beyond its lease."""
        ...

    def set_timers(self, run: RunRow, cancelled: Sequence[str], timers: Sequence[TimerRow]) -> None:
        """Remove and set timers of a run, and count them."""
        ...

    def clear_timers(self, run: RunRow) -> None:
        """Remove every timer of a run."""
        ...

    def due_timers(self, workflow: str, now: int, limit: int) -> list[TimerRow]:
        """Take out the timers that are due, the first due first."""
        ...

    def next_timer(self, workflow: str) -> int | None:
        """Return when the next timer of a workflow is due, None if there is none."""
        ...
