"""Reading an SQLite store to see whether its events are those that were appended.

Two looks. The first goes through all events in the order in which they were appended, some at a
time, so that it holds nothing back; a run that looks wrong is then read by itself, from one
moment, and only what is wrong there counts: meanwhile workers may append, and runs be pruned.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowstore.store.failures import translate
from flowstore.store.flaws import EventCells, Flaw, Head, beginning, digest, first_flaw
from flowstore.store.readonly import read_only_uri
from flowstore.store.url import MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from flowstore.store.url import StoreUrl

PAGE: Final = 20_000
"""Events read in one transaction: a tenth of a second."""

_CELLS: Final = (
    "position, id, name, version, data, metadata, error, causation_id, created_at, expires_at, "
    "hash, seq"
)


class Known(NamedTuple):
    """What was known of a run at an earlier time: where its events ended, and with which hash."""

    head: int
    chain: bytes | None


@dataclass(slots=True)
class Standing:
    """How far the look at a run has come.

    Attributes:
        head, chain: what the run's row says.
        position: the last event that has been seen; ``before`` is its hash.
    """

    correlation_id: str
    head: Any
    chain: Any
    position: int
    before: bytes
    is_suspect: bool = False


@dataclass(slots=True)
class Verified:
    """What a look has found.

    Attributes:
        events: how many events there are.
        runs: the runs by correlation_id, each with its head and the hash of its last event.
        flaws: the first of each run that has one, in the order of the runs.
    """

    events: int = 0
    runs: dict[str, Known] = field(default_factory=dict[str, Known])
    flaws: list[Flaw] = field(default_factory=list[Flaw])


def verify(
    connection: sqlite3.Connection,
    correlation_id: str | None = None,
    *,
    against: Mapping[str, Known] | None = None,
    seen: Callable[[int], object] = lambda _: None,
) -> Verified | None:
    """Look for events that were changed, removed or inserted.

    Args:
        connection: reads only.
        correlation_id: this run; None for all.
        against: what was known of runs before, for those that are looked at.
        seen: told how many events have been read, now and then.

    Returns:
        what was found; None if there is no such run.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    look = _Look(connection, against or {}, is_alone=correlation_id is not None)
    with _any_text(connection):
        with _moment(connection):
            runs = look.standings(correlation_id)
            (last,) = connection.execute("SELECT max(seq) FROM event").fetchone()
        if correlation_id is not None:
            if not runs and correlation_id not in look.against:
                return None
            for run in runs.values():
                run.is_suspect = True
        else:
            look.all_events(runs, last, seen)
        look.conclude(runs, correlation_id)
    return look.result


def verify_store(url: StoreUrl, correlation_id: str | None) -> Verified | None:
    """Look into a store as `verify` does; to be called in a thread of its own.

    Raises:
        StoreError: the database cannot be read.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(
                read_only_uri(url), uri=True, timeout=url.busy_timeout, isolation_level=None
            )
        ) as connection:
            connection.execute("PRAGMA query_only=1")
            return verify(connection, correlation_id)
    except sqlite3.Error as error:
        raise translate(error, MEMORY if url.path is None else str(url.path)) from error


class _Look:
    def __init__(
        self, connection: sqlite3.Connection, against: Mapping[str, Known], *, is_alone: bool
    ) -> None:
        self._connection = connection
        self._is_alone = is_alone
        self.against = against
        self.result = Verified()
        self._strangers: dict[int, Any] = {}

    def standings(self, correlation_id: str | None) -> dict[int, Standing]:
        """Return where each run begins, by the run's id."""
        where = "" if correlation_id is None else " WHERE correlation_id = ?"
        values = () if correlation_id is None else (correlation_id,)
        rows = self._connection.execute(
            f"SELECT id, correlation_id, head, chain FROM run{where} ORDER BY id",  # noqa: S608 - of constants
            values,
        )
        found: dict[int, Standing] = {}
        for run_id, name, head, last in rows:
            found[run_id] = Standing(name, head, last, 0, beginning(name))
        return found

    # --- the first look ----------------------------------------------------------------------

    def all_events(
        self, runs: dict[int, Standing], last: int | None, seen: Callable[[int], object]
    ) -> None:
        """Go through all events up to the last one that was there at the beginning."""
        first = -(2**63)  # the least number that a row can have
        while last is not None and first <= last and (page := self._page(first, last)):
            for row in page:
                self._see(runs, row)
            first = page[-1][-1] + 1
            self.result.events += len(page)
            seen(self.result.events)

    def _page(self, first: int, last: int) -> list[tuple[Any, ...]]:
        # Not by an index: it could say something else than the table.
        sql = (
            f"SELECT run_id, {_CELLS} FROM event NOT INDEXED "  # noqa: S608 - of constants
            "WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?"
        )
        values = (first, last, PAGE)
        self._connection.text_factory = str
        try:
            with _moment(self._connection):
                return self._connection.execute(sql, values).fetchall()
        except (sqlite3.OperationalError, UnicodeDecodeError) as error:
            if "decode" not in str(error):
                raise
        finally:
            self._connection.text_factory = _lenient
        with _moment(self._connection):
            return self._connection.execute(sql, values).fetchall()

    def _see(self, runs: dict[int, Standing], row: tuple[Any, ...]) -> None:
        run = runs.get(row[0])
        if run is None:
            self._strangers.setdefault(row[0], row[1])
            return
        if run.is_suspect:
            return
        cells = row[1:11]
        run.position += 1
        made = digest(run.before, cells)
        if made is None or made != row[11] or cells[0] != run.position:
            run.is_suspect = True
            return
        run.before = made
        known = self.against.get(run.correlation_id)
        if known is not None and known.head == run.position and known.chain != made:
            run.is_suspect = True

    # --- the second look ---------------------------------------------------------------------

    def conclude(self, runs: dict[int, Standing], only: str | None) -> None:
        """Read the runs again that looked wrong, and say what is."""
        result = self.result
        for run_id, run in runs.items():
            is_even = run.head == run.position and run.chain == (run.before if run.head else None)
            known = self.against.get(run.correlation_id)
            if run.is_suspect or not is_even or (known is not None and known.head > run.position):
                self._read_again(run_id, run)
            else:
                result.runs[run.correlation_id] = Known(run.position, run.chain)
        for run_id, position in self._strangers.items():
            self._read_stranger(run_id, position)
        names = {run.correlation_id for run in runs.values()}
        for name, known in self.against.items():
            if name not in names and only in {None, name} and not self._is_accounted_for(name):
                message = f"the run, which had {known.head} events, is gone"
                self._note(name, 1, "removed", message)

    def _read_again(self, run_id: int, run: Standing) -> None:
        with _moment(self._connection):
            found = self._connection.execute(
                "SELECT correlation_id, head, chain FROM run WHERE id = ?", (run_id,)
            ).fetchone()
            if found is None or found[0] != run.correlation_id:
                return  # it has been pruned meanwhile
            rows = self._rows(run_id)
        if self._is_alone:
            self.result.events += len(rows)
        head = Head(*found)
        flaw = first_flaw(head, rows) or self._parting(head, rows)
        if flaw is None:
            self.result.runs[head.correlation_id] = Known(head.head, head.chain)
        else:
            self.result.flaws.append(flaw)

    def _rows(self, run_id: int) -> list[EventCells]:
        rows = self._connection.execute(
            f"SELECT {_CELLS} FROM event WHERE run_id = ? ORDER BY position",  # noqa: S608 - of constants
            (run_id,),
        )
        return [EventCells(row[:10], row[10], row[11]) for row in rows]

    def _parting(self, run: Head, rows: list[EventCells]) -> Flaw | None:
        """Compare a run that fits in itself with what was known of it."""
        known = self.against.get(run.correlation_id)
        if known is None or self._is_accounted_for(run.correlation_id):
            return None
        name, place = run.correlation_id, known.head
        if place > len(rows):
            message = f"the run's last rows are cut off: it had {place} events"
            return Flaw(
                correlation_id=name, position=len(rows) + 1, kind="removed", message=message
            )
        if rows[place - 1].hash == known.chain:
            return None
        message = (
            "its hash is not the one that was noted: this row or one before it was changed, and "
            "the hashes up to the run's end made anew"
        )
        return Flaw(correlation_id=name, position=place, kind="changed", message=message)

    def _read_stranger(self, run_id: int, position: Any) -> None:
        with _moment(self._connection):
            sql = "SELECT 1 FROM run WHERE id = ?"
            if self._connection.execute(sql, (run_id,)).fetchone() is not None:
                return  # it has been made meanwhile, with the id of one that was pruned
            (count,) = self._connection.execute(
                "SELECT count(*) FROM event WHERE run_id = ?", (run_id,)
            ).fetchone()
        if count:
            message = (
                f"{count} rows name the run with the id {run_id!r}, which is not there: they were "
                "inserted, or their run's row was removed"
            )
            self._note(None, position if isinstance(position, int) else None, "inserted", message)

    def _is_accounted_for(self, name: str) -> bool:
        """Tell whether what was known of a run was pruned since, or was nothing."""
        known = self.against[name]
        if not known.head:
            return True
        row = self._connection.execute(
            "SELECT position FROM pruned WHERE correlation_id = ? AND event_id = ''", (name,)
        ).fetchone()
        return row is not None and row[0] >= known.head

    def _note(self, name: str | None, position: int | None, kind: Any, message: str) -> None:
        flaw = Flaw(correlation_id=name, position=position, kind=kind, message=message)
        self.result.flaws.append(flaw)


class _moment:  # noqa: N801 - reads like a function
    """One read transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


@contextlib.contextmanager
def _any_text(connection: sqlite3.Connection) -> Generator[None]:
    """Read texts that are not UTF-8 as well, as long as the block lasts."""
    before = connection.text_factory
    connection.text_factory = _lenient
    try:
        yield
    finally:
        connection.text_factory = before


def _lenient(text: bytes) -> str:
    """Read also what is no UTF-8: it has been changed, and can be hashed by no one."""
    return text.decode("utf-8", "surrogateescape")
