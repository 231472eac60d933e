"""How records are printed: aligned text for people, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import unicodedata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flowstore.cli import terminal
from flowstore.clock import to_datetime
from flowstore.errors import StoreCorruptError
from flowstore.printable import counted as counted  # noqa: PLC0414 - it is used from here
from flowstore.printable import printable as printable  # noqa: PLC0414 - it is used from here

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from flowstore.cli.terminal import Piece

# Columns that hold JSON texts or microseconds since 1970, as the data model has them.
_JSON_FIELDS = frozenset(
    {"data", "metadata", "change", "result", "lineage", "arguments", "condition", "answers"}
)
_TIME_FIELDS = frozenset(
    {
        "created_at",
        "updated_at",
        "started_at",
        "submitted_at",
        "ended_at",
        "ready_at",
        "expires_at",
        "since",
        "due_at",
    }
)

# What JSON lets pass, and a terminal may obey: C1 controls, and what turns the direction of text.
_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

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
    # The rows of the writer are named tuples, what readers get are dataclasses.
    tuple_fields = getattr(record, "_asdict", None)
    fields: dict[str, Any] = asdict(record) if tuple_fields is None else tuple_fields()
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
    text = json.dumps(value, ensure_ascii=not can_unicode(), indent=indent)
    return harmless(text)


def harmless(text: str) -> str:
    """Return JSON with what may steer a terminal as escapes, which mean the same."""
    return _STEERING.sub(_escape, text)


def can_unicode() -> bool:
    """Tell whether standard output can carry any character."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


@contextlib.contextmanager
def unread_or_not() -> Generator[None]:
    """Let the reader leave on the way, as `head` does: what was found is told by the exit code."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard()


def discard() -> None:
    """Let what is still buffered go nowhere, so that Python's own flush at exit succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(value: Any) -> None:
    """Print one JSON value over several lines."""
    write(json_text(value, indent=2) + "\n")


class JsonArray:
    """Prints one JSON array, an item to a line, so that a long one needs no memory."""

    def __init__(self) -> None:
        self._lead = "[\n"

    def add(self, value: Any) -> None:
        """Print an item."""
        write(self._lead + json_text(value))
        self._lead = ",\n"

    def end(self) -> None:
        """Print the end; it is an array also if it has no items."""
        write("[]\n" if self._lead == "[\n" else "\n]\n")


def guides() -> tuple[str, str, str, str]:
    """Return what leads to a line of a tree: a branch, the last one, past others, past none."""
    return ("├─ ", "└─ ", "│  ", "   ") if can_unicode() else ("|- ", "`- ", "|  ", "   ")


def write(text: str) -> None:
    """Write to standard output; what its encoding cannot carry is written as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def note(text: str) -> None:
    """Tell a person something that is not part of the output."""
    sys.stdout.flush()
    sys.stderr.write(f"({printable(text)})\n")


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows under their columns' names: aligned text, and a table on a terminal."""
    cells = [[brief(row[column]) for column in columns] for row in rows]
    if terminal.is_terminal():
        terminal.print_table(columns, cells)
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
        text = _text(value)
        lead = f"{name.ljust(width)}  "
        print_line([(lead, terminal.QUIET), (text, terminal.style_in(name, text))])


def print_line(pieces: Sequence[Piece], *, is_cut: bool = False) -> None:
    """Print one line, made of texts that are `printable`, each with a style for terminals.

    Args:
        pieces: texts and styles; see `terminal`.
        is_cut: in a terminal, end the line at its edge instead of folding it.
    """
    if terminal.is_terminal():
        terminal.print_line(pieces, is_cut=is_cut)
    else:
        write("".join(text for text, _ in pieces).rstrip() + "\n")


def brief(value: Any) -> str:
    """Return a value as one short printable line: a text as it is, None as ``-``, else JSON."""
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


def print_list(
    records: Sequence[Any],
    columns: Sequence[str],
    limit: int,
    what: str,
    *,
    as_json: bool,
    to_row: Callable[[Any], dict[str, Any]] = to_json,
) -> None:
    """Print records of which there is one more than ``limit`` if not all are printed."""
    rows = [to_row(record) for record in records[:limit]]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(columns, rows)
    if len(records) > limit:
        note(f"the youngest {limit} {what}; more with --limit")
    elif not rows and not as_json:
        note(f"no {what}")
