"""What a terminal gets and a pipe does not: colours, and tables that fit its width.

rich is imported only when something is printed to a terminal: here, and for progress bars.
Everything that is printed is handed over as text, so that brackets in data are no markup; it has
been through `output.printable`, so that it cannot steer the terminal either. rich leaves colours
out where ``NO_COLOR`` is set or the terminal has none.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    Piece = tuple[str, str]

PLAIN = ""
QUIET = "dim"
STRONG = "bold"
GOOD = "green"
BAD = "red"
HELD = "yellow"
WAITING = "blue"
BUSY = "cyan"

_STYLES = {
    "completed": GOOD,
    "handled": GOOD,
    "accepted": GOOD,
    "ok": GOOD,
    "identical": GOOD,
    "running": BUSY,
    "pending": BUSY,
    "waiting": WAITING,
    "parked": WAITING,
    "postponed": WAITING,
    "early": WAITING,
    "retried": HELD,
    "dropped": HELD,
    "duplicate": HELD,
    "stale": HELD,
    "expired": HELD,
    "unhandled": HELD,
    "cancelled": HELD,
    "edited": HELD,
    "warning": HELD,
    "failed": BAD,
    "dead": BAD,
    "conflict": BAD,
    "lease_lost": BAD,
    "diverged": BAD,
    "error": BAD,
}
_COLUMNS = {
    "correlation_id": STRONG,
    "name": STRONG,
    "error": BAD,
    "created_at": QUIET,
    "updated_at": QUIET,
    "started_at": QUIET,
}
_FOLDED: Final = 16
"""How wide a column stays at least whose cells are folded; times are not."""
_FRACTION: Final = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d{6}Z$")
_TOLD = frozenset({"status", "outcome", "reason", "verdict", "result"})


def is_terminal() -> bool:
    """Tell whether a person sees standard output."""
    return sys.stdout.isatty()


def style_of(word: str) -> str:
    """Return the style of a status, an outcome or a verdict; of several, that of the first."""
    return _STYLES.get(word.partition(" ")[0], PLAIN)


def style_in(column: str, text: str) -> str:
    """Return the style of a cell."""
    return style_of(text) if column in _TOLD else _COLUMNS.get(column, PLAIN)


def print_table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """Print a table that is as wide as the terminal at most.

    Where it does not fit, times are told to the second; where it could still not be read, each
    row is a paragraph of names and values.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - a pipe does not pay for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows = list(cells)
    console = _console()
    room = console.width - 3 * len(columns) + 1
    given = rows
    if sum(_widths(columns, rows)) > room:
        rows = [[_FRACTION.sub("Z", cell) for cell in row] for row in rows]
    widths = _widths(columns, rows)
    is_whole = [
        width <= _FOLDED or name.endswith("_at")
        for name, width in zip(columns, widths, strict=True)
    ]
    least = zip(widths, is_whole, strict=True)
    if sum(width if whole else _FOLDED for width, whole in least) > room:
        _print_paragraphs(columns, given)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, whole in zip(columns, is_whole, strict=True):
        table.add_column(column, overflow="fold", no_wrap=whole)
    for row in rows:
        styled = zip(columns, row, strict=True)
        table.add_row(*(Text(cell, style=style_in(column, cell)) for column, cell in styled))
    console.print(table)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len  # noqa: PLC0415 - a pipe does not pay for it

    return [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]


def _print_paragraphs(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.text import Text  # noqa: PLC0415 - a pipe does not pay for it

    width = max(map(len, columns))
    console = _console()
    for number, row in enumerate(rows):
        if number:
            console.print()
        for column, cell in zip(columns, row, strict=True):
            pieces = ((column.ljust(width + 2), QUIET), (cell, style_in(column, cell)))
            console.print(Text.assemble(*pieces), overflow="fold")


def print_sides(titles: Sequence[str], rows: Iterable[tuple[str, str, bool]]) -> None:
    """Print two columns side by side, each half as wide as the terminal.

    Args:
        titles: one for each column.
        rows: the left cell, the right one, and whether they differ.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - a pipe does not pay for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    for title in titles:
        table.add_column(Text(title), ratio=1, overflow="fold")
    for left, right, differs in rows:
        styles = (BAD, GOOD) if differs else (QUIET, QUIET)
        table.add_row(Text(left, style=styles[0]), Text(right, style=styles[1]))
    _console().print(table)


def print_line(pieces: Iterable[Piece], *, is_cut: bool = False) -> None:
    """Print one line of styled pieces.

    Args:
        pieces: texts, each with its style.
        is_cut: end it at the terminal's edge with an ellipsis, instead of folding it.
    """
    from rich.text import Text  # noqa: PLC0415 - a pipe does not pay for it

    line = Text.assemble(*pieces)
    if is_cut:
        _console().print(line, no_wrap=True, overflow="ellipsis")
    else:
        _console().print(line, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - a pipe does not pay for it

    return Console(highlight=False, markup=False, emoji=False)
