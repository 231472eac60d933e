"""What the ledger is told about an SQLite database: runs from memory, the rest from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.store import base
from flowstore.store.base import Behind, Loaded, ParkedWork, RunRow, StoredEvent, TransitionRow
from flowstore.store.tombstones import Tombstone

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from flowstore.store.base import ParkedRow
    from flowstore.store.leases import Leases
    from flowstore.store.ledger import Ledger
    from flowstore.store.statements import Statements

MOST_RUNS = 8192
"""Runs kept in memory; they are true until another connection commits."""

PAGE = 256
"""Events read at a time for one run."""


class Rows:
    """Implements `flowstore.store.lookup.Lookup`.

    Attributes:
        ledger: whose rows may not be in the file yet.
        flush: writes them.
    """

    ledger: Ledger
    flush: Callable[[], None]

    def __init__(self, connection: sqlite3.Connection, sql: Statements, leases: Leases) -> None:
        self._connection = connection
        self._sql = sql
        self._leases = leases
        self._by_name: dict[str, RunRow] = {}
        self._by_id: dict[int, RunRow] = {}
        self._next_run_id = 0
        self._has_pruned: bool | None = None
        self._unpruned: set[str] = set()

    def forget(self) -> None:
        """Forget the runs in memory: they are no longer known to be what the file has."""
        self._by_name.clear()
        self._by_id.clear()
        self._next_run_id = 0
        self._has_pruned = None
        self._unpruned.clear()

    @property
    def has_pruned(self) -> bool:
        """Whether runs were ever removed; a store where none was is asked once."""
        if self._has_pruned is None:
            row = self._connection.execute("SELECT 1 FROM pruned LIMIT 1").fetchone()
            self._has_pruned = row is not None
        return self._has_pruned

    def pruned(self, correlation_id: str, event_id: str) -> Tombstone | None:
        """Return what is left of an event, or, for the empty text, of its run."""
        if not event_id and correlation_id in self._unpruned:
            return None
        row = self._connection.execute(
            "SELECT position, status, pruned_at FROM pruned WHERE correlation_id = ? "
            "AND event_id = ?",
            (correlation_id, event_id),
        ).fetchone()
        if row is None and not event_id:
            if len(self._unpruned) >= MOST_RUNS:
                self._unpruned.clear()
            self._unpruned.add(correlation_id)
        return None if row is None else Tombstone(*row)

    def has_lost_lease(self, owner: str) -> bool:
        """Tell whether this worker is dead, or silent beyond its lease."""
        return self._leases.is_lost(owner)

    def run(self, correlation_id: str) -> RunRow | None:
        """Return the run, from memory or from the file."""
        run = self._by_name.get(correlation_id)
        return run or self._read_run(self._sql.run_by_name, correlation_id)

    def run_by_id(self, run_id: int) -> RunRow | None:
        """Return the run, from memory or from the file."""
        run = self._by_id.get(run_id)
        return run or self._read_run(self._sql.run_by_id, run_id)

    def _read_run(self, sql: str, key: str | int) -> RunRow | None:
        row = self._connection.execute(sql, (key,)).fetchone()
        if row is None:
            return None
        run = RunRow(*row)
        run.foreign_head = run.head
        self._keep(run)
        return run

    def _keep(self, run: RunRow) -> None:
        if len(self._by_id) >= MOST_RUNS:
            self.flush()
            self._by_name.clear()
            self._by_id.clear()
        self._by_name[run.correlation_id] = run
        self._by_id[run.id] = run

    def add_run(self, correlation_id: str, workflow: str, now: int) -> RunRow:
        """Make a run with the next id; the write lock makes that safe."""
        if self._next_run_id == 0:
            (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM run").fetchone()
            self._next_run_id = last + 1
        run = RunRow(
            self._next_run_id,
            correlation_id,
            workflow,
            "idle",
            0,
            0,
            0,
            0,
            None,
            None,
            None,
            None,
            None,
            now,
            now,
        )
        self._next_run_id += 1
        self._keep(run)
        return run

    def event(self, run_id: int, event_id: str) -> StoredEvent | None:
        """Return the event with this id."""
        fresh = self.ledger.chosen.get((run_id, event_id))
        if fresh is not None:
            return fresh
        row = self._connection.execute(self._sql.event_by_id, (run_id, event_id)).fetchone()
        if row is None:
            return None
        found = self.ledger.chosen[run_id, event_id] = StoredEvent(*row)
        return found

    def names_between(self, run_id: int, after: int, until: int) -> list[tuple[int, str, str]]:
        """Return position, id and name of events."""
        self.flush()
        return self._connection.execute(self._sql.names_between, (run_id, after, until)).fetchall()

    def load(self, run: RunRow, cached_version: int) -> Loaded:
        """Read what a worker needs to go on with the run."""
        self.flush()
        execute, sql = self._connection.execute, self._sql
        loaded = Loaded(
            events=self.events_after(run.id, run.cursor, PAGE),
            transitions=[
                TransitionRow(*row) for row in execute(sql.transitions_after, (run.id, run.cursor))
            ],
            steps=[base.StepRow(*row) for row in execute(sql.steps_after, (run.id, run.cursor))],
        )
        if run.state_version == cached_version:
            loaded.state_is_cached = True
        elif run.state_version:
            self._read_state(run, loaded)
        return loaded

    def load_state(self, run: RunRow) -> Loaded:
        """Read the state alone; nothing of the run waits to be written."""
        loaded = Loaded()
        self._read_state(run, loaded)
        return loaded

    def _read_state(self, run: RunRow, loaded: Loaded) -> None:
        execute, sql = self._connection.execute, self._sql
        row = execute(sql.last_snapshot, (run.id, 1, 0)).fetchone()
        after, loaded.state = row or (0, None)
        loaded.changes = [change for (change,) in execute(sql.changes_after, (run.id, after))]

    def load_parked(self, row: ParkedRow) -> ParkedWork:
        """Read what a parked handler needs to go on."""
        self.flush()
        execute, sql, run_id = self._connection.execute, self._sql, row.run_id
        behind = Behind.read(row.answers)
        work = ParkedWork(self._event_at(run_id, row.position))
        work.events = {place: self._event_at(run_id, place) for place in behind.places()}
        moments = [(row.position, row.state_number)]
        moments += [(place, number) for place, number in behind.waits if number is not None]
        work.states = list(self._states(run_id, moments))
        steps = execute(sql.steps_of, (run_id, row.position, row.handler))
        work.steps = [base.StepRow(*step) for step in steps]
        return work

    def _event_at(self, run_id: int, position: int) -> StoredEvent:
        row = self._connection.execute(self._sql.event_at, (run_id, position)).fetchone()
        return StoredEvent(*row)

    def _states(
        self, run_id: int, moments: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[str | None, list[str]]]:
        """Read what the state was: before the transition behind each number, at its position."""
        execute, sql = self._connection.execute, self._sql
        newest, before, last = 0, 0, 0
        for position, number in moments:
            found = execute(sql.snapshot_before, (run_id, position, 1, 0)).fetchone()
            snapshot: str | None = None
            if found is not None and found[0] > newest:
                newest, snapshot = found
                before, last = newest, 0
            changes = execute(sql.changes_between, (run_id, before, last, number))
            yield snapshot, [change for (change,) in changes]
            # Whatever comes behind this number is at this position, or at a later one.
            before, last = position - 1, number

    def events_after(self, run_id: int, after: int, limit: int) -> list[StoredEvent]:
        """Return the next events of a run."""
        self.flush()
        rows = self._connection.execute(self._sql.events_after, (run_id, after, limit, 0))
        return [StoredEvent(*row) for row in rows]
