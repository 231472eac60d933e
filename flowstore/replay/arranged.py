"""What was arranged, as it is compared: what depends on the moment is left out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from flowstore.door import decode_json
from flowstore.store.base import Behind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flowstore.codec import Codec
    from flowstore.store.base import Outstanding, ParkedRow, TimerRow


def shown(
    wanted: Outstanding, *, codec: Codec | None = None, places: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return it as JSON values by which two attempts, or two runs, can be compared.

    Args:
        wanted: what began and ended; what is empty is left out.
        codec: brings the data of timers up to the version of the code; None leaves it as it is.
        places: the run's events by id: they are called by their positions, since in another run
            they can have other ids. None for one and the same run.
    """
    names: Mapping[str, Any] = {} if places is None else places

    def named(event_id: str) -> Any:
        return names.get(event_id, event_id)

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
        "collected": _sorted([row.key, named(row.event_id)] for row in wanted.collected),
        "cancelled": sorted(wanted.cancelled),
        "woken": sorted(map(list, wanted.woken)),
        "spent": _sorted([key, named(event_id)] for key, event_id in wanted.spent),
    }
    return {name: value for name, value in found.items() if value}


def _sorted(pairs: Iterable[list[Any]]) -> list[list[Any]]:
    return sorted(pairs, key=lambda pair: (pair[0], str(pair[1])))


def _timer(timer: TimerRow, codec: Codec | None) -> dict[str, Any]:
    decode = decode_json if codec is None else partial(codec.decode, timer.name, timer.version)
    return {
        "name": timer.name,
        "data": decode(timer.data),
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
