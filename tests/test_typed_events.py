"""Typed events: classes, their subclasses, and the run that an event names itself."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from watching import collect

from flowstore import WorkflowEvent
from flowstore.errors import ConfigurationError, EventTypeError


class Base(BaseModel):
    key: str


class Inquiry(Base):
    text: str = ""


class Complaint(Inquiry):
    level: int = 1


@dataclasses.dataclass
class Approved:
    by: str


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    number: int
    event_name: ClassVar[str] = "counted.v1"


class Colour(Enum):
    RED = "red"


class Everything(BaseModel):
    model_config = ConfigDict(frozen=True)
    moment: datetime
    amount: Decimal
    id: UUID
    colour: Colour
    tags: frozenset[str]
    nested: list[Approved]


# --- typed events ------------------------------------------------------------------------


async def test_a_handler_of_a_class_gets_the_object_and_ctx_the_envelope(workflow):
    seen: list[Any] = []

    async def handle(event, ctx):
        seen.append(event)
        seen.append((ctx.event.name, ctx.event.data, ctx.event.position))

    workflow.register(Inquiry, handle)
    await collect(workflow.process(Inquiry(key="k", text="prices")))
    assert seen == [
        Inquiry(key="k", text="prices"),
        ("Inquiry", {"key": "k", "text": "prices"}, 1),
    ]


async def test_a_dataclass_is_an_event_too_and_can_be_emitted(workflow):
    async def handle(event: Inquiry, ctx):
        yield Approved(by=event.key)

    async def approved(event: Approved):
        return Counted(len(event.by))

    seen = []

    async def counted(event: Counted):
        seen.append(event)

    workflow.register(Inquiry, handle).register(Approved, approved).register(Counted, counted)
    events = await collect(workflow.process(Inquiry(key="abc")))
    assert [event.name for event in events] == ["Inquiry", "Approved", "counted.v1"]
    assert seen == [Counted(3)]


async def test_every_kind_of_field_comes_back_the_same(workflow):
    """G10."""
    event = Everything(
        moment=datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        amount=Decimal("12.30"),
        id=UUID(int=7),
        colour=Colour.RED,
        tags=frozenset({"a", "b"}),
        nested=[Approved("ada")],
    )
    seen = []

    async def handle(event):
        seen.append(event)

    workflow.register(Everything, handle)
    (envelope,) = await collect(workflow.process(event))
    assert seen == [event]
    assert workflow.decode(envelope) == event


async def test_a_base_class_catches_its_subclasses(workflow):
    seen = []

    async def of_base(event):
        seen.append(("base", type(event).__name__))

    async def of_inquiry(event):
        seen.append(("inquiry", type(event).__name__))

    async def of_complaint(event):
        seen.append(("complaint", event.level))

    workflow.register(Base, of_base).register(Inquiry, of_inquiry)
    workflow.register(Complaint, of_complaint)
    for event in (Complaint(key="k", level=3), Inquiry(key="k")):
        await collect(workflow.process(event))
    assert seen == [
        ("base", "Complaint"),
        ("inquiry", "Complaint"),
        ("complaint", 3),
        ("base", "Inquiry"),
        ("inquiry", "Inquiry"),
    ]


async def test_a_subclass_that_was_never_registered_is_caught_by_its_base(workflow):
    seen = []

    async def handle(event):
        seen.append(event)

    workflow.register(Base, handle)
    await collect(workflow.process(Complaint(key="k", level=2)))
    assert seen == [Complaint(key="k", level=2)]


async def test_a_star_catches_every_event(workflow):
    seen = []

    async def note(event, ctx):
        seen.append((type(event).__name__, event.name))

    async def go(event):
        yield WorkflowEvent.progress("one", "at it")
        yield Approved("ada")

    workflow.register("*", note).register("go", go)
    await collect(workflow.process(WorkflowEvent("go")))
    assert seen == [
        ("WorkflowEvent", "go"),
        ("WorkflowEvent", "progress"),
        ("WorkflowEvent", "Approved"),
    ]


async def test_a_typed_event_can_be_handled_by_its_name(workflow):
    seen = []

    async def handle(event):
        seen.append(event.data)

    workflow.register("Approved", handle)
    await collect(workflow.process(Approved("ada")))
    assert seen == [{"by": "ada"}]


async def test_an_envelope_with_a_types_name_reaches_its_handler_as_an_object(workflow):
    seen = []

    async def handle(event):
        seen.append(event)

    workflow.register(Approved, handle)
    await collect(workflow.process(WorkflowEvent("Approved", {"by": "ada"})))
    assert seen == [Approved("ada")]


async def test_data_that_does_not_fit_the_class_is_a_dead_letter(workflow, caplog):
    async def handle(event):
        raise AssertionError

    workflow.register(Approved, handle)
    events = await collect(
        workflow.process(WorkflowEvent("Approved", {"by": 7}), correlation_id="r")
    )
    assert events[-1].name == "error"
    assert "by" in events[-1].error
    assert await workflow.run("r").status() == "failed"


async def test_data_that_never_fitted_is_for_its_sender_to_mend(workflow, caplog):
    """No class has changed, so an upcaster alone would be the wrong advice."""

    async def handle(event):
        raise AssertionError

    workflow.register(Approved, handle)
    events = await collect(workflow.process(WorkflowEvent("Approved", {"who": 5})))
    assert "data.by: " in events[-1].error
    assert "Field required; send 'Approved' with data that fits or, if its class has changed" in (
        events[-1].error
    )


async def test_two_classes_of_one_name_are_refused(workflow):
    def other():
        @dataclasses.dataclass
        class Approved:
            by: str

        return Approved

    async def handle(event): ...

    workflow.register(Approved, handle)
    with pytest.raises(EventTypeError, match=r"two classes.*'Approved'.*event_name"):
        workflow.register(other(), handle)


@pytest.mark.parametrize("event", [7, None, ["go"], int, object(), ""])
def test_what_is_no_event_type_is_refused(workflow, event):
    async def handle(event): ...

    with pytest.raises(EventTypeError):
        workflow.register(event, handle)


async def test_decode_leaves_unknown_events_as_they_are(workflow):
    event = WorkflowEvent("nobody's", {"a": 1})
    assert workflow.decode(event) is event


# --- correlate ---------------------------------------------------------------------------


async def test_correlate_names_the_run_of_an_event(workflow):
    async def handle(event): ...

    workflow.register(Inquiry, handle, correlate="key")
    workflow.register("order", handle, correlate="order_id", name="order")
    workflow.register(Approved, handle, correlate=lambda event: f"by-{event.by}", name="approve")
    for event, expected in (
        (Inquiry(key="k-1"), "k-1"),
        (Complaint(key="k-2"), "k-2"),
        (WorkflowEvent("order", {"order_id": 17}), "17"),
        (Approved("ada"), "by-ada"),
    ):
        assert (await workflow.send(event)).correlation_id == expected


async def test_what_the_sender_says_goes_before_correlate(workflow):
    async def handle(event): ...

    workflow.register("order", handle, correlate="order_id")
    event = WorkflowEvent("order", {"order_id": 17}, correlation_id="from the event")
    assert (await workflow.send(event)).correlation_id == "from the event"
    assert (await workflow.send(event, correlation_id="said")).correlation_id == "said"


@pytest.mark.parametrize("data", [{}, None, {"order_id": None}, [1], "text"])
async def test_an_event_without_the_field_is_refused(workflow, data):
    async def handle(event): ...

    workflow.register("order", handle, correlate="order_id")
    with pytest.raises(ConfigurationError, match=r"order.*'order_id'.*correlation_id="):
        await workflow.send(WorkflowEvent("order", data))
