"""What is wrong with the events of a run: the first row that does not fit, and why one thinks so.

Pure. The hash of each event stands over that of the one before it (`flowstore.store.chain`), so
who changes a row has to make anew all that come behind it, and `run.chain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flowstore.store import chain

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["changed", "removed", "inserted"]

_PLAIN = frozenset({int, str, type(None)})


class EventCells(NamedTuple):
    """A row of ``event``: its cells from the position on as they are, its hash and its ``seq``."""

    cells: tuple[Any, ...]
    hash: Any
    seq: int

    @property
    def position(self) -> Any:
        """Return what stands for its position."""
        return self.cells[0]


class Head(NamedTuple):
    """How a run says that its events end."""

    correlation_id: str
    head: Any
    chain: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """The first row of a run that does not fit.

    Attributes:
        correlation_id: the run; None if rows belong to no run at all.
        position: where; None if it is the run's own row.
        kind: ``changed``, ``removed`` or ``inserted``.
        message: why one thinks so.
    """

    correlation_id: str | None
    position: int | None
    kind: Kind
    message: str


def beginning(correlation_id: Any) -> bytes:
    """Return what stands before a run's first hash; of no run if this cannot be its name."""
    try:
        return chain.begin(correlation_id)
    except (AttributeError, UnicodeEncodeError):
        return b""


def digest(before: bytes, cells: tuple[Any, ...]) -> bytes | None:
    """Return the hash of an event; None if its cells are such as flowstore never writes.

    A number with a fraction is one: JSON has the same text for infinity as for None.
    """
    if not _PLAIN.issuperset(map(type, cells)):
        return None
    try:
        return chain.link(before, cells)
    except TypeError:  # text that is no UTF-8
        return None


def first_flaw(run: Head, rows: Sequence[EventCells]) -> Flaw | None:
    """Return the first flaw of a run.

    Args:
        run: what its row says.
        rows: all of its events, in the order of their positions.
    """
    before, last_seq = beginning(run.correlation_id), None
    for index, row in enumerate(rows):
        place = index + 1
        if row.position != place or type(row.position) is not int:
            return _misplaced(run, row, place, before)
        if digest(before, row.cells) != row.hash:
            return _misfit(run, rows, index, before)
        if _is_beyond(run, row, is_last=place == len(rows)):
            message = f"the run's last position is {run.head}, and nothing has been appended since"
            return _flaw(run, place, "inserted", message)
        if last_seq is not None and row.seq < last_seq:
            message = f"it lies before position {place - 1} in the order of the whole store"
            return _flaw(run, place, "changed", f"{message}: rows have been moved")
        before, last_seq = row.hash, row.seq
    return _flawed_end(run, len(rows), before)


def _flaw(run: Head, position: int | None, kind: Kind, message: str) -> Flaw:
    return Flaw(correlation_id=run.correlation_id, position=position, kind=kind, message=message)


def _is_beyond(run: Head, row: EventCells, *, is_last: bool) -> bool:
    """Tell whether a row that fits by itself is behind the run's end."""
    if not isinstance(run.head, int) or row.position <= run.head:
        return False
    return not (is_last and run.chain == row.hash)  # else it is the run's row that is wrong


def _misplaced(run: Head, row: EventCells, place: int, before: bytes) -> Flaw:
    found = row.position
    if type(found) is not int or found < place:
        message = f"a row has the position {found!r}, which no event can have"
        return _flaw(run, found if isinstance(found, int) else None, "inserted", message)
    if isinstance(run.head, int) and place > run.head and run.chain == before:
        message = f"the run ends at position {run.head}, and this row does not follow on it"
        return _flaw(run, found, "inserted", message)
    missing = f"position {place}" if found == place + 1 else f"positions {place} to {found - 1}"
    return _flaw(run, place, "removed", f"there is no {missing}, but a position {found}")


def _misfit(run: Head, rows: Sequence[EventCells], index: int, before: bytes) -> Flaw:
    """Tell by the row behind it what has happened to one that does not fit its hash."""
    row, place = rows[index], index + 1
    behind = rows[index + 1] if index + 1 < len(rows) else None
    hidden = row.hash if isinstance(row.hash, bytes) else None
    made = digest(before, row.cells)
    if behind is not None:
        if _follows(before, behind, place):
            if _follows(behind.hash, row, place + 1):
                return _flaw(run, place, "changed", "it and the row behind it have changed places")
            return _flaw(
                run, place, "inserted", "the row behind it fits in its place, and it does not"
            )
        if hidden is not None and _follows(hidden, behind, place + 2):
            message = "the row in this place, and those behind it, come from one place further back"
            return _flaw(run, place, "removed", message)
    if not isinstance(run.head, int) or place > run.head:
        message = f"the run's last position is {run.head}, and this row does not fit its hash"
        return _flaw(run, place, "inserted", message)
    if made is not None and _fits_on(run, behind, made, place):
        return _flaw(run, place, "changed", "its hash is not what its cells and the rest say")
    message = "its cells do not fit its hash"
    if hidden is None:
        message = "it has no hash"
    elif not _fits_on(run, behind, hidden, place):
        message += ", nor does what follows"
    if place == 1:
        message += " (or the run's correlation_id has been changed)"
    else:
        message += f" (or position {place - 1} was changed, and its hash made anew)"
    return _flaw(run, place, "changed", message)


def _follows(before: bytes, row: EventCells, place: int) -> bool:
    """Tell whether a row would fit behind this hash if it were at this place."""
    return bool(digest(before, (place, *row.cells[1:])) == row.hash)


def _fits_on(run: Head, behind: EventCells | None, made: bytes, place: int) -> bool:
    """Tell whether what follows a place fits on this hash of it."""
    if behind is not None:
        return bool(digest(made, behind.cells) == behind.hash)
    return bool(run.head == place and run.chain == made)


def _flawed_end(run: Head, count: int, before: bytes) -> Flaw | None:
    """Compare the last event with what the run's row says."""
    last = before if count else None
    if run.head == count:
        if run.chain == last:
            return None
        if not count:
            return _flaw(run, None, "changed", "the run has the hash of an event, and no events")
        message = "its hash is not the one that the run has: it was changed and its hash made anew,"
        return _flaw(run, count, "changed", f"{message} or the run's row was changed")
    if run.chain == last:
        message = f"it says that {run.head} is the last position, and its hash is that of {count}"
        return _flaw(run, None, "changed", f"the run's own row: {message}")
    if isinstance(run.head, int) and run.head > count:
        missing = "position" if run.head == count + 1 else f"positions {count + 1} to"
        message = f"the run's last rows are cut off: there is no {missing} {run.head}"
        return _flaw(run, count + 1, "removed", message)
    message = f"the run's own row: it says that {run.head!r} is the last position, not {count}"
    return _flaw(run, None, "changed", message)
