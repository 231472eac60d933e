"""What a batch of operations does to the runs that it touches: decided in memory, no I/O.

The one writer holds the database's write lock, so the runs it has in memory are the truth
until another connection commits. Checks are therefore a few comparisons, and a batch ends
in a handful of bulk statements. The backend supplies the `Lookup`; every backend shares the
decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.codec import refuse_engine_id
from flowstore.errors import (
    EventConflictError,
    LeaseLostError,
    RunNotFoundError,
)
from flowstore.events import PROGRESS
from flowstore.store import base
from flowstore.store.base import (
    Append,
    Appended,
    Close,
    Commit,
    Committed,
    DropRow,
    Grant,
    NewEvent,
    RunRow,
    SnapshotRow,
    StepRow,
    StoredEvent,
    TransitionRow,
)
from flowstore.store.refusals import refuse_other_workflow, why_no_end
from flowstore.store.same import is_same
from flowstore.store.tombstones import Tombstones
from flowstore.store.waiting import Waiting
from flowstore.stream import has_streams

if TYPE_CHECKING:
    from flowstore.store.base import EndTask
    from flowstore.store.lookup import Lookup, WaitingLookup


class Ledger:
    """The rows that a batch will write, and the decisions that lead to them."""

    def __init__(self, lookup: Lookup, outstanding: WaitingLookup) -> None:
        self._lookup = lookup
        self.waiting = Waiting(self, lookup, outstanding)
        self.tombstones = Tombstones(self, lookup)
        self.new_runs: list[RunRow] = []
        self.moved: dict[int, RunRow] = {}
        self.changed: dict[int, RunRow] = {}
        self.events: list[StoredEvent] = []
        self.transitions: list[TransitionRow] = []
        self.snapshots: list[SnapshotRow] = []
        self.steps: list[StepRow] = []
        self.drops: list[DropRow] = []
        self.chosen: dict[tuple[int, str], StoredEvent] = {}
        """Events whose id the sender chose, met in this batch: its repeats are seen at once."""

    def clear(self) -> None:
        """Forget the rows: they have been written."""
        for rows in (
            self.new_runs,
            self.moved,
            self.changed,
            self.events,
            self.transitions,
            self.snapshots,
            self.steps,
            self.drops,
            self.chosen,
        ):
            rows.clear()

    # --- append ----------------------------------------------------------------------

    def append(self, operation: Append) -> Appended:
        """Give an event from outside its place, or the verdict why it gets none (G5, G6)."""
        lookup = self._lookup
        run = lookup.run(operation.correlation_id)
        event = operation.event
        if lookup.has_pruned:
            refused = self.tombstones.refuse(run, operation, is_chosen=operation.chosen_id)
            if refused is not None:
                return refused
        if run is None:
            if operation.chosen_id:
                refuse_engine_id(event.id)
            run = lookup.add_run(operation.correlation_id, operation.workflow, operation.now)
            self.new_runs.append(run)
        elif run.workflow != operation.workflow:
            refuse_other_workflow(run.correlation_id, run.workflow, operation.workflow)
        elif operation.chosen_id:
            original = lookup.event(run.id, event.id)
            if original is not None:
                return self._repeat(run, operation, original)
            refuse_engine_id(event.id)
        refused = self._refuse(run, operation)
        if refused is not None:
            return refused
        is_at_rest = run.status != "running" and run.cursor == run.head
        if operation.is_quiet and is_at_rest and not run.waits:  # a parked handler may want it
            return self._pass(run, operation)
        return self.take_in(run, operation, is_chosen=operation.chosen_id)

    def _pass(self, run: RunRow, operation: Append) -> Appended:
        """Append an event that no one handles to a run that has nothing to do meanwhile."""
        run.head += 1
        run.cursor = run.foreign_head = run.head
        run.updated_at = operation.now
        self.moved[run.id] = run
        row = StoredEvent(run.id, run.head, *operation.event)
        self.events.append(row)
        return Appended("accepted", run.head, run.id, run.status, run.owner, None, row)

    def take_in(self, run: RunRow, operation: Append | EndTask, *, is_chosen: bool) -> Appended:
        """Append an event that is welcome, and grant the run to who asks for it and may."""
        event = operation.event
        is_touched = run.id in self.changed or run.id in self.moved
        row = self.place(run, event, operation.now)
        if is_chosen:
            self.chosen[run.id, event.id] = row
        granted = None
        if operation.claim_for is not None and self._may_grant(run, operation):
            granted = self._grant_after_append(run, operation, row, is_touched=is_touched)
        return Appended("accepted", run.head, run.id, run.status, run.owner, None, row, granted)

    def place(self, run: RunRow, event: NewEvent, now: int) -> StoredEvent:
        """Put an event behind the last one of its run, which has something to do from now on."""
        run.head += 1
        run.foreign_head = run.head
        row = StoredEvent(run.id, run.head, *event)
        self.events.append(row)
        run.updated_at = now
        if run.status == "running":
            self.moved[run.id] = run
        else:
            run.status = "running"
            self.changed[run.id] = run
        return row

    def _repeat(self, run: RunRow, operation: Append, original: StoredEvent) -> Appended:
        event = operation.event
        if not is_same(event, original):
            detail = f"the id is taken by position {original.position} with other content"
            self._drop(run, event, base.CONFLICT, detail, operation.now)
            raise _conflict(run, event.id, f"at position {original.position}")
        return self.refuse_repeat(run, operation, original)

    def refuse_repeat(
        self, run: RunRow, operation: Append | EndTask, original: StoredEvent
    ) -> Appended:
        """Record that the run has this event; its sender gets the original's position (G5)."""
        detail = f"position {original.position} has this id"
        self._drop(run, operation.event, base.DUPLICATE, detail, operation.now)
        return Appended("duplicate", original.position, run.id, run.status, run.owner, detail)

    def _refuse(self, run: RunRow, operation: Append) -> Appended | None:
        expires_at = operation.event.expires_at
        if expires_at is not None and expires_at <= operation.now:
            reason, detail = base.EXPIRED, "the event had expired when sent"
        elif run.status in base.CLOSED:
            reason, detail = base.STALE, f"the run is {run.status}"
        elif (no_end := why_no_end(operation.event)) is not None:
            reason, detail = base.STALE, no_end
        else:
            return None
        return self.refuse(run, operation, reason, detail)

    def refuse(
        self, run: RunRow, operation: Append | EndTask, reason: str, detail: str
    ) -> Appended:
        """Record that an event came too late, and why (G6)."""
        self._drop(run, operation.event, reason, detail, operation.now)
        return Appended("stale", None, run.id, run.status, run.owner, detail)

    def _drop(
        self, run: RunRow, event: NewEvent | StoredEvent, reason: str, detail: str, now: int
    ) -> None:
        self.drops.append(DropRow(run.id, event.id, event.name, None, None, reason, detail, now))

    # --- leases ----------------------------------------------------------------------

    def _may_grant(self, run: RunRow, operation: Append | EndTask) -> bool:
        return (run.ready_at is None or run.ready_at <= operation.now) and (
            run.owner is None
            or (run.owner != operation.claim_for and self._lookup.has_lost_lease(run.owner))
        )

    def _grant_after_append(
        self, run: RunRow, operation: Append | EndTask, row: StoredEvent, *, is_touched: bool
    ) -> Grant:
        if operation.claim_for is not None:
            self._lease(run, operation.claim_for, operation.now)
        was_idle = run.cursor == row.position - 1
        cached = self.tombstones.known(run, operation.cached_version)
        has_state = run.state_version in (0, cached)
        if was_idle and has_state:
            loaded = base.Loaded(events=(row,), state_is_cached=run.state_version > 0)
        elif was_idle and not is_touched:
            # All but this event is in the file: the batch need not be written for it now.
            loaded = self._lookup.load_state(run)
            loaded.events = (row,)
        else:
            loaded = self._lookup.load(run, cached)
        return self._granted(run, loaded)

    def grant(self, run: RunRow, owner: str, now: int, cached_version: int) -> Grant:
        """Give a worker the lease of a run that no live worker has."""
        self._lease(run, owner, now)
        cached = self.tombstones.known(run, cached_version)
        return self._granted(run, self._lookup.load(run, cached))

    def _granted(self, run: RunRow, loaded: base.Loaded) -> Grant:
        if run.waits:
            self.waiting.load(run, loaded)
        return Grant(run.copy(), loaded)

    def _lease(self, run: RunRow, owner: str, now: int) -> None:
        run.owner = owner
        run.epoch += 1
        run.ready_at = None
        run.updated_at = now
        self.changed[run.id] = run

    # --- commit ----------------------------------------------------------------------

    def commit(self, operation: Commit) -> Committed:
        """Apply what a worker did, if it still owns the run (G2, G8)."""
        run = self._lookup.run_by_id(operation.run_id)
        if run is None:
            raise RunNotFoundError(f"run {operation.correlation_id!r} is no longer in the store")
        self._check(run, operation)
        if operation.outstanding is not None:
            self.waiting.keep(run, operation, operation.outstanding)
            self.changed[run.id] = run
        head = run.head
        appended, passed = self._emit(run, operation)
        if operation.close:
            self._close(run, operation, operation.new_cursor, head)
            cursor = run.head
        elif operation.drained and run.foreign_head <= operation.known_head:
            cursor = head + passed
        else:
            cursor = operation.new_cursor
        run.cursor = cursor
        run.updated_at = operation.now
        self._record(run, operation)
        if operation.reason is not None:
            run.reason = operation.reason or None
        if operation.close:
            run.result = operation.result
        elif cursor == run.head:
            self._let_go(run, operation.status, None)
        elif operation.ready_at is not None:
            self._let_go(run, "running", operation.ready_at)
        else:
            self.moved[run.id] = run
        return Committed(run.status, run.head, cursor, appended)

    def _check(self, run: RunRow, operation: Commit) -> None:
        if run.epoch != operation.epoch or run.cursor != operation.cursor:
            self._lose(run, operation)
        if operation.repeats and not operation.announces:
            self._refuse_conflicts(run, operation)

    def _refuse_conflicts(self, run: RunRow, operation: Commit) -> None:
        """Before anything is changed: an id that is taken by other content is refused (G5)."""
        given: dict[str, NewEvent] = {}
        for event in operation.events:
            if event.name == PROGRESS:
                continue
            twin: NewEvent | StoredEvent | None = given.setdefault(event.id, event)
            if twin is event:
                twin = self._lookup.event(run.id, event.id)
            if twin is not None and not is_same(event, twin):
                detail = "a handler emitted other content under an id that is taken"
                self._drop(run, event, base.CONFLICT, detail, operation.now)
                raise _conflict(run, event.id, "or its handler emits two")

    def _emit(self, run: RunRow, operation: Commit) -> tuple[list[StoredEvent], int]:
        appended: list[StoredEvent] = []
        passed = 0
        for ordinal, event in enumerate(operation.events):
            if operation.repeats:
                original = self._lookup.event(run.id, event.id)
                if original is not None:
                    if not operation.announces and event.name != PROGRESS:
                        detail = f"position {original.position} has this id"
                        self._drop(run, event, base.DUPLICATE, detail, operation.now)
                    continue
            run.head += 1
            row = StoredEvent(run.id, run.head, *event)
            appended.append(row)
            self.events.append(row)
            if operation.repeats:
                self.chosen[run.id, event.id] = row
            if ordinal < operation.if_last:
                passed += 1
        return appended, passed

    def _record(self, run: RunRow, operation: Commit) -> None:
        if operation.reason != run.reason and operation.reason is not None:
            self.changed[run.id] = run
        if operation.transitions:
            self.transitions.extend(operation.transitions)
            run.state_version = operation.transitions[-1].number
        if operation.steps:
            self.steps.extend(operation.steps)
        if operation.drops:
            self.drops.extend(operation.drops)
        if operation.snapshot is not None:
            self.snapshots.append(operation.snapshot)

    def _let_go(self, run: RunRow, status: str, ready_at: int | None) -> None:
        if status in base.CLOSED:
            self.waiting.clear(run)
        elif status == "idle" and (run.tasks or run.waits):
            status = base.WORKING if run.tasks else "waiting"
        run.status = status
        run.owner = None
        run.ready_at = ready_at
        self.changed[run.id] = run

    def note_lost_lease(self, run: RunRow, epoch: int, now: int) -> None:
        """Record that a worker has found out that a run is no longer its own (G7)."""
        detail = f"the lease of epoch {epoch} has ended: the run is at epoch {run.epoch}"
        position = run.cursor + 1
        self.drops.append(DropRow(run.id, None, None, position, None, base.LEASE_LOST, detail, now))

    def _lose(self, run: RunRow, operation: Commit) -> None:
        holder = run.owner or "no one"
        detail = (
            f"a commit of epoch {operation.epoch} at cursor {operation.cursor} was refused: "
            f"the run is at epoch {run.epoch}, cursor {run.cursor}, owned by {holder}"
        )
        self.drops.append(
            DropRow(
                run.id,
                None,
                None,
                operation.cursor + 1,
                None,
                base.LEASE_LOST,
                detail,
                operation.now,
            )
        )
        raise LeaseLostError(f"run {run.correlation_id!r}: {detail}")

    # --- close -----------------------------------------------------------------------

    def close(self, operation: Close) -> RunRow:
        """Close a run from outside; the epoch moves, so a handler at work cannot commit."""
        run = self._lookup.run(operation.correlation_id)
        if run is None:
            raise RunNotFoundError(
                f"there is no run {operation.correlation_id!r} in the store; "
                "`flowstore runs` lists those there are"
            )
        if run.status not in base.CLOSED:
            self._close(run, operation, run.cursor, run.head)
            run.cursor = run.head
            run.epoch += 1
            run.updated_at = operation.now
        return run.copy()

    def _close(self, run: RunRow, operation: Close | Commit, after: int, until: int) -> None:
        status = operation.status
        for position, event_id, name in self._lookup.names_between(run.id, after, until):
            if name != PROGRESS and not has_streams(event_id):
                self.drops.append(
                    DropRow(
                        run.id,
                        event_id,
                        name,
                        position,
                        None,
                        base.STALE,
                        f"the run was {status} before this event was handled",
                        operation.now,
                    )
                )
        run.reason = operation.reason or None
        self._let_go(run, status, None)


def _conflict(run: RunRow, event_id: str, where: str) -> EventConflictError:
    return EventConflictError(
        f"run {run.correlation_id!r} already has an event with id {event_id!r} and other content "
        f"({where}); repeat the same content, or give the new event an id of its own",
        event_id,
    )
