"""What the dead letters' decisions are told about an SQLite database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.store.base import StoredEvent, TransitionRow
from flowstore.store.keys import name_behind

if TYPE_CHECKING:
    import sqlite3

    from flowstore.store.rows import Rows

_EVENT = ", ".join(StoredEvent._fields)
_TRANSITION = ", ".join(TransitionRow._fields)


class LetterRows:
    """Implements `flowstore.store.letters.LetterLookup`."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows) -> None:
        self._connection = connection
        self._rows = rows

    def attempts(self, run_id: int, position: int) -> list[TransitionRow]:
        """Return the transitions at a position, in order."""
        self._rows.flush()
        rows = self._connection.execute(
            f"SELECT {_TRANSITION} FROM transition WHERE run_id = ? AND position = ? "  # noqa: S608 - of constants
            "ORDER BY number",
            (run_id, position),
        )
        return [TransitionRow(*row) for row in rows]

    def event_at(self, run_id: int, position: int) -> StoredEvent | None:
        """Return the event at a position."""
        self._rows.flush()
        row = self._connection.execute(
            f"SELECT {_EVENT} FROM event WHERE run_id = ? AND position = ?",  # noqa: S608 - of constants
            (run_id, position),
        ).fetchone()
        return None if row is None else StoredEvent(*row)

    def last_parked(self, run_id: int, position: int, handler: str, before: int) -> str | None:
        """Return what a handler arranged when it was parked last before a transition's number."""
        row = self._connection.execute(
            "SELECT arranged FROM transition WHERE run_id = ? AND position >= ? AND number < ? "
            "AND outcome IN ('parked', 'postponed') "
            "AND ((position = ? AND handler = ?) OR handler = ?) "
            "ORDER BY number DESC LIMIT 1",
            (run_id, position, before, position, handler, name_behind(handler, position)),
        ).fetchone()
        return None if row is None else row[0]

    def discarded(self, run_id: int, event_id: str) -> list[tuple[int, str]]:
        """Return positions and handlers of the dead letters at an event that are discarded."""
        rows = self._connection.execute(
            'SELECT position, handler FROM "drop" WHERE run_id = ? AND event_id = ? '
            "AND reason = 'discarded'",
            (run_id, event_id),
        )
        return [(position, handler) for position, handler in rows]

    def failures(self, run_id: int) -> list[tuple[int, str, str, str | None, int, str]]:
        """Return position, handler, event's name, error, number, event's id of all that died."""
        rows = self._connection.execute(
            "SELECT transition.position, handler, event.name, transition.error, number, event.id "
            "FROM transition JOIN event ON event.run_id = transition.run_id "
            "AND event.position = transition.position "
            "WHERE transition.run_id = ? AND outcome = 'dead' ORDER BY number",
            (run_id,),
        )
        return rows.fetchall()
