"""Forks: a new run with the same history up to a position, which goes on from there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.change import Operation, differ
from flowstore.change import replay as state_of
from flowstore.errors import ForkError, InvalidValueError
from flowstore.events import WorkflowEvent
from flowstore.replay.cut import Cut
from flowstore.replay.patch import merged
from flowstore.replay.record import EDITED
from flowstore.store import chain
from flowstore.store.archive import Archive
from flowstore.store.base import INTERNAL, RunRow, StoredEvent, TransitionRow
from flowstore.store.lineage import ancestors, edited

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.codec import Codec
    from flowstore.kind import StateKind

HANDLER: Final = "flowstore.fork"
"""Stands as the handler of the transition that an edit of the state is recorded as."""

NO_WORKER: Final = "fork"
"""Stands as the worker at a fork's tasks: none has this id, so whoever serves takes them."""

EDITABLE: Final = ("name", "data", "metadata", "error")
"""What of an event can be edited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What is different in a fork: JSON merge patches (RFC 7396), None for nothing.

    Attributes:
        event: for the event that the run is forked at, which is then handled anew. An empty one
            has it handled anew as it is.
        state: for the state that the run goes on from.
    """

    event: Mapping[str, Any] | None = None
    state: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return those that there are."""
        found = {"event": self.event, "state": self.state}
        return {name: patch for name, patch in found.items() if patch is not None}


def fork(
    archive: Archive,
    *,
    at: int,
    name: str,
    now: int,
    codec: Codec,
    edits: Edits | None = None,
    kind: StateKind | None = None,
    store: str | None = None,
    from_now: bool = False,
) -> Archive:
    """Return a new run with the history of another one up to an event, to be restored.

    Args:
        archive: the run that is forked; it is not changed.
        at: the position of the last event that comes along as handled; with ``edits.event``
            that of the event that is edited, and handled next.
        name: the new run's correlation_id.
        now: in microseconds since 1970.
        codec: the door that what is edited has to pass.
        edits: what is to be different.
        kind: what the state has to be; None if that is not known here.
        store: where the original is, to be kept with the fork; None if it is the same store.
        from_now: timers are due in as long as they were when the event had been handled; else
            they keep their times.

    Raises:
        ForkError: the run cannot be forked there.
        InvalidValueError: what is edited cannot be stored, or is no such state; says where.
    """
    edits = _checked(edits or Edits(), codec)
    cut = _cut(archive, at, edits)
    events = [event._replace(position=place) for place, event in enumerate(cut.events, start=1)]
    if edits.event is not None:
        events[at - 1] = _edited(events[at - 1], edits.event, codec)
    hashes = _chained(name, events)
    made = Archive(
        run=_run(cut, name, now),
        events=events,
        hashes=list(hashes),
        transitions=list(cut.transitions),
        snapshots=[row for row in archive.snapshots if row.position <= cut.handled],
        steps=cut.steps,
        drops=list(cut.drops()),
        timers=list(cut.pending.timers.values()),
        tasks=[
            task._replace(owner=NO_WORKER if task.kind == INTERNAL else None) for task in cut.tasks
        ],
        parked=[cut.pending.parked[place] for place in sorted(cut.pending.parked)],
        collected=[cut.pending.collected[kept] for kept in sorted(cut.pending.collected)],
        streams=[row for row in archive.streams if cut.has_stream(row.id)],
        chunks=[row for row in archive.chunks if cut.has_stream(row.stream_id)],
    )
    made.run.chain = hashes[-1]
    made.run.lineage = _lineage(archive, at, edits, store)
    if from_now:
        _move_timers(made, archive.events[at - 1], now)
    if edits.state is not None:
        _edit_state(made, edits.state, codec, kind, now)
    return made


def _cut(archive: Archive, at: int, edits: Edits) -> Cut:
    """Return the run cut off there, if it can be."""
    run = archive.run
    who = f"run {run.correlation_id!r}"
    if type(at) is not int or not 1 <= at <= run.head:
        there = f"it has 1 to {run.head}" if run.head else "it has none"
        raise ForkError(f"{who} has no event at position {at}: {there}")
    handled = at if edits.event is None else at - 1
    if handled > run.cursor:
        raise ForkError(
            f"{who} has not handled its event at position {handled} yet, only those up to "
            f"{run.cursor}; fork it there, or let it go on first"
        )
    cut = Cut(archive, at, handled)
    if cut.is_closed and edits.to_json():
        raise ForkError(
            f"{who} was {run.status} at position {cut.end}, so nothing would handle what is "
            f"edited behind that; fork it before {cut.end}, or edit an event up to there"
        )
    return cut


def _run(cut: Cut, name: str, now: int) -> RunRow:
    """Return the row of the fork, which no worker has."""
    run = cut.archive.run.copy()
    run.correlation_id = name
    run.created_at = run.updated_at = now
    run.epoch, run.owner, run.ready_at = 0, None, None
    run.status, run.reason = cut.status, cut.reason
    run.head = len(cut.events)
    run.state_version = cut.transitions[-1].number if cut.transitions else 0
    if cut.is_closed:
        run.cursor, run.waits, run.tasks = run.head, 0, 0
    else:
        run.cursor, run.result = cut.handled, None
        run.waits, run.tasks = cut.pending.counts()
    return run


def _chained(name: str, events: Sequence[StoredEvent]) -> list[bytes]:
    before, hashes = chain.begin(name), list[bytes]()
    for event in events:
        before = chain.link(before, event[1:])
        hashes.append(before)
    return hashes


def _lineage(archive: Archive, at: int, edits: Edits, store: str | None) -> str:
    """Return what a fork's row says of where it comes from, as JSON."""
    digest = archive.hashes[at - 1]
    found: dict[str, Any] = {
        "correlation_id": archive.run.correlation_id,
        "position": at,
        "hash": None if digest is None else digest.hex(),
    }
    if store is not None:
        found["store"] = store
    if edits.to_json():
        found["edits"] = edits.to_json()
    lineage: dict[str, Any] = {"forked_from": found}
    before = ancestors(archive.run.lineage)
    if before:  # whose randomness and ids the first events had
        lineage["before"] = before
    earlier = [position for position in edited(archive.run.lineage) if position <= at]
    if earlier:
        lineage["edited"] = earlier
    return orjson.dumps(lineage).decode()


def _move_timers(made: Archive, event: StoredEvent, now: int) -> None:
    """Let each timer have the time left that it had when the event had been handled."""
    ends = [row.started_at + row.duration for row in made.transitions]
    later = now - max([event.created_at, *ends])
    made.timers = [timer._replace(due_at=timer.due_at + later) for timer in made.timers]


# --- edits ---------------------------------------------------------------------------------


def _checked(edits: Edits, codec: Codec) -> Edits:
    """Return a copy of merge patches that pass the door."""
    limits = codec.limits
    event = _plain(edits.event, "edit_event", codec, limits.data_bytes + limits.metadata_bytes)
    for key in event or ():
        if key not in EDITABLE:
            problem = f"has {key!r}, and of an event {', '.join(EDITABLE)} can be edited"
            raise InvalidValueError("edit_event", problem)
    return Edits(event=event, state=_plain(edits.state, "edit_state", codec, limits.state_bytes))


def _plain(patch: object, path: str, codec: Codec, most: int) -> dict[str, Any] | None:
    if patch is None:
        return None
    if not isinstance(patch, Mapping):
        raise InvalidValueError(path, "is no JSON object; it is a merge patch (RFC 7396)")
    plain = dict(cast("Mapping[str, Any]", patch))
    return cast("dict[str, Any]", orjson.loads(codec.encode_value(plain, path, most)))


def _edited(event: StoredEvent, patch: Mapping[str, Any], codec: Codec) -> StoredEvent:
    """Return an event with a patch applied, if it passes the door."""
    before = {
        "name": event.name,
        "data": None if event.data is None else orjson.loads(event.data),
        "metadata": None if event.metadata is None else orjson.loads(event.metadata),
        "error": event.error,
    }
    after = merged(before, patch)
    encoded = codec.encode(WorkflowEvent(*(after.get(key) for key in EDITABLE)))
    if encoded.name == event.name:
        encoded = encoded._replace(version=event.version)
    # It is to be handled now, so it does not expire.
    return event._replace(**encoded._asdict(), expires_at=None)


def _edit_state(
    made: Archive, patch: Mapping[str, Any], codec: Codec, kind: StateKind | None, now: int
) -> None:
    """Record an edit of the state as a transition, so that time travel stays a plain fold."""
    snapshot = made.snapshots[-1] if made.snapshots else None
    after = 0 if snapshot is None else snapshot.position
    rows = [row.change for row in made.transitions if row.position > after]
    state = state_of(snapshot and snapshot.state, (each for each in rows if each is not None))
    wanted = merged(state, patch)
    text = codec.encode_value(wanted, "state", codec.limits.state_bytes)
    if kind is not None:
        kind.restore(orjson.loads(text))
    operations = _operations(state, wanted)
    # In front of the first event there is no position: it stands before that one's handlers.
    place, number = max(made.run.cursor, 1), made.run.state_version + 1
    change = orjson.dumps(operations).decode() if operations else None
    made.transitions.append(
        TransitionRow(made.run.id, place, number, HANDLER, 1, EDITED, change, None, None, now, 0)
    )
    made.run.state_version = number
    # A snapshot at this position would be one from before the edit.
    made.snapshots = [row for row in made.snapshots if row.position < place]


def _operations(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    operations: list[Operation] = [["-", [key]] for key in before if key not in after]
    for key, value in after.items():
        if key not in before:
            operations.append(["=", [key], value])
        elif orjson.dumps(before[key]) != orjson.dumps(value):
            differ(before[key], value, [key], operations)
    return operations
