"""Which runs a worker may have: those that are pending and that no live worker has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.store import base

if TYPE_CHECKING:
    import sqlite3

    from flowstore.store.base import RunRow
    from flowstore.store.leases import Leases
    from flowstore.store.ledger import Ledger
    from flowstore.store.rows import Rows
    from flowstore.store.waiting_rows import WaitingRows


class Claims:
    """Finds runs for workers, and tells them what others have done."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        rows: Rows,
        outstanding: WaitingRows,
        ledger: Ledger,
        leases: Leases,
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._outstanding = outstanding
        self._ledger = ledger
        self._leases = leases

    def claim(self, operation: base.Claim) -> list[base.Grant]:
        """Lease runs to a worker, those that it names or any."""
        self._rows.flush()
        grants: list[base.Grant] = []
        for name in self._pending(operation) if operation.names is None else operation.names:
            if len(grants) >= operation.limit:
                break
            run = self._rows.run(name)
            if run is not None and self._is_claimable(run, operation):
                cached = operation.cached.get(name, -1)
                grants.append(self._ledger.grant(run, operation.owner, operation.now, cached))
        return grants

    def _pending(self, operation: base.Claim) -> list[str]:
        rows = self._connection.execute(
            "SELECT correlation_id, owner, epoch FROM run WHERE status = 'running' "
            "AND workflow = ? AND (ready_at IS NULL OR ready_at <= ?) ORDER BY id",
            (operation.workflow, operation.now),
        )
        free: dict[str | None, bool] = {None: True, operation.owner: False}
        found: list[str] = []
        for name, owner, epoch in rows:
            if owner not in free:
                free[owner] = self._leases.is_lost(owner)
            if free[owner] or operation.orphans.get(name) == epoch:
                found.append(name)
                if len(found) >= operation.limit:
                    break
        return found

    def _is_claimable(self, run: RunRow, operation: base.Claim) -> bool:
        return (
            run.status == "running"
            and run.workflow == operation.workflow
            and (run.ready_at is None or run.ready_at <= operation.now)
            and (
                run.owner is None
                or (
                    operation.orphans.get(run.correlation_id) == run.epoch
                    if run.owner == operation.owner
                    else self._leases.is_lost(run.owner)
                )
            )
        )

    def survey(self, operation: base.Survey) -> base.Surveyed:
        """See what others have done, and note the leases that were lost."""
        self._rows.flush()
        seen = self.see(operation)
        for run in filter(None, map(self._rows.run_by_id, seen.lost)):
            self._ledger.note_lost_lease(run, operation.epochs[run.id], operation.now)
        return seen

    def see(self, operation: base.Survey) -> base.Surveyed:
        """Survey without a note: outside a transaction it would be written for itself."""
        seen = base.Surveyed()
        for run_id, epoch in operation.epochs.items():
            run = self._rows.run_by_id(run_id)
            if run is None or run.epoch > epoch:
                seen.lost.append(run_id)
        for run_id in operation.tasks:
            run = self._rows.run_by_id(run_id)
            if run is None or run.status in base.CLOSED:
                seen.closed.append(run_id)
        probe = base.Claim(operation.workflow, operation.owner, operation.now, 1)
        seen.pending = bool(self._pending(probe))
        (seen.due,) = self._connection.execute(
            "SELECT min(ready_at) FROM run WHERE status = 'running' AND workflow = ? "
            "AND ready_at > ?",
            (operation.workflow, operation.now),
        ).fetchone()
        seen.timer = self._outstanding.next_timer(operation.workflow)
        seen.tasks = bool(self._ledger.waiting.lost_owners(operation.owner))
        return seen
