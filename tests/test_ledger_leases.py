"""Who gets the lease of a run, and what is read for it (G8, G9)."""

from __future__ import annotations

import pytest
from ledgers import NOW, World, new, transition

from flowstore.errors import ConfigurationError
from flowstore.store.base import Append


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
