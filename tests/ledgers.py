"""A ledger over a memory: what tests of its decisions begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from flowstore.store.base import (
    Append,
    Commit,
    Loaded,
    NewEvent,
    RunRow,
    StepRow,
    StoredEvent,
    TimerRow,
    TransitionRow,
)
from flowstore.store.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store import base
    from flowstore.store.lookup import WaitingLookup


NOW = 1_000_000


class Memory:
    """A `Lookup` over dictionaries."""

    has_pruned = False

    def __init__(self) -> None:
        self.runs: dict[str, RunRow] = {}
        self.events: dict[tuple[int, str], StoredEvent] = {}
        self.dead: set[str] = set()
        self.timers: dict[str, TimerRow] = {}
        self.loads: list[int] = []
        self.states: list[int] = []

    def run(self, correlation_id: str) -> RunRow | None:
        return self.runs.get(correlation_id)

    def run_by_id(self, run_id: int) -> RunRow | None:
        return next((run for run in self.runs.values() if run.id == run_id), None)

    def add_run(self, correlation_id: str, workflow: str, now: int) -> RunRow:
        number = len(self.runs) + 1
        row = RunRow(
            number, correlation_id, workflow, "idle", 0, 0, 0, 0, None, None, None, None, None,
            now, now,
        )  # fmt: skip
        self.runs[correlation_id] = row
        return row

    def event(self, run_id: int, event_id: str) -> StoredEvent | None:
        return self.events.get((run_id, event_id))

    def names_between(self, run_id: int, after: int, until: int) -> list[tuple[int, str, str]]:
        return [
            (event.position, event.id, event.name)
            for event in self.events.values()
            if event.run_id == run_id and after < event.position <= until
        ]

    def load(self, _: RunRow, cached_version: int) -> Loaded:
        self.loads.append(cached_version)
        return Loaded()

    def load_state(self, run: RunRow) -> Loaded:
        self.states.append(run.id)
        return Loaded(state="{}")

    def has_lost_lease(self, owner: str) -> bool:
        return owner in self.dead

    def set_timers(self, _: int, cancelled: Sequence[str], timers: Sequence[TimerRow]) -> int:
        before = len(self.timers)
        for key in cancelled:
            self.timers.pop(key, None)
        self.timers |= {timer.key: timer for timer in timers}
        return len(self.timers) - before

    def clear(self, _: int) -> None:
        self.timers.clear()

    def due_timers(self, _: str, now: int, limit: int) -> list[TimerRow]:
        due = sorted((timer.due_at, key) for key, timer in self.timers.items())
        return [self.timers.pop(key) for at, key in due[:limit] if at <= now]

    def next_timer(self, _: str) -> int | None:
        return min((timer.due_at for timer in self.timers.values()), default=None)


class World:
    """A ledger over a memory that keeps what the ledger would write."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.ledger = Ledger(self.memory, cast("WaitingLookup", self.memory))

    @property
    def run(self) -> RunRow:
        return self.memory.runs["r"]

    @property
    def reasons(self) -> list[str]:
        return [drop.reason for drop in self.ledger.drops]

    def append(self, event_id: str = "e", **options: Any) -> base.Appended:
        event = new(event_id, **{k: options.pop(k) for k in ("data", "expires_at") if k in options})
        options = {"chosen_id": True, "now": NOW, **options}
        appended = self.ledger.append(Append("r", "w", event, **options))
        self.keep()
        return appended

    def commit(self, **options: Any) -> base.Committed:
        run = self.run
        given = {"epoch": run.epoch, "cursor": run.cursor, "known_head": run.head, **options}
        given.setdefault("new_cursor", given["cursor"] + 1)
        committed = self.ledger.commit(Commit(1, "r", now=NOW, **given))
        self.keep()
        return committed

    def keep(self) -> None:
        for row in self.ledger.events:
            self.memory.events[row.run_id, row.id] = row


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def owned(world: World) -> World:
    """A run with one event, owned by ``me``."""
    world.append("first", claim_for="me")
    return world


def new(event_id: str, name: str = "n", data: str | None = None, **options: Any) -> NewEvent:
    row = NewEvent(event_id, name, 1, data, None, None, None, NOW, None)
    return row._replace(**options)


def step() -> StepRow:
    return StepRow(1, 1, "h", "s", 1, "1", NOW, 1)


def transition(number: int = 1) -> TransitionRow:
    return TransitionRow(1, 1, number, "h", 1, "handled", None, None, None, NOW, 1)


def timer(key: str, due_at: int) -> TimerRow:
    return TimerRow(1, key, "w", due_at, f"1/h/{key}", "due", 1, None, None, None, "first", NOW)
