"""The ledger's decisions, without a database: places, verdicts, leases and fences (G2, G4-G8)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from flowstore.errors import (
    ConfigurationError,
    EventConflictError,
    LeaseLostError,
    RunNotFoundError,
)
from flowstore.store.base import (
    Append,
    Close,
    Commit,
    Fire,
    Loaded,
    NewEvent,
    Outstanding,
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


# --- append ------------------------------------------------------------------------------


def test_positions_are_gapless_and_the_run_has_something_to_do(world: World):
    assert [world.append(name).position for name in "abc"] == [1, 2, 3]
    assert (world.run.head, world.run.cursor, world.run.status) == (3, 0, "running")
    assert [row.position for row in world.ledger.events] == [1, 2, 3]


def test_a_repeat_gets_the_originals_place(world: World):
    """G5."""
    world.append("a", data='{"x":1}')
    again = world.append("a", data='{"x": 1}')
    assert (again.status, again.position) == ("duplicate", 1)
    assert world.reasons == ["duplicate"]
    assert world.run.head == 1


@pytest.mark.parametrize(
    "other",
    [{"name": "other"}, {"data": "2"}, {"metadata": "{}"}, {"error": "broken"}],
)
def test_other_content_under_the_same_id_is_refused(world: World, other: dict[str, Any]):
    """G5, and G7: it is recorded."""
    world.append("a", data="1")
    operation = Append("r", "w", new("a", data="1")._replace(**other), chosen_id=True, now=NOW)
    with pytest.raises(EventConflictError, match="at position 1"):
        world.ledger.append(operation)
    assert world.reasons == ["conflict"]


def test_of_other_versions_the_id_decides(world: World):
    world.append("a", data="1")
    operation = Append("r", "w", new("a", data="2", version=2), chosen_id=True, now=NOW)
    assert world.ledger.append(operation).status == "duplicate"


def test_a_repeat_is_known_also_when_the_run_is_closed(owned: World):
    owned.commit(close=True, status="completed")
    assert owned.append("first").status == "duplicate"


@pytest.mark.parametrize(("expires_at", "status"), [(NOW, "stale"), (NOW + 1, "accepted")])
def test_what_has_expired_is_refused(world: World, expires_at: int, status: str):
    """G6."""
    assert world.append(expires_at=expires_at).status == status
    assert world.reasons == (["expired"] if status == "stale" else [])


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_comes_for_a_closed_run_is_stale(owned: World, status: str):
    """G6."""
    owned.commit(close=True, status=status)
    appended = owned.append("late")
    assert (appended.status, appended.position) == ("stale", None)
    assert status in (appended.reason or "")
    assert owned.reasons == ["stale"]
    assert owned.run.head == 1


# --- leases ------------------------------------------------------------------------------


def test_whoever_asks_first_gets_the_lease(world: World):
    first = world.append("a", claim_for="me")
    second = world.append("b", claim_for="you")
    assert first.grant is not None
    assert (first.grant.run.owner, first.grant.run.epoch) == ("me", 1)
    assert second.grant is None
    assert (world.run.owner, world.run.epoch) == ("me", 1)


def test_the_dead_lose_theirs_and_the_epoch_moves(owned: World):
    """G9."""
    owned.memory.dead.add("me")
    taken = owned.append("b", claim_for="you")
    assert taken.grant is not None
    assert (taken.grant.run.owner, taken.grant.run.epoch) == ("you", 2)


def test_one_that_waits_for_its_time_is_left_alone(owned: World):
    owned.commit(new_cursor=0, ready_at=NOW + 5)
    assert owned.append("b", claim_for="you").grant is None
    assert owned.append("c", claim_for="you", now=NOW + 5).grant is not None


def test_a_run_of_another_workflow_takes_no_event(world: World):
    world.append("a")
    before = len(world.ledger.events)
    operation = Append("r", "other", new("b"), chosen_id=True, now=NOW, claim_for="me")
    with pytest.raises(ConfigurationError, match="belongs to workflow"):
        world.ledger.append(operation)
    assert len(world.ledger.events) == before


def test_a_lease_on_a_settled_run_needs_no_reading(owned: World):
    """G11: one that still has the state is given the event, and nothing is loaded."""
    owned.commit(transitions=[transition(1)], drained=True)
    before = len(owned.memory.loads)
    granted = owned.append("b", claim_for="me", cached_version=1).grant
    assert granted is not None
    assert granted.loaded.state_is_cached
    assert [event.id for event in granted.loaded.events] == ["b"]
    assert len(owned.memory.loads) == before
    owned.commit(drained=True)
    assert owned.append("c", claim_for="me", cached_version=0).grant is not None
    assert len(owned.memory.loads) == before + 1, "its copy of the state is an old one"


def test_of_a_settled_run_the_state_alone_is_read_if_the_rest_is_in_the_file(owned: World):
    """G11: the rows of a whole batch are not written early for one lease."""
    owned.commit(transitions=[transition(1)], drained=True)
    owned.ledger.clear()  # as when the batch has been written
    before = len(owned.memory.loads)
    granted = owned.append("b", claim_for="me", cached_version=0).grant
    assert granted is not None
    assert granted.loaded.state == "{}"
    assert [event.id for event in granted.loaded.events] == ["b"]
    assert (owned.memory.states, len(owned.memory.loads)) == ([1], before)


# --- commit ------------------------------------------------------------------------------


def test_what_is_handled_moves_the_cursor_and_gives_the_run_back(owned: World):
    done = owned.commit(transitions=[transition(1)], drained=True)
    assert (done.status, done.head, done.cursor) == ("idle", 1, 1)
    assert (owned.run.owner, owned.run.state_version) == (None, 1)


def test_emitted_events_follow_and_keep_the_run(owned: World):
    done = owned.commit(events=[new("1/h/1"), new("1/h/2")], drained=True)
    assert [(row.position, row.id) for row in done.events] == [(2, "1/h/1"), (3, "1/h/2")]
    assert (done.status, done.cursor, owned.run.owner) == ("running", 1, "me")


def test_emitted_events_that_no_one_handles_are_passed_over_at_once(owned: World):
    done = owned.commit(events=[new("1/h/1"), new("1/h/2")], drained=True, if_last=2)
    assert (done.status, done.cursor, done.head) == ("idle", 3, 3)


def test_not_if_something_came_in_between(owned: World):
    """G4, G6: what came early is handled in its turn, never jumped over."""
    owned.append("early")
    done = owned.commit(known_head=1, events=[new("1/h/1")], drained=True, if_last=1)
    assert (done.status, done.cursor, done.head) == ("running", 1, 3)


@pytest.mark.parametrize("wrong", [{"epoch": 0}, {"epoch": 2}, {"cursor": 1}])
def test_who_does_not_own_the_run_cannot_commit(owned: World, wrong: dict[str, int]):
    """G8, and G7: it is recorded; nothing of the commit is."""
    before = replace(owned.run)
    with pytest.raises(LeaseLostError, match="'r'"):
        owned.commit(events=[new("x")], transitions=[transition(1)], steps=[step()], **wrong)
    assert owned.run == before
    assert owned.reasons == ["lease_lost"]
    assert not owned.ledger.transitions
    assert not owned.ledger.steps
    assert [row.id for row in owned.ledger.events] == ["first"]


def test_a_handler_that_ran_before_appends_only_what_is_missing(owned: World):
    """G3, G7."""
    owned.commit(new_cursor=0, events=[new("1/h/p1", "progress"), new("mine")])
    done = owned.commit(events=[new("1/h/p1", "progress"), new("mine"), new("more")], repeats=True)
    assert [row.id for row in done.events] == ["more"]
    assert owned.reasons == ["duplicate"], "progress that is repeated is not worth a record"


def test_a_run_that_waits_keeps_its_event(owned: World):
    done = owned.commit(new_cursor=0, ready_at=NOW + 9, transitions=[transition(1)])
    assert (done.status, done.cursor) == ("running", 0)
    assert (owned.run.ready_at, owned.run.owner) == (NOW + 9, None)


def test_completing_makes_stale_what_is_pending(owned: World):
    """G6, G7."""
    owned.append("second")
    done = owned.commit(close=True, status="completed", result="7")
    assert (done.status, done.cursor, done.head) == ("completed", 2, 2)
    assert owned.run.result == "7"
    assert [(drop.event_id, drop.reason) for drop in owned.ledger.drops] == [("second", "stale")]


def test_a_commit_to_a_run_that_has_gone(world: World):
    with pytest.raises(RunNotFoundError):
        world.ledger.commit(Commit(7, "gone", 1, 0, 1, 1, NOW))


# --- close -------------------------------------------------------------------------------


def test_closing_from_outside_fences_the_handler_at_work(owned: World):
    """G8."""
    epoch = owned.run.epoch
    closed = owned.ledger.close(Close("r", "cancelled", "enough", NOW))
    assert (closed.status, closed.reason, closed.cursor) == ("cancelled", "enough", 1)
    assert owned.reasons == ["stale"]
    with pytest.raises(LeaseLostError):
        owned.commit(epoch=epoch, cursor=0)


def test_closing_twice_changes_nothing(owned: World):
    first = owned.ledger.close(Close("r", "cancelled", "enough", NOW))
    again = owned.ledger.close(Close("r", "cancelled", "other", NOW + 1))
    assert again == first


def test_closing_a_run_that_is_not_there(world: World):
    with pytest.raises(RunNotFoundError, match="flowstore runs"):
        world.ledger.close(Close("r", "cancelled", None, NOW))


# --- rows --------------------------------------------------------------------------------


def test_a_run_that_only_moves_is_not_written_whole(owned: World):
    """G11: two kinds of update, so that the common one is short."""
    owned.append("second")
    owned.ledger.clear()
    owned.commit(transitions=[transition(1)])
    assert list(owned.ledger.moved) == [1]
    assert not owned.ledger.changed


def test_clearing_forgets_the_rows(owned: World):
    owned.ledger.clear()
    assert not any(
        (owned.ledger.new_runs, owned.ledger.events, owned.ledger.drops, owned.ledger.chosen)
    )


# --- timers ------------------------------------------------------------------------------


def test_a_run_with_a_timer_waits_and_goes_on_when_it_is_due(owned: World):
    committed = owned.commit(
        outstanding=Outstanding(timers=[timer("late", NOW + 9), timer("soon", NOW + 5)]),
        drained=True,
    )
    assert (committed.status, owned.run.waits) == ("waiting", 2)
    fired = owned.ledger.waiting.fire(Fire("w", NOW + 5, 10))
    [(name, appended)] = fired.appended
    assert (name, appended.position, fired.due) == ("r", 2, NOW + 9)
    assert appended.event is not None
    assert (appended.event.id, appended.event.causation_id) == ("1/h/soon", "first")
    assert (owned.run.status, owned.run.waits) == ("running", 1)
    assert owned.ledger.waiting.fire(Fire("w", NOW + 5, 10)).appended == []


def test_a_run_without_its_timer_is_idle(owned: World):
    owned.commit(outstanding=Outstanding(timers=[timer("k", NOW + 9)]), new_cursor=0)
    assert (
        owned.commit(outstanding=Outstanding(cancelled=["k", "none"]), drained=True).status
        == "idle"
    )


def test_a_commit_that_is_refused_sets_no_timer(owned: World):
    """G8."""
    with pytest.raises(LeaseLostError):
        owned.commit(epoch=99, outstanding=Outstanding(timers=[timer("k", NOW)]))
    assert owned.memory.timers == {}


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_closing_ends_the_timers(owned: World, status: str):
    owned.commit(outstanding=Outstanding(timers=[timer("k", NOW)]), close=True, status=status)
    assert (owned.memory.timers, owned.run.waits) == ({}, 0)
