"""How records are printed: aligned text for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flowstore.clock import to_datetime
from flowstore.errors import StoreCorruptError
from flowstore.store.base import StoredEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Columns that hold JSON texts or microseconds since 1970, as the data model has them.
_JSON_FIELDS = frozenset({"data", "metadata", "change", "result", "lineage"})
_TIME_FIELDS = frozenset(
    {"created_at", "updated_at", "started_at", "ready_at", "expires_at", "since", "due_at"}
)

_WIDE = frozenset("WF")
_LONGEST_CELL = 80


def time_text(microseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, with microseconds."""
    text = to_datetime(microseconds).isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z"


def to_json(record: Any) -> dict[str, Any]:
    """Return a record, or a named tuple, as JSON has it: with times as text and JSON unfolded.

    Raises:
        StoreCorruptError: a column that should hold JSON holds something else.
    """
    fields: dict[str, Any] = record._asdict() if isinstance(record, StoredEvent) else asdict(record)
    return {name: _field(name, value) for name, value in fields.items()}


def _field(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _TIME_FIELDS:
        return time_text(value)
    if name in _JSON_FIELDS:
        try:
            return json.loads(value)
        except ValueError as error:
            message = f"the column {name} holds no JSON but {value[:40]!r}: restore a backup"
            raise StoreCorruptError(message) from error
    return value


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return JSON that any encoding of standard output can carry."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not unicode, indent=indent)


def print_json(value: Any) -> None:
    """Print one JSON value over several lines."""
    write(json_text(value, indent=2) + "\n")


def write(text: str) -> None:
    """Write to standard output; what its encoding cannot carry is written as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def note(text: str) -> None:
    """Tell a person something that is not part of the output."""
    sys.stdout.flush()
    sys.stderr.write(f"({printable(text)})\n")


def printable(text: str) -> str:
    """Return the text with control characters written as escapes: they may steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows under their columns' names: aligned text, and a table on a terminal."""
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
        return
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        padded = (
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        )
        write("  ".join(padded).rstrip() + "\n")


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one to a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        write(f"{name.ljust(width)}  {_text(value)}\n")


def _cell(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(letter) in _WIDE else not unicodedata.combining(letter)
        for letter in text
    )


def _print_rich(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    # A pipe does not pay for importing it.
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - see above
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        # As text: brackets in data are no markup.
        table.add_row(*map(Text, row))
    Console().print(table)


def print_list(
    records: Sequence[Any], columns: Sequence[str], limit: int, what: str, *, as_json: bool
) -> None:
    """Print records of which there is one more than ``limit`` if not all are printed."""
    rows = [to_json(record) for record in records[:limit]]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(columns, rows)
    if len(records) > limit:
        note(f"the youngest {limit} {what}; more with --limit")
    elif not rows and not as_json:
        note(f"no {what}")
