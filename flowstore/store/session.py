"""The one connection that writes to an SQLite file, and how a batch goes through it.

Everything here runs on the writer's thread. A batch is one transaction: take the turn, begin,
decide in memory (`Ledger`), write the rows in bulk, commit.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any

from flowstore.errors import (
    FlowstoreError,
    StatementError,
    StoreError,
    StoreUnavailableError,
)
from flowstore.store import base, chain, schema, statements
from flowstore.store.bulk import Bulk
from flowstore.store.claims import Claims
from flowstore.store.execute import RolledBackError, UserStatements
from flowstore.store.failures import translate
from flowstore.store.leases import LEASE_SECONDS, Leases
from flowstore.store.ledger import Ledger
from flowstore.store.rows import Rows
from flowstore.store.url import MEMORY
from flowstore.store.waiting_rows import WaitingRows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flowstore.store.base import RunRow
    from flowstore.store.letters import Letters
    from flowstore.store.lock import FileLock

Outcome = tuple[Any, BaseException | None]

_SIGNING = "secret"

LEAST_WAL_PAGES = 400
"""Pages in a small store's WAL before it is folded into the file: 1.6 MB (SQLite's own: 4)."""

MOST_WAL_PAGES = 4_000
"""The same for a large store: 16 MB."""

FILE_PAGES_PER_WAL_PAGE = 4
BATCHES_PER_PACE = 64


class Session:
    """The write connection, and the batches that go through it.

    Args:
        connection: open, with no implicit transactions; of this thread from now on.
        path: the database; None in memory.
        turn: the lock that writers take in turn; None in memory.
        lease_seconds: how long a worker that says nothing keeps its runs.
        patience: seconds to wait for the turn.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        turn: FileLock | None,
        lease_seconds: float = LEASE_SECONDS,
        patience: float = 30.0,
    ) -> None:
        self.leases = Leases(connection, path, lease_seconds)
        self.unheard = False
        """Another connection has written and the listeners do not know yet."""
        self._connection = connection
        self._path = path
        place = None if path is None else path.stat()
        self._place = None if place is None else (place.st_ino, place.st_dev)
        self._where = MEMORY if path is None else str(path)
        self._turn = turn
        self._patience = patience
        self._sql = statements.build()
        self._bulk = Bulk(connection)
        self._rows = Rows(connection, self._sql, self.leases)
        self._outstanding = WaitingRows(connection)
        self._ledger = Ledger(self._rows, self._outstanding)
        self._rows.ledger = self._ledger
        self._rows.flush = self._outstanding.flush = self._flush
        self._user_statements = UserStatements(connection)
        self._claims = Claims(connection, self._rows, self._outstanding, self._ledger, self.leases)
        self._apply_other = self._others()
        self._version = -1
        self._batches = 0
        connection.execute(f"PRAGMA wal_autocheckpoint={LEAST_WAL_PAGES}")

    # --- a batch ---------------------------------------------------------------------

    def carry_out(self, operations: list[base.Operation]) -> list[Outcome]:
        """Carry out operations as one transaction; one that fails does so alone."""
        only = operations[0] if len(operations) == 1 else None
        if isinstance(only, base.Survey) and (seen := self._glance(only)) is not None:
            return [(seen, None)]
        try:
            return self._transact(operations)
        except StoreError as error:
            return [(None, error)] * len(operations)
        except RolledBackError as error:
            if len(operations) == 1:
                return [(None, error.__cause__)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is delivered
            if len(operations) == 1:
                return [(None, _foreign(error, self._where))]
        # One of them spoiled it for all: find which by going one by one.
        return [outcome for each in operations for outcome in self.carry_out([each])]

    def _transact(self, operations: list[base.Operation]) -> list[Outcome]:
        if any(isinstance(each, base.Commit) and each.statements for each in operations):
            self._user_statements.connect()
        self._begin()
        try:
            outcomes = [self._apply(operation) for operation in operations]
            self._flush()
            self._pace_checkpoints()
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._abandon()
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise translate(error, self._where) from error
            raise
        finally:
            if self._turn is not None:
                self._turn.release()
        return outcomes

    def _pace_checkpoints(self) -> None:
        """Let the WAL grow with the file, to a limit.

        A checkpoint writes each page once, however often the WAL has it; the pages of a large
        store are many, and with few in the WAL each would be written for almost every commit.
        """
        self._batches += 1
        if self._batches % BATCHES_PER_PACE or self._path is None:
            return
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        pages = max(LEAST_WAL_PAGES, min(pages // FILE_PAGES_PER_WAL_PAGE, MOST_WAL_PAGES))
        self._connection.execute(f"PRAGMA wal_autocheckpoint={pages}")

    def _begin(self) -> None:
        try:
            self._check_place()
            if self._turn is not None:
                self._turn.acquire(self._patience)
            self._connection.execute("BEGIN IMMEDIATE")
            if self.has_news():
                self._rows.forget()
        except (sqlite3.Error, OSError) as error:
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            finally:
                if self._turn is not None and not isinstance(error, OSError):
                    self._turn.release()
            raise translate(error, self._where) from error

    def _check_place(self) -> None:
        """Refuse to write to a file that no one will find again: SQLite would not notice."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        if found is None or (found.st_ino, found.st_dev) != self._place:
            raise StoreUnavailableError(
                f"{self._where}: the file was removed or replaced while it was open, so nothing "
                "is written any more; put it back and start again"
            )

    def _abandon(self) -> None:
        self._ledger.clear()
        self._rows.forget()
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
            return self._apply_other[type(operation)](operation), None
        except FlowstoreError as error:
            return None, error

    def _others(self) -> dict[type[base.Operation], Callable[[Any], Any]]:
        """Return what carries out each operation that is neither commit nor append."""
        waiting, rows = self._ledger.waiting, self._rows
        return {
            base.Claim: self._claims.claim,
            base.Load: lambda load: rows.events_after(load.run_id, load.after, load.limit),
            base.Close: self._ledger.close,
            base.Survey: self._claims.survey,
            base.Release: self._release,
            base.Fire: waiting.fire,
            base.BeginCron: waiting.begin_cron,
            base.FireCron: waiting.fire_cron,
            base.EndTask: waiting.end_task,
            base.RetryTask: waiting.retry_task,
            base.TakeTasks: waiting.take_tasks,
            base.LoadParked: lambda load: rows.load_parked(load.row),
            base.BeginStream: waiting.begin_stream,
            base.AddChunks: waiting.add_chunks,
            base.RetryDead: lambda letter: self._letters().retry(letter),
            base.DiscardDead: lambda letter: self._letters().discard(letter),
            base.Prune: self._prune,
            base.Restore: self._restore,
        }

    # What few processes do is imported by those that do it.

    def _letters(self) -> Letters:
        from flowstore.store.letter_rows import LetterRows  # noqa: PLC0415 - as just said
        from flowstore.store.letters import Letters  # noqa: PLC0415

        return Letters(self._ledger, self._rows, LetterRows(self._connection, self._rows))

    def _prune(self, operation: base.Prune) -> Any:
        from flowstore.store.prune import prune  # noqa: PLC0415 - as above

        return prune(self._connection, self._rows, operation)

    def _restore(self, operation: base.Restore) -> list[int | None]:
        from flowstore.store.restore import restore  # noqa: PLC0415 - as above

        return restore(self._connection, self._rows, operation)

    def _flush(self) -> None:
        ledger, insert = self._ledger, self._bulk.insert
        hashes = self._chained(ledger.events)
        insert(schema.run, [run.values() for run in ledger.new_runs])
        for run in ledger.new_runs:
            ledger.moved.pop(run.id, None)
            ledger.changed.pop(run.id, None)
        moved = [
            (run.head, run.cursor, run.state_version, run.updated_at, run.chain, run.id)
            for run in ledger.moved.values()
            if run.id not in ledger.changed
        ]
        self._bulk.change_runs([_changed_values(run) for run in ledger.changed.values()])
        if moved:
            self._connection.executemany(self._sql.move_run, moved)
        if hashes:
            self._bulk.insert_columns(schema.event, (*zip(*ledger.events, strict=True), hashes))
        insert(schema.transition, ledger.transitions)
        insert(schema.snapshot, ledger.snapshots)
        insert(schema.step, ledger.steps)
        insert(schema.drop, ledger.drops)
        ledger.clear()

    def _chained(self, events: list[base.StoredEvent]) -> list[bytearray]:
        """Return the hashes of new events, and note these in their runs."""
        hashes: list[bytearray] = []
        link = chain.link
        # In memory: whoever evicts a run writes what waits first. No cast: this is the hot path.
        find: Any = self._rows.run_by_id
        for event in events:
            run = find(event[0])
            after = link(run.chain or chain.begin(run.correlation_id), event[1:])
            run.chain = row = bytearray(after)  # for bytes the driver looks for an adapter
            hashes.append(row)
        return hashes

    # --- the user's own statements ---------------------------------------------------

    def _commit_with_statements(self, operation: base.Commit) -> base.Committed:
        """Commit together with the user's statements, or not at all (G2)."""
        execute = self._connection.execute
        self._flush()
        execute("SAVEPOINT flowstore_statements")
        try:
            result = self._ledger.commit(operation)
            self._flush()
            self._user_statements.run(operation.statements)
        except StatementError:
            self._ledger.clear()
            self._rows.forget()
            execute("ROLLBACK TO flowstore_statements")
            execute("RELEASE flowstore_statements")
            raise
        execute("RELEASE flowstore_statements")
        return result

    # --- surveys, leases -----------------------------------------------------

    def _glance(self, operation: base.Survey) -> base.Surveyed | None:
        """Look without a transaction, as long as there is nothing to write."""
        try:
            self.look_around()
            seen = self._claims.see(operation)
        except sqlite3.Error:
            return None
        return None if seen.lost else seen

    def _release(self, operation: base.Release) -> None:
        self._flush()
        self._connection.execute(
            "UPDATE run SET owner = NULL, epoch = epoch + 1 WHERE owner = ?", (operation.owner,)
        )
        self._rows.forget()

    def look_around(self) -> None:
        """Between batches: see whether the runs in memory are still what the file has."""
        if self.has_news():
            self._rows.forget()

    def has_news(self) -> bool:
        """Tell whether another connection has committed since this was last asked."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._version = version
        self.unheard = True
        return True

    def register(self, worker_id: str) -> bytes:
        """Record this process as a worker; return the secret, which is made if there is none.

        Raises:
            StoreError: that could not be written.
        """
        self._begin()
        try:
            self.leases.register(worker_id)
            self._connection.execute(
                "INSERT OR IGNORE INTO setting (name, value) VALUES (?, ?)",
                (_SIGNING, secrets.token_hex(32)),
            )
            secret = self.secret()
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon()
            raise translate(error, self._where) from error
        finally:
            if self._turn is not None:
                self._turn.release()
        return secret

    def secret(self) -> bytes:
        """Return what tokens are signed with; empty if it has not been made."""
        row = self._connection.execute(
            "SELECT value FROM setting WHERE name = ?", (_SIGNING,)
        ).fetchone()
        return b"" if row is None else bytes.fromhex(row[0])

    # --- the end ---------------------------------------------------------------------

    def close(self, worker_id: str | None) -> None:
        """Sign off and close the connection, which folds the WAL into the file."""
        if worker_id is not None:
            # A row left behind is removed by the next worker.
            with contextlib.suppress(sqlite3.Error):
                self.leases.end(worker_id)
        self._user_statements.close()
        self._connection.close()
        if self._turn is not None:
            self._turn.close()


def _foreign(error: Exception, where: str) -> StoreError:
    if isinstance(error, sqlite3.Error):
        return translate(error, where)
    failure = StoreError(f"{where}: could not be written: {error}")
    failure.__cause__ = error
    return failure


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
        run.waits,
        run.tasks,
        run.chain,
        run.id,
    )
