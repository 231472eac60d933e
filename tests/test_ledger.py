"""The ledger's decisions, without a database: places, verdicts, leases and fences (G2, G4-G8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ledgers import NOW, World, new, step, timer, transition

from flowstore.errors import EventConflictError, LeaseLostError, RunNotFoundError
from flowstore.store.base import Append, Close, Commit, Fire, Outstanding

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


def test_what_the_owner_itself_sent_off_is_passed_over(owned: World):
    owned.commit(new_cursor=0, events=[new("1/h/p1", "progress")], announces=True)
    done = owned.commit(known_head=1, new_cursor=1, drained=True)
    assert (done.status, done.cursor, done.head) == ("idle", 2, 2)


def test_what_it_sent_off_again_stands_for_no_other_event(owned: World):
    """G4: what came in at the same time is not passed over in its place."""
    progress = {"events": [new("1/h/p1", "progress")], "announces": True, "repeats": True}
    owned.commit(new_cursor=0, **progress)
    assert owned.commit(new_cursor=0, **progress).events == []
    owned.append("early")
    done = owned.commit(known_head=2, new_cursor=1, drained=True)
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
