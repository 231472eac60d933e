"""What the lines of a run must say together; one by one they are known to be well formed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore import change
from flowstore.door import is_plain
from flowstore.replay.portable.fields import FieldError, shown
from flowstore.store import chain
from flowstore.store.behind import Behind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import RunRow

_DEEPEST: Final = 200
_LISTS: Final = frozenset({list})
_STEPS: Final = frozenset({str, int})
_LEAST: Final = 2  # a code and a path
_OPERATIONS: Final = {"=": 3, "+": 3, "-": 2, ">": 2, "~": 5}


def check(archive: Archive) -> None:
    """Check what the rows of a run say of one another.

    Raises:
        FieldError: they contradict one another.
    """
    run, events = archive.run, archive.events
    if run.head != len(events):
        raise FieldError(
            f"{_named(run)} says that its head is {run.head}, and has {len(events)} events"
        )
    if run.cursor > run.head:
        raise FieldError(
            f"{_named(run)} has its cursor at {run.cursor}, beyond its head {run.head}"
        )
    if len({event.id for event in events}) < len(events):
        raise FieldError(f"{_named(run)} has the id {_twice(each.id for each in events)} twice")
    check_hashes(archive)
    _check_order(archive)
    _check_places(archive)
    _check_status(archive)
    _check_streams(archive)
    _check_state(archive)


def _named(run: RunRow) -> str:
    return f"run {shown(run.correlation_id)}"


def _twice(values: Iterable[Any]) -> str:
    return shown(Counter(values).most_common(1)[0][0])


# --- the chain of hashes ---------------------------------------------------------------------


def check_hashes(archive: Archive) -> None:
    """Check the hashes; a run from before there were any has none, or none at its beginning."""
    run, before = archive.run, None
    for event, found in zip(archive.events, archive.hashes, strict=True):
        if found is None and before is None:
            continue
        expected = chain.link(before or chain.begin(run.correlation_id), event[1:])
        if found != expected:
            raise FieldError(
                f"{_named(run)}: the event at position {event.position} does not fit its hash: it, "
                "or one before it, was changed"
            )
        before = expected
    if run.chain != before:
        raise FieldError(f"{_named(run)}: its hash is not that of its last event")


# --- positions and keys ------------------------------------------------------------------------


def _check_order(archive: Archive) -> None:
    keys: dict[str, list[Any]] = {
        "transitions": [(row.position, row.number) for row in archive.transitions],
        "snapshots": [row.position for row in archive.snapshots],
        "steps": [row[1:5] for row in archive.steps],
        "tasks": [row.id for row in archive.tasks],
        "parked handlers": [(row.position, row.handler) for row in archive.parked],
        "collected events": [(row.key, row.event_id) for row in archive.collected],
        "streams": [row.id for row in archive.streams],
        "chunks": [(row.stream_id, row.first) for row in archive.chunks],
    }
    for what, found in keys.items():
        for one, other in pairwise(found):
            if not one < other:
                raise FieldError(
                    f"{_named(archive.run)}: {what} are not in order, or one is there twice: "
                    f"{shown(other)} comes behind {shown(one)}"
                )
    timers = [row.key for row in archive.timers]
    if len(set(timers)) < len(timers):
        raise FieldError(f"{_named(archive.run)} has the timer {_twice(timers)} twice")


def _check_places(archive: Archive) -> None:
    run = archive.run
    # What a handler did that is to be tried again stands at the event after the cursor.
    at_work = min(run.cursor + 1, run.head)
    placed: list[tuple[str, int, Sequence[Any]]] = [
        ("transition", at_work, archive.transitions),
        ("step", at_work, archive.steps),
        ("snapshot", run.cursor, archive.snapshots),
        ("parked handler", run.head, archive.parked),
        ("collected event", run.head, archive.collected),
    ]
    for what, limit, rows in placed:
        for row in rows:
            if row.position > limit:
                raise FieldError(
                    f"{_named(run)} has a {what} at position {row.position}; its cursor is at "
                    f"{run.cursor}, its head at {run.head}"
                )
    for row in archive.collected:
        if archive.events[row.position - 1].id != row.event_id:
            raise FieldError(
                f"{_named(run)} has collected {shown(row.event_id)}, which is not at {row.position}"
            )
    for row in archive.parked:
        last = max((row.position, *Behind.read(row.answers).places()))
        if last > run.head:
            raise FieldError(
                f"{_named(run)} has a parked handler that knows of position {last}; its head is at "
                f"{run.head}"
            )
    numbers = [row.number for row in archive.transitions]
    if len(set(numbers)) < len(numbers):
        raise FieldError(f"{_named(run)} has the transition number {_twice(numbers)} twice")
    if run.state_version != max(numbers, default=0):
        raise FieldError(
            f"{_named(run)} says that its state is that of transition {run.state_version}, and its "
            f"last one is {max(numbers, default=0)}"
        )


# --- status --------------------------------------------------------------------------------------


def _check_status(archive: Archive) -> None:
    run = archive.run
    waits, tasks = archive.count_outstanding()
    is_handled = run.cursor == run.head
    status = run.shown_status
    if status == "running":
        fits = not is_handled or tasks > 0
    elif status == "waiting":
        fits = is_handled and not tasks and waits > 0
    else:
        fits = is_handled and not tasks and not waits
    if not fits:
        raise FieldError(
            f"{_named(run)} cannot be {status}: its cursor is at {run.cursor}, its head at "
            f"{run.head}, {tasks} tasks are under way and {waits} timers and waits outstanding"
        )


# --- streams -------------------------------------------------------------------------------------


def _check_streams(archive: Archive) -> None:
    found = {row.id: 0 for row in archive.streams}
    for row in archive.chunks:
        chunks: object = orjson.loads(row.data)
        if not isinstance(chunks, list) or not chunks:
            raise FieldError(f"{_named(archive.run)} has chunks that are not a list")
        if found.get(row.stream_id) != row.first:
            raise FieldError(
                f"{_named(archive.run)} has chunks of {shown(row.stream_id)} from {row.first} on, "
                "which do not follow on any"
            )
        found[row.stream_id] += len(chunks)  # pyright: ignore[reportUnknownArgumentType] - any items
    for stream in archive.streams:
        if stream.chunks != found[stream.id]:
            raise FieldError(
                f"{_named(archive.run)}: the stream {shown(stream.id)} has {found[stream.id]} "
                f"chunks, and says that it has {stream.chunks}"
            )


# --- state ---------------------------------------------------------------------------------------


def _check_state(archive: Archive) -> None:
    """Carry out all changes; a snapshot must be what they have come to."""
    state: dict[str, Any] = {}
    run = archive.run
    snapshots = {row.position: row.state for row in archive.snapshots}
    for position, operations in _changes(archive):
        if operations is not None:
            try:
                change.perform(state, operations)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise FieldError(
                    f"{_named(run)}: the change at position {position} does not fit the state"
                ) from error
        elif _dumped(state, run) != snapshots[position].encode():
            raise FieldError(
                f"{_named(run)}: the snapshot at position {position} is not what the changes up to "
                "there come to"
            )
    _check_plain(state, run)


def _changes(archive: Archive) -> Iterator[tuple[int, list[list[Any]] | None]]:
    """Yield the position and the operations of each change; None at a snapshot."""
    snapshots = iter([row.position for row in archive.snapshots])
    due = next(snapshots, None)
    for row in archive.transitions:
        while due is not None and due < row.position:
            yield due, None
            due = next(snapshots, None)
        if row.change is not None:
            yield row.position, _operations(row.change, archive.run)
    if due is not None:
        yield due, None
        yield from ((each, None) for each in snapshots)


def _operations(text: str, run: RunRow) -> list[list[Any]]:
    operations: Any = orjson.loads(text)
    if type(operations) in _LISTS and all(map(_is_operation, operations)):
        return cast("list[list[Any]]", operations)
    raise FieldError(f"{_named(run)} has a change that is none: {shown(text)}")


def _is_operation(operation: Any) -> bool:
    if type(operation) not in _LISTS or len(operation) < _LEAST:
        return False
    code, path = operation[0], operation[1]
    if type(code) is not str or _OPERATIONS.get(code) != len(operation):
        return False
    if type(path) not in _LISTS or not 0 < len(path) <= _DEEPEST:
        return False
    for step in path:
        if type(step) not in _STEPS:
            return False
    return code != "~" or [type(each) for each in operation[2:]] == [int, int, list]


def _dumped(state: dict[str, Any], run: RunRow) -> bytes:
    _check_plain(state, run)
    return orjson.dumps(state)


def _check_plain(state: dict[str, Any], run: RunRow) -> None:
    if not is_plain(state, _DEEPEST):
        raise FieldError(f"{_named(run)}: its changes come to what is not JSON, or too deep")
