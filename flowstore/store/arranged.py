"""What an attempt began and ended beside events and state, as its transition records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from flowstore.store.operations import Outstanding
from flowstore.store.records import CollectedRow, ParkedRow, TaskRow, TimerRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.records import StepRow

_ROWS: Final = {
    "tasks": TaskRow,
    "timers": TimerRow,
    "parked": ParkedRow,
    "collected": CollectedRow,
}


class Told(NamedTuple):
    """What an attempt of a handler that waits, or did, or has failed for good, has told the run.

    All that such a handler tells is named by the event that it began with; this says which of it
    came when it was called at this event, and so what comes along with a fork.

    Attributes:
        events: ids of the events that its commit appended.
        progress: how many progress events it has told since it began.
        streams: how many events with streams.
        steps: how many steps of each name it has come to.
    """

    events: list[str]
    progress: int
    streams: int
    steps: dict[str, int]


def to_text(
    wanted: Outstanding,
    told: Told | None = None,
    failed: Sequence[StepRow] = (),
    *,
    blameless: bool = False,
) -> str | None:
    """Return a JSON text that says it all but for the run's id; None if there is nothing to say.

    Args:
        wanted: what began and ended.
        told: for a handler that waits, or did, or has failed for good.
        failed: steps that failed in an attempt that failed for good: when it is retried, its steps
            have the same names, and those that are done then take the place of these.
        blameless: an attempt failed for good, and not of what its handler raised: it took too
            long, its commit was refused, or the iterator of a stream raised.
    """
    said: dict[str, Any] = {}
    for name in _ROWS:
        rows: list[tuple[Any, ...]] = getattr(wanted, name)
        if rows:
            said[name] = [row[1:] for row in rows]
    for name in ("cancelled", "woken", "spent"):
        keys: list[Any] = getattr(wanted, name)
        if keys:
            said[name] = keys
    if told is not None:
        said["told"] = tuple(told)
    if failed:
        said["failed"] = [(step.name, step.number, step.error) for step in failed]
    if blameless:
        said["blameless"] = True
    return orjson.dumps(said).decode() if said else None


def read(text: str | None, run_id: int) -> Outstanding:
    """Return what a transition of this run has recorded."""
    said: dict[str, Any] = orjson.loads(text) if text else {}
    wanted = Outstanding(cancelled=said.get("cancelled", []))
    wanted.tasks = [TaskRow(run_id, *cells) for cells in said.get("tasks", ())]
    wanted.timers = [TimerRow(run_id, *cells) for cells in said.get("timers", ())]
    wanted.parked = [ParkedRow(run_id, *cells) for cells in said.get("parked", ())]
    wanted.collected = [CollectedRow(run_id, *cells) for cells in said.get("collected", ())]
    wanted.woken = [(position, name) for position, name in said.get("woken", ())]
    wanted.spent = [(key, event_id) for key, event_id in said.get("spent", ())]
    return wanted


def read_failed(text: str | None) -> dict[tuple[str, int], str]:
    """Return what the steps of an attempt raised that failed for good, by name and number."""
    said: dict[str, Any] = orjson.loads(text) if text else {}
    return {(name, number): error for name, number, error in said.get("failed", ())}


def is_blameless(text: str | None) -> bool:
    """Tell whether an attempt failed for good of something else than what its handler raised."""
    said: dict[str, Any] = orjson.loads(text) if text else {}
    return "blameless" in said


def read_told(text: str | None) -> Told | None:
    """Return what an attempt has told, None if it has not waited."""
    said: dict[str, Any] = orjson.loads(text) if text else {}
    return Told(*said["told"]) if "told" in said else None
