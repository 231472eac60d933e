"""Events as users write and read them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from flowstore.events import ERROR, PROGRESS, Receipt, WorkflowEvent


def test_event_needs_only_a_name() -> None:
    event = WorkflowEvent("query")
    assert (event.name, event.data, event.metadata, event.error) == ("query", None, None, None)
    assert event.id is event.correlation_id is event.causation_id is event.position is None


def test_arguments_are_in_the_order_of_microflow() -> None:
    event = WorkflowEvent("a", {"b": 1}, {"c": 2}, "d")
    assert event == WorkflowEvent(name="a", data={"b": 1}, metadata={"c": 2}, error="d")


def test_events_are_equal_when_their_content_is() -> None:
    stored = WorkflowEvent("a", 1, None, None, "id", "run", "cause", 3, datetime.now(UTC))
    assert stored == WorkflowEvent("a", 1)
    assert stored != WorkflowEvent("a", 2)
    assert stored != WorkflowEvent("b", 1)


def test_progress() -> None:
    event = WorkflowEvent.progress("search", "Searching", {"by": "me"})
    assert event == WorkflowEvent(
        "progress", {"step": "search", "description": "Searching"}, {"by": "me"}
    )
    assert WorkflowEvent.progress("search", "Searching").metadata is None


def test_reserved_names() -> None:
    assert (PROGRESS, ERROR) == ("progress", "error")


def test_receipts_do_not_change() -> None:
    receipt = Receipt(status="accepted", id="1", correlation_id="run", position=1)
    assert receipt.reason is None
    with pytest.raises(FrozenInstanceError):
        receipt.position = 2  # type: ignore[misc]
