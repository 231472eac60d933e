"""All that a store has of a run: what is exported, forked and executed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowstore.store.records import INTERNAL, PENDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowstore.store.records import (
        ChunkRow,
        CollectedRow,
        DropRow,
        ParkedRow,
        RunRow,
        SnapshotRow,
        StepRow,
        StoredEvent,
        StreamRow,
        TaskRow,
        TimerRow,
        TransitionRow,
    )


@dataclass(slots=True, kw_only=True)
class Archive:
    """All that a store has of one run, as it was at one moment.

    Every list is in the order of its table's key, drops and timers as they were made. The rows
    name the run by the id that it has in the store they come from.

    Attributes:
        hashes: that of each event, in the order of ``events``.
    """

    run: RunRow
    events: list[StoredEvent] = field(default_factory=list["StoredEvent"])
    hashes: list[bytes | None] = field(default_factory=list["bytes | None"])
    transitions: list[TransitionRow] = field(default_factory=list["TransitionRow"])
    snapshots: list[SnapshotRow] = field(default_factory=list["SnapshotRow"])
    steps: list[StepRow] = field(default_factory=list["StepRow"])
    drops: list[DropRow] = field(default_factory=list["DropRow"])
    timers: list[TimerRow] = field(default_factory=list["TimerRow"])
    tasks: list[TaskRow] = field(default_factory=list["TaskRow"])
    parked: list[ParkedRow] = field(default_factory=list["ParkedRow"])
    collected: list[CollectedRow] = field(default_factory=list["CollectedRow"])
    streams: list[StreamRow] = field(default_factory=list["StreamRow"])
    chunks: list[ChunkRow] = field(default_factory=list["ChunkRow"])

    def count_outstanding(self) -> tuple[int, int]:
        """Return what `RunRow.waits` and `RunRow.tasks` have to be by the other rows."""
        waits = len(self.timers) + len(self.parked) + len(self.collected)
        return count_outstanding(waits, self.tasks)


def count_outstanding(waits: int, tasks: Iterable[TaskRow]) -> tuple[int, int]:
    """Return `RunRow.waits` and `RunRow.tasks`.

    Args:
        waits: how many timers, parked handlers and collected events there are.
        tasks: all tasks, those that have ended among them.
    """
    pending = [task.kind for task in tasks if task.status == PENDING]
    under_way = pending.count(INTERNAL)
    return waits + len(pending) - under_way, under_way
