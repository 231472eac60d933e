"""The one connection that writes to an SQLite file, and how a batch goes through it.

Everything here runs on the writer's thread. A batch is one transaction: take the turn, begin,
decide in memory (`Ledger`), write the rows in bulk, commit.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from flowstore.errors import FlowstoreError, StatementError, StoreError
from flowstore.store import base, statements
from flowstore.store.base import Loaded, RunRow, StoredEvent, TransitionRow
from flowstore.store.failures import translate
from flowstore.store.ledger import Ledger
from flowstore.store.lock import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from flowstore.store.lock import FileLock

_CACHED_RUNS = 8192
_PAGE = 256
"""Events read at a time for one run."""

Outcome = tuple[Any, BaseException | None]


class Session:
    """The write connection with the runs it has in memory. Implements `ledger.Lookup`."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None, turn: FileLock | None):
        self._connection = connection
        self._path = path
        self._turn = turn
        self._sql = statements.build()
        self._by_name: dict[str, RunRow] = {}
        self._by_id: dict[int, RunRow] = {}
        self._next_run_id = 0
        self._version = -1
        self._ledger = Ledger(self)
        self._alchemy: Connection | None = None
        self.unheard = False
        """Another connection has written and the listeners do not know yet."""
        self.lease = 0
        """Microseconds that a silent worker keeps its runs."""

    # --- a batch ---------------------------------------------------------------------

    def carry_out(self, operations: list[base.Operation]) -> list[Outcome]:
        """Carry out operations as one transaction; one that fails does so alone."""
        try:
            return self._transact(operations)
        except StoreError as error:
            return [(None, error)] * len(operations)
        except sqlite3.Error as error:
            if len(operations) == 1:
                return [(None, translate(error, self._where))]
        # A row clashed with the database: find whose it is by going one by one.
        return [outcome for each in operations for outcome in self.carry_out([each])]

    @property
    def _where(self) -> str:
        return ":memory:" if self._path is None else str(self._path)

    def _transact(self, operations: list[base.Operation]) -> list[Outcome]:
        self._begin()
        try:
            outcomes = [self._apply(operation) for operation in operations]
            self._flush()
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._abandon()
            if isinstance(error, sqlite3.IntegrityError):
                raise
            if isinstance(error, sqlite3.Error):
                raise translate(error, self._where) from error
            raise
        finally:
            if self._turn is not None:
                self._turn.release()
        return outcomes

    def _begin(self) -> None:
        try:
            if self._turn is not None:
                self._turn.acquire()
            self._connection.execute("BEGIN IMMEDIATE")
            if self.has_news():
                self.forget()
        except (sqlite3.Error, OSError) as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._turn is not None and not isinstance(error, OSError):
                self._turn.release()
            raise translate(error, self._where) from error

    def _abandon(self) -> None:
        self._ledger.clear()
        self.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _apply(self, operation: base.Operation) -> Outcome:
        try:
            if isinstance(operation, base.Commit):
                if operation.statements:
                    return self._commit_with_statements(operation), None
                return self._ledger.commit(operation), None
            if isinstance(operation, base.Append):
                return self._ledger.append(operation), None
            return self._apply_other(operation), None
        except FlowstoreError as error:
            return None, error

    def _apply_other(self, operation: base.Operation) -> Any:
        if isinstance(operation, base.Claim):
            return self._claim(operation)
        if isinstance(operation, base.Load):
            return self._events_after(operation.run_id, operation.after, operation.limit)
        if isinstance(operation, base.Close):
            return self._ledger.close(operation)
        if isinstance(operation, base.Survey):
            return self._survey(operation)
        if isinstance(operation, base.Release):
            return self._release(operation)
        message = f"{type(operation).__name__} is not an operation of the store"
        raise StoreError(message)

    def _flush(self) -> None:
        ledger, sql, run_many = self._ledger, self._sql, self._connection.executemany
        if ledger.new_runs:
            run_many(sql.insert_run, [_run_values(run) for run in ledger.new_runs])
            for run in ledger.new_runs:
                ledger.moved.pop(run.id, None)
                ledger.changed.pop(run.id, None)
        if ledger.changed:
            run_many(sql.change_run, [_changed_values(run) for run in ledger.changed.values()])
        if ledger.moved:
            rows = [
                (run.head, run.cursor, run.state_version, run.updated_at, run.id)
                for run in ledger.moved.values()
                if run.id not in ledger.changed
            ]
            if rows:
                run_many(sql.move_run, rows)
        for text, values in (
            (sql.insert_event, ledger.events),
            (sql.insert_transition, ledger.transitions),
            (sql.insert_snapshot, ledger.snapshots),
            (sql.insert_step, ledger.steps),
            (sql.insert_drop, ledger.drops),
        ):
            if values:
                run_many(text, values)
        ledger.clear()

    # --- the user's own statements ---------------------------------------------------

    def _commit_with_statements(self, operation: base.Commit) -> base.Committed:
        """Commit together with the user's statements, or not at all (G2)."""
        execute = self._connection.execute
        self._flush()
        execute("SAVEPOINT flowstore_statements")
        try:
            result = self._ledger.commit(operation)
            self._flush()
            for statement, parameters in operation.statements:
                self._execute(statement, parameters)
        except StatementError:
            self._ledger.clear()
            self.forget()
            execute("ROLLBACK TO flowstore_statements")
            raise
        finally:
            execute("RELEASE flowstore_statements")
        return result

    def _execute(self, statement: Any, parameters: Any) -> None:
        if self._alchemy is None:
            engine = create_engine(
                "sqlite://",
                creator=lambda: self._connection,
                poolclass=StaticPool,
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
            )
            self._alchemy = engine.connect()
        try:
            self._alchemy.execute(statement, parameters)
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            raise StatementError(
                f"a statement given to ctx.execute failed, so nothing of its handler was "
                f"committed: {cause}"
            ) from error

    # --- claims, surveys, leases -----------------------------------------------------

    def _claim(self, operation: base.Claim) -> list[base.Grant]:
        self._flush()
        grants: list[base.Grant] = []
        names = operation.names
        candidates = self._pending(operation) if names is None else names
        for name in candidates:
            if len(grants) >= operation.limit:
                break
            run = self.run(name)
            if run is None or not self._is_claimable(run, operation):
                continue
            cached = operation.cached.get(name, -1)
            grants.append(self._ledger.grant(run, operation.owner, operation.now, cached))
        return grants

    def _pending(self, operation: base.Claim) -> list[str]:
        rows = self._connection.execute(
            "SELECT correlation_id, owner FROM run WHERE status = 'running' AND workflow = ? "
            "AND (ready_at IS NULL OR ready_at <= ?) ORDER BY id",
            (operation.workflow, operation.now),
        )
        dead: dict[str | None, bool] = {None: True, operation.owner: False}
        found: list[str] = []
        for name, owner in rows:
            if owner not in dead:
                dead[owner] = self.has_lost_lease(owner, operation.now)
            if dead[owner]:
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
                or run.owner == operation.owner
                or self.has_lost_lease(run.owner, operation.now)
            )
        )

    def _survey(self, operation: base.Survey) -> base.Surveyed:
        self._flush()
        seen = base.Surveyed()
        for run_id, epoch in operation.epochs.items():
            run = self.run_by_id(run_id)
            if run is None or run.epoch > epoch:
                seen.lost.append(run_id)
        probe = base.Claim(operation.workflow, operation.owner, operation.now, 1)
        seen.pending = bool(self._pending(probe))
        (seen.due,) = self._connection.execute(
            "SELECT min(ready_at) FROM run WHERE status = 'running' AND workflow = ? "
            "AND ready_at > ?",
            (operation.workflow, operation.now),
        ).fetchone()
        return seen

    def _release(self, operation: base.Release) -> None:
        self._flush()
        self._connection.execute(
            "UPDATE run SET owner = NULL, epoch = epoch + 1 WHERE owner = ?", (operation.owner,)
        )
        self.forget()

    def has_lost_lease(self, owner: str, now: int) -> bool:
        """Tell whether this worker is dead, or silent beyond its lease (G8, G9)."""
        if self._path is None or not is_alive(self._path, owner):
            return True
        row = self._connection.execute("SELECT lease FROM worker WHERE id = ?", (owner,)).fetchone()
        return row is None or row[0] < now

    def register(self, worker_id: str, now: int) -> None:
        """Record this process as a worker, and forget those that are gone."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for (other,) in self._connection.execute("SELECT id FROM worker").fetchall():
                if self._path is not None and not is_alive(self._path, other):
                    self._connection.execute("DELETE FROM worker WHERE id = ?", (other,))
            self._connection.execute(
                "INSERT OR REPLACE INTO worker (id, host, pid, started_at, lease) "
                "VALUES (?, ?, ?, ?, ?)",
                (worker_id, os.uname().nodename, os.getpid(), now, now + self.lease),
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._connection.execute("ROLLBACK")
            raise

    def renew(self, worker_id: str, now: int) -> None:
        """Say that this worker is still at work."""
        self._connection.execute(
            "UPDATE worker SET lease = ? WHERE id = ?", (now + self.lease, worker_id)
        )

    def has_news(self) -> bool:
        """Tell whether another connection has committed since this was last asked."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._version = version
        self.unheard = True
        return True

    def forget(self) -> None:
        """Forget the runs in memory: they are no longer known to be what the file has."""
        self._by_name.clear()
        self._by_id.clear()
        self._next_run_id = 0

    # --- ledger.Lookup -----------------------------------------------------------------

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
        self._keep(run)
        return run

    def _keep(self, run: RunRow) -> None:
        if len(self._by_id) >= _CACHED_RUNS:
            self._flush()
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
        fresh = self._ledger.chosen.get((run_id, event_id))
        if fresh is not None:
            return fresh
        row = self._connection.execute(self._sql.event_by_id, (run_id, event_id)).fetchone()
        return None if row is None else StoredEvent(*row)

    def names_between(self, run_id: int, after: int, until: int) -> list[tuple[int, str, str]]:
        """Return position, id and name of events."""
        self._flush()
        return self._connection.execute(
            self._sql.names_between, (run_id, after, until)
        ).fetchall()

    def load(self, run: RunRow, cached_version: int) -> Loaded:
        """Read what a worker needs to go on with the run."""
        self._flush()
        execute, sql = self._connection.execute, self._sql
        loaded = Loaded(
            events=self._events_after(run.id, run.cursor, _PAGE),
            transitions=[
                TransitionRow(*row)
                for row in execute(sql.transitions_after, (run.id, run.cursor))
            ],
            steps=[base.StepRow(*row) for row in execute(sql.steps_after, (run.id, run.cursor))],
        )
        if run.state_version == cached_version:
            loaded.state_is_cached = True
        elif run.state_version:
            row = execute(sql.last_snapshot, (run.id, 1, 0)).fetchone()
            after, loaded.state = row or (0, None)
            loaded.changes = [change for (change,) in execute(sql.changes_after, (run.id, after))]
        return loaded

    def _events_after(self, run_id: int, after: int, limit: int) -> list[StoredEvent]:
        self._flush()
        rows = self._connection.execute(self._sql.events_after, (run_id, after, limit, 0))
        return [StoredEvent(*row) for row in rows]

    # --- the end ---------------------------------------------------------------------

    def close(self, worker_id: str | None) -> None:
        """Sign off and close the connection, which folds the WAL into the file."""
        if worker_id is not None:
            self._attempt(lambda: self._sign_off(worker_id))
        if self._alchemy is not None:
            self._alchemy.detach()
        self._connection.close()
        if self._turn is not None:
            self._turn.close()

    def _sign_off(self, worker_id: str) -> None:
        self._connection.execute("DELETE FROM worker WHERE id = ?", (worker_id,))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except sqlite3.Error:
            # A row left behind is removed by the next worker; the file is closed either way.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _run_values(run: RunRow) -> tuple[Any, ...]:
    return (
        run.id,
        run.correlation_id,
        run.workflow,
        run.status,
        run.head,
        run.cursor,
        run.state_version,
        run.epoch,
        run.owner,
        run.ready_at,
        run.result,
        run.reason,
        run.lineage,
        run.created_at,
        run.updated_at,
    )


def _changed_values(run: RunRow) -> tuple[Any, ...]:
    return (
        run.status,
        run.head,
        run.cursor,
        run.state_version,
        run.epoch,
        run.owner,
        run.ready_at,
        run.result,
        run.reason,
        run.updated_at,
        run.id,
    )
