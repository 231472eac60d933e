"""Many rows of a table at a time, as the driver takes them fastest.

For each None that it is given the driver looks for an adapter, in vain, which takes longer than
handing over a text; and a row that is a named tuple is taken apart item by item. So a batch is
turned by its columns, those without a value are left out, and what is left are plain tuples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowstore.store import schema
from flowstore.store.base import DropRow, SnapshotRow, StepRow, StoredEvent, TransitionRow
from flowstore.store.records import RUN_COLUMNS
from flowstore.store.statements import insert_text, update_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table

    Columns = Sequence[Sequence[Any]]
    Filled = tuple[int, ...]

_FIELDS: Final[dict[Table, tuple[str, ...]]] = {
    schema.run: RUN_COLUMNS,
    schema.event: (*StoredEvent._fields, "hash"),
    schema.transition: TransitionRow._fields,
    schema.snapshot: SnapshotRow._fields,
    schema.step: StepRow._fields,
    schema.drop: DropRow._fields,
}

CHANGED: Final = (
    *("status", "head", "cursor", "state_version", "epoch", "owner", "ready_at"),
    *("result", "reason", "updated_at", "waits", "tasks", "chain"),
)
"""What can change in a run that begins to have something to do, or ends."""


class Bulk:
    """Writes rows over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run_many = connection.executemany
        self._texts: dict[tuple[str, Filled], str] = {}
        """By the columns that have a value: some dozens, as few columns can have none."""

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, if there are any; their cells are those of the table's record."""
        if rows:
            self.insert_columns(table, tuple(zip(*rows, strict=True)))

    def insert_columns(self, table: Table, columns: Columns) -> None:
        """Insert rows that are given by their columns; there must be one at least."""

        def text(filled: Filled) -> str:
            fields = _FIELDS[table]
            # A step that failed makes room for the attempt that does not.
            prefix = "OR REPLACE" if table is schema.step else None
            return insert_text(table, tuple([fields[index] for index in filled]), prefix)

        self._write(table.name, columns, text)

    def change_runs(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Update runs, if there are any: the cells of `CHANGED`, and the id."""

        def text(filled: Filled) -> str:
            empty = [name for index, name in enumerate(CHANGED) if index not in filled]
            return update_run(*[name for name in CHANGED if name not in empty], empty=empty)

        if rows:
            self._write("", tuple(zip(*rows, strict=True)), text)

    def _write(self, kind: str, columns: Columns, text: Callable[[Filled], str]) -> None:
        count = len(columns[0])
        filled = tuple(
            [
                index
                for index, column in enumerate(columns)
                # The first mostly decides: to count means to compare all cells with None.
                if column[0] is not None or column.count(None) < count
            ]
        )
        sql = self._texts.get((kind, filled))
        if sql is None:
            sql = self._texts[kind, filled] = text(filled)
        self._run_many(sql, zip(*[columns[index] for index in filled], strict=True))
