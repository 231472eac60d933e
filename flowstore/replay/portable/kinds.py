"""The lines of a file of runs that are not events: their kinds, and the fields of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from flowstore.errors import StoreCorruptError
from flowstore.replay.portable import shapes
from flowstore.replay.portable.fields import (
    Field,
    FieldError,
    Fields,
    a,
    a_list,
    an_object,
    count,
    digest,
    json,
    maybe,
    name,
    number,
    one_of,
    place,
    text,
    time,
)
from flowstore.replay.portable.strict_json import dumped, is_canonical
from flowstore.store import base
from flowstore.store.base import (
    ChunkRow,
    CollectedRow,
    DropRow,
    ParkedRow,
    SnapshotRow,
    StepRow,
    StreamRow,
    TaskRow,
    TimerRow,
    TransitionRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IMPORTED: Final = "imported"
"""The owner of a task that was under way where the run comes from: no worker has this id."""

_EVENT: Final = (
    a("version", place),
    json("data", is_optional=True),
    json("metadata", is_optional=True),
    maybe("error", text),
    maybe("causation_id", text),
    a("created_at", time),
)
_TIMER: Final = (
    a("key", text),
    a("workflow", name),
    a("due_at", time),
    a("event_id", name),
    a("name", name),
    *_EVENT,
    maybe("task_id", text),
)
_TASK: Final = (
    a("id", name),
    a("name", name),
    a("kind", one_of(base.INTERNAL, base.EXTERNAL)),
    json("arguments", is_optional=True, shape=shapes.arguments),
    a("status", one_of(base.PENDING, base.ENDED)),
    a("attempt", count),
    maybe("owner", text),
    maybe("ready_at", time),
    maybe("error", text),
    a("submitted_at", time),
    maybe("ended_at", time),
    maybe("causation_id", text),
)
_PARKED: Final = (
    a("position", place),
    a("handler", name),
    a("kind", one_of("wait", "postpone")),
    maybe("name", text),
    json("condition", is_optional=True, shape=shapes.condition),
    json("answers", shape=shapes.answers),
    a("started_at", time),
    a("state_number", count),
)
_COLLECTED: Final = (a("key", text), a("event_id", name), a("position", place))


# --- what an attempt began and ended -----------------------------------------------------------


_ARRANGED_ROWS: Final = {
    "tasks": Fields("task", _TASK),
    "timers": Fields("timer", _TIMER),
    "parked": Fields("parked handler", _PARKED),
    "collected": Fields("collected event", _COLLECTED),
    "woken": Fields("woken handler", (a("position", place), a("handler", name))),
    "spent": Fields("collected event", (a("key", text), a("event_id", name))),
    "failed": Fields(
        "failed step", (a("name", name), a("number", place), json("error", shape=shapes.raised))
    ),
}


def _texts(value: Any) -> list[str]:
    return [text(each) for each in a_list(value)]


def _counts(value: Any) -> dict[str, int]:
    return {key: count(each) for key, each in an_object(value).items()}


_TOLD: Final = Fields(
    "what an attempt told",
    (a("events", _texts), a("progress", count), a("streams", count), a("steps", _counts)),
)


def tell_arranged(cell: str) -> dict[str, Any]:
    """Return what an attempt began and ended, as a line has it: rows with names for their cells."""
    if not is_canonical(cell, "arranged"):
        raise StoreCorruptError(f"a transition's column arranged holds {cell[:40]!r}")
    said: dict[str, Any] = {}
    for key, value in orjson.loads(cell).items():
        if key in _ARRANGED_ROWS:
            said[key] = [_ARRANGED_ROWS[key].tell(cells, {}) for cells in value]
        else:
            said[key] = _TOLD.tell(value, {}) if key == "told" else value
    return said


def take_arranged(value: Any) -> str:
    """Return the cell that a line tells."""
    cells: dict[str, Any] = {}
    for key, said in an_object(value).items():
        if key in _ARRANGED_ROWS:
            rows = _ARRANGED_ROWS[key]
            cells[key] = [rows.take(an_object(row), 0) for row in a_list(said)]
        elif key == "told":
            cells[key] = _TOLD.take(an_object(said), 0)
        elif key == "cancelled":
            cells[key] = _texts(said)
        elif key == "blameless" and said is True:
            cells[key] = said
        else:
            raise FieldError(f"has no part {key[:60]!r}")
    return dumped(cells)


# --- the kinds of lines ------------------------------------------------------------------------


def _without(fields: Sequence[Field], left_out: str) -> tuple[Field, ...]:
    return tuple(field for field in fields if field.name != left_out)


class Kind(NamedTuple):
    """A kind of line.

    Attributes:
        part: where an archive has such rows.
        row: what they are.
        left_out: the place of a cell that lines do not have, None if they have all.
    """

    part: str
    row: Callable[..., Any]
    fields: Fields
    left_out: int | None = None

    def tell(self, row: Sequence[Any], said: dict[str, Any]) -> dict[str, Any]:
        """Add a row to what a line says."""
        cells = row[1:]
        if self.left_out is not None:
            cells = (*cells[: self.left_out], *cells[self.left_out + 1 :])
        return self.fields.tell(cells, said)

    def take(self, said: dict[str, Any], run_id: int) -> Any:
        """Return the row that a line says; what it has left out is None."""
        cells = self.fields.take(said, 1)
        if self.left_out is not None:
            cells.insert(self.left_out, None)
        return self.row(run_id, *cells)


def _place_of(fields: Sequence[Field], name: str) -> int:
    return [field.name for field in fields].index(name)


KINDS: Final[dict[str, Kind]] = {
    "transition": Kind(
        "transitions",
        TransitionRow,
        Fields(
            "transition",
            (
                a("position", place),
                a("number", place),
                a("handler", name),
                a("attempt", count),
                a("outcome", name),
                json("change", is_optional=True),
                maybe("error", text),
                maybe("traceback", text),
                a("started_at", time),
                a("duration", number),
                maybe("code", text),
                Field("arranged", take_arranged, tell_arranged, is_optional=True),
            ),
        ),
    ),
    "snapshot": Kind(
        "snapshots", SnapshotRow, Fields("snapshot", (a("position", count), json("state")))
    ),
    "step": Kind(
        "steps",
        StepRow,
        Fields(
            "step",
            (
                a("position", place),
                a("handler", name),
                a("name", name),
                a("number", count),
                json("result", is_optional=True),
                a("started_at", time),
                a("duration", number),
                json("error", is_optional=True, shape=shapes.raised),
            ),
        ),
    ),
    "drop": Kind(
        "drops",
        DropRow,
        Fields(
            "drop",
            (
                maybe("event_id", text),
                maybe("name", text),
                maybe("position", count),
                maybe("handler", text),
                a("reason", name),
                maybe("detail", text),
                a("created_at", time),
            ),
        ),
    ),
    "timer": Kind(
        "timers",
        TimerRow,
        Fields("timer", _without(_TIMER, "workflow")),
        _place_of(_TIMER, "workflow"),
    ),
    "task": Kind(
        "tasks", TaskRow, Fields("task", _without(_TASK, "owner")), _place_of(_TASK, "owner")
    ),
    "parked": Kind("parked", ParkedRow, Fields("parked handler", _PARKED)),
    "collected": Kind("collected", CollectedRow, Fields("collected event", _COLLECTED)),
    "stream": Kind(
        "streams",
        StreamRow,
        Fields(
            "stream",
            (
                a("id", name),
                a("generation", count),
                a("status", one_of(base.STREAM_OPEN, base.STREAM_ENDED, base.STREAM_FAILED)),
                a("chunks", count),
                maybe("error", text),
            ),
        ),
    ),
    "chunk": Kind(
        "chunks",
        ChunkRow,
        Fields("chunk", (a("stream_id", name), a("first", count), json("data"))),
    ),
}
"""The kinds of lines that follow a run and its events, in the order in which they are written."""

RUN: Final = Fields(
    "run",
    (
        a("correlation_id", name),
        a("workflow", name),
        a("status", one_of("running", "waiting", "idle", "completed", "failed", "cancelled")),
        a("head", count),
        a("cursor", count),
        a("state_version", count),
        a("epoch", count),
        maybe("ready_at", time),
        json("result", is_optional=True),
        maybe("reason", text),
        json("lineage", is_optional=True, shape=an_object),
        a("created_at", time),
        a("updated_at", time),
        Field("hash", digest, bytes.hex, is_optional=True),
    ),
)
"""The fields of the line of a run."""
