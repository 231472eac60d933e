"""What an attempt arranged, as it is compared: what depends on the moment is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.door import decode_json
from flowstore.store import arranged
from flowstore.store.base import Behind

if TYPE_CHECKING:
    from flowstore.codec import Codec
    from flowstore.store.base import ParkedRow, TimerRow


def shown(text: str | None, codec: Codec) -> dict[str, Any]:
    """Return it as JSON values by which two attempts can be compared."""
    wanted = arranged.read(text, 0)
    found: dict[str, Any] = {
        "timers": {timer.key: _timer(timer, codec) for timer in wanted.timers},
        "tasks": {
            task.id: {
                "name": task.name,
                "kind": task.kind,
                "arguments": decode_json(task.arguments),
            }
            for task in wanted.tasks
        },
        "parked": {f"{row.position}/{row.handler}": _parked(row) for row in wanted.parked},
        "collected": sorted([row.key, row.event_id] for row in wanted.collected),
        "cancelled": sorted(wanted.cancelled),
        "woken": sorted(map(list, wanted.woken)),
        "spent": sorted(map(list, wanted.spent)),
    }
    return {name: value for name, value in found.items() if value}


def _timer(timer: TimerRow, codec: Codec) -> dict[str, Any]:
    return {
        "name": timer.name,
        "data": codec.decode(timer.name, timer.version, timer.data),
        "metadata": decode_json(timer.metadata),
        "error": timer.error,
        "task_id": timer.task_id,
    }


def _parked(row: ParkedRow) -> dict[str, Any]:
    behind = Behind.read(row.answers)
    return {
        "kind": row.kind,
        "name": row.name,
        "condition": decode_json(row.condition),
        "waits": [place for place, _ in behind.waits],
        "collected": behind.collected,
        "times": behind.times,
    }
