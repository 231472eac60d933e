"""What an attempt began and ended beside events and state, as its transition records it."""

from __future__ import annotations

from typing import Any, Final

import orjson

from flowstore.store.operations import Outstanding
from flowstore.store.records import CollectedRow, ParkedRow, TaskRow, TimerRow

_ROWS: Final = {
    "tasks": TaskRow,
    "timers": TimerRow,
    "parked": ParkedRow,
    "collected": CollectedRow,
}


def to_text(wanted: Outstanding) -> str | None:
    """Return a JSON text that says it all but for the run's id; None if there is nothing to say."""
    said: dict[str, Any] = {}
    for name in _ROWS:
        rows: list[tuple[Any, ...]] = getattr(wanted, name)
        if rows:
            said[name] = [row[1:] for row in rows]
    for name in ("cancelled", "woken", "spent"):
        keys: list[Any] = getattr(wanted, name)
        if keys:
            said[name] = keys
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
