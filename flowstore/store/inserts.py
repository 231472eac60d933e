"""Rows on their way into a table, many at a time, as the driver takes them fastest.

For each None that it is given the driver looks for an adapter, in vain, which takes longer than
handing over a text; and a row that is a named tuple is taken apart item by item. So a batch is
turned by its columns, those without a value are left out, and what is left are plain tuples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowstore.store import schema
from flowstore.store.base import DropRow, SnapshotRow, StepRow, StoredEvent, TransitionRow
from flowstore.store.statements import RUN_COLUMNS, insert_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from sqlalchemy import Table

_FIELDS: Final[dict[Table, tuple[str, ...]]] = {
    schema.run: RUN_COLUMNS,
    schema.event: (*StoredEvent._fields, "hash"),
    schema.transition: TransitionRow._fields,
    schema.snapshot: SnapshotRow._fields,
    schema.step: StepRow._fields,
    schema.drop: DropRow._fields,
}


class Inserts:
    """Inserts rows over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run_many = connection.executemany
        self._texts: dict[tuple[str, tuple[int, ...]], str] = {}

    def rows(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, if there are any; their cells are those of the table's record."""
        if rows:
            self.columns(table, tuple(zip(*rows, strict=True)))

    def columns(self, table: Table, columns: Sequence[Sequence[Any]]) -> None:
        """Insert rows that are given by their columns; there must be one at least."""
        count = len(columns[0])
        filled = tuple(
            [
                index
                for index, column in enumerate(columns)
                # The first mostly decides: to count means to compare all cells with None.
                if column[0] is not None or column.count(None) < count
            ]
        )
        text = self._texts.get((table.name, filled)) or self._text(table, filled)
        self._run_many(text, zip(*[columns[index] for index in filled], strict=True))

    def _text(self, table: Table, filled: tuple[int, ...]) -> str:
        fields = _FIELDS[table]
        # A step that failed makes room for the attempt that does not.
        prefix = "OR REPLACE" if table is schema.step else None
        text = insert_text(table, tuple([fields[index] for index in filled]), prefix)
        self._texts[table.name, filled] = text
        return text
