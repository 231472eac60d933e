"""The core's decision, without a store: what is recorded once an event has been handled (G2)."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from flowstore.door import Limits
from flowstore.engine.active import ActiveRun
from flowstore.engine.decide import Done, announce, commit_event, pass_over, record_step
from flowstore.kind import StateKind
from flowstore.state import State
from flowstore.store.base import NewEvent, StepRow, StoredEvent

NOW = 5_000_000
HANDLED = {"work", "echo"}
LARGE = 100_000


def run_with(*names: str, head: int | None = None, **options: Any) -> ActiveRun:
    """A run whose pending events have these names; ``head`` if not all are loaded."""
    events = deque(
        StoredEvent(1, position, f"e{position}", name, 1, None, None, None, None, NOW, None)
        for position, name in enumerate(names, 1)
    )
    return ActiveRun(
        id=1,
        correlation_id="r",
        epoch=3,
        cursor=0,
        head=len(names) if head is None else head,
        loaded=len(names),
        number=0,
        state=State(StateKind(dict, Limits()), None, ()),
        pending=events,
        **options,
    )


def new(name: str) -> NewEvent:
    return NewEvent(f"1/h/{name}", name, 1, None, None, None, "e1", NOW, None)


def decide(run: ActiveRun, done: Done | None = None, position: int = 1) -> Any:
    return commit_event(run, position, done or Done(), HANDLED.__contains__, NOW)


def test_the_cursor_moves_to_the_event_and_the_fence_is_checked():
    commit = decide(run_with("work"))
    assert (commit.epoch, commit.cursor, commit.new_cursor) == (3, 0, 1)
    assert (commit.status, commit.drained, commit.known_head) == ("idle", True, 1)


@pytest.mark.parametrize(
    ("names", "drained"),
    [(("work", "other"), True), (("work", "echo"), False), (("work", "other", "work"), False)],
)
def test_it_is_drained_if_no_one_handles_the_rest(names: tuple[str, ...], *, drained: bool):
    assert decide(run_with(*names)).drained is drained


def test_it_is_not_drained_while_some_are_not_loaded():
    assert decide(run_with("work", head=2)).drained is False


def test_what_is_on_its_way_has_no_position_yet():
    commit = decide(run_with("work", in_flight=["progress", "progress"]))
    assert (commit.known_head, commit.drained) == (1, True)


@pytest.mark.parametrize("name", ["work", "echo"])
def test_what_is_on_its_way_and_is_handled_is_waited_for(name: str):
    assert decide(run_with("work", in_flight=["progress", name])).drained is False


@pytest.mark.parametrize(
    ("names", "passed"),
    [((), 0), (("other",), 1), (("other", "other"), 2), (("other", "echo", "other"), 1)],
)
def test_emitted_events_are_passed_over_up_to_the_first_that_is_handled(
    names: tuple[str, ...], passed: int
):
    done = Done(events=[new(name) for name in names])
    assert decide(run_with("work"), done).if_last == passed


def test_what_failed_stays_pending_until_its_time():
    commit = decide(run_with("work"), Done(ready_at=NOW + 7))
    assert (commit.new_cursor, commit.ready_at, commit.drained) == (0, NOW + 7, False)


def test_completing_closes_with_the_result():
    commit = decide(run_with("work", "echo"), Done(completed=True, result="1"))
    assert (commit.close, commit.status, commit.result) == (True, "completed", "1")


def test_a_failure_is_remembered_until_the_run_settles():
    assert decide(run_with("work"), Done(failure="broken")).status == "failed"
    commit = decide(run_with("work", failure="earlier"))
    assert (commit.status, commit.reason) == ("failed", "earlier")
    commit = decide(run_with("work", failure="earlier"), Done(failure="later"))
    assert commit.reason == "later"


def test_a_large_enough_change_brings_a_snapshot_with_it():
    run = run_with("work")
    run.state.value["text"] = "x" * LARGE
    run.state.change()
    commit = decide(run)
    assert commit.snapshot is not None
    assert (commit.snapshot.run_id, commit.snapshot.position) == (1, 1)
    assert not run.state.snapshot_due()


def test_a_retry_takes_no_snapshot():
    """Its position has not been handled: the state there is not final."""
    run = run_with("work")
    run.state.value["text"] = "x" * LARGE
    run.state.change()
    assert decide(run, Done(ready_at=NOW)).snapshot is None


def test_passing_over_moves_to_what_is_loaded():
    commit = pass_over(run_with("other", "other"), NOW)
    assert (commit.new_cursor, commit.drained, commit.status) == (2, True, "idle")
    assert pass_over(run_with("other", head=5), NOW).drained is False
    assert pass_over(run_with("other", failure="broken"), NOW).status == "failed"


def test_progress_and_steps_leave_the_cursor_where_it_is():
    run = run_with("work")
    for commit in (
        announce(run, new("progress"), NOW, repeats=True),
        record_step(run, StepRow(1, 1, "h", "s", 1, "1", NOW, 1), NOW),
    ):
        assert (commit.cursor, commit.new_cursor, commit.drained) == (0, 0, False)
        assert commit.ready_at is None
        assert not commit.close
