"""Typed events, reducers, threads: what handlers are given and what they may give back."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from watching import collect, log, names, transitions

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


# --- reducers ----------------------------------------------------------------------------


async def test_a_reducer_returns_the_state(workflow):
    def add(event, state):
        return {**state, "sum": state.get("sum", 0) + event.data}

    workflow.register("add", add)
    for number in (3, 4):
        await collect(workflow.process(WorkflowEvent("add", number), correlation_id="r"))
    assert await workflow.run("r").state() == {"sum": 7}


async def test_a_reducer_returns_the_state_and_events(workflow):
    async def add(event, state):
        total = state.get("sum", 0) + event.data
        return {"sum": total}, [WorkflowEvent("sum", total), WorkflowEvent("again", total)]

    async def one(event, state):
        return state, Approved("ada")

    workflow.register("add", add).register("one", one)
    assert await names(workflow.process(WorkflowEvent("add", 3), correlation_id="r")) == [
        "add",
        "sum",
        "again",
    ]
    assert await names(workflow.process(WorkflowEvent("one"), correlation_id="r")) == [
        "one",
        "Approved",
    ]
    assert await workflow.run("r").state() == {"sum": 3}


async def test_a_reducer_that_forgets_to_return_has_failed(workflow, caplog):
    def add(event, state):
        state["sum"] = 1

    workflow.register("add", add)
    events = await collect(workflow.process(WorkflowEvent("add"), correlation_id="r"))
    assert "return the state" in events[-1].error
    assert events[-1].data["exception"] == "HandlerReturnError"
    assert await workflow.run("r").state() == {}


async def test_reducers_of_one_event_see_each_others_state(workflow):
    def one(event, state):
        return {**state, "one": 1}

    def two(event, state):
        return {**state, "two": state["one"] + 1}

    workflow.register("go", one).register("go", two)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert await workflow.run("r").state() == {"one": 1, "two": 2}


# --- state as a model or a dataclass ---------------------------------------------------------


class Model(BaseModel):
    count: int = 0
    names: set[str] = set()


@dataclasses.dataclass
class Data:
    count: int = 0
    names: set[str] = dataclasses.field(default_factory=set)


@pytest.mark.parametrize("kind", [Model, Data])
async def test_state_of_a_class(make, kind):
    workflow = make(state=kind)

    async def handle(event, ctx):
        assert type(ctx.state) is kind
        ctx.state.count += 1
        ctx.state.names.add(event.data)
        ctx["count"] = ctx["count"] + 10

    def reduce(event, state):
        return (
            dataclasses.replace(state, count=0)
            if kind is Data
            else state.model_copy(update={"count": 0})
        )

    workflow.register("go", handle).register("reset", reduce)
    for name in ("ada", "bob"):
        await collect(workflow.process(WorkflowEvent("go", name), correlation_id="r"))
    await workflow.close()
    assert await workflow.run("r").state() == kind(count=22, names={"ada", "bob"})
    await collect(workflow.process(WorkflowEvent("reset"), correlation_id="r"))
    assert await workflow.run("r").state() == kind(count=0, names={"ada", "bob"})
    assert await workflow.run("r").state(at=1) == kind(count=11, names={"ada"})


@pytest.mark.parametrize("kind", [Model, Data])
async def test_a_state_that_fails_its_validation_fails_its_handler(make, kind, caplog):
    workflow = make(state=kind)

    async def good(event, ctx):
        ctx.state.count = 1

    async def bad(event, ctx):
        ctx.state.names.add("lost")
        ctx.state.count = "many"

    workflow.register("good", good).register("bad", bad)
    await workflow.send(WorkflowEvent("good"), correlation_id="r")
    events = await collect(workflow.process(WorkflowEvent("bad"), correlation_id="r"))
    assert "state.count" in events[-1].error
    assert events[-1].data["exception"] == "InvalidStateError"
    assert await workflow.run("r").state() == kind(count=1)


@pytest.mark.parametrize("kind", [list, int, "dict", None, object])
def test_other_kinds_of_state_are_refused(make, kind):
    with pytest.raises(ConfigurationError, match="dict, a Pydantic model class or a dataclass"):
        make(state=kind)


# --- threads -----------------------------------------------------------------------------


async def test_a_plain_function_and_a_generator_run_in_a_thread(workflow):
    here, threads = threading.current_thread(), []

    def function(event, ctx):
        threads.append(threading.current_thread())
        ctx["n"] = 1
        ctx.emit(WorkflowEvent("emitted"))

    def generator(event, ctx):
        threads.append(threading.current_thread())
        yield WorkflowEvent.progress("one", "at it")
        yield WorkflowEvent("yielded", ctx["n"])

    def reducer(event, state):
        threads.append(threading.current_thread())
        return state

    workflow.register("go", function).register("go", generator).register("go", reducer)
    events = await names(workflow.process(WorkflowEvent("go")))
    assert len(threads) == 3
    assert here not in threads
    assert events == ["go", "progress", "emitted", "yielded"]


async def test_a_plain_function_that_blocks_holds_up_no_other_run(workflow):
    """G4: it waits in a thread for what another run does on the event loop."""
    may_end = threading.Event()

    def block(event):
        assert may_end.wait(30)
        return WorkflowEvent("done")

    async def free(event):
        may_end.set()

    workflow.register("block", block).register("free", free)
    blocked = asyncio.create_task(names(workflow.process(WorkflowEvent("block"))))
    await collect(workflow.process(WorkflowEvent("free")))
    assert await blocked == ["block", "done"]


async def test_a_failing_generator_in_a_thread_is_an_error_event(workflow, caplog):
    def generator(event):
        yield WorkflowEvent.progress("one", "at it")
        raise ValueError("broken in a thread")

    workflow.register("go", generator)
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert [(event.name, event.error) for event in events] == [
        ("go", None),
        ("progress", None),
        ("error", "broken in a thread"),
    ]


class _FatalError(BaseException):
    """Not an Exception, and still no reason to leave a run hanging."""


def _stops(event):
    return next(iter([]))


def _stops_in_a_generator(event):
    yield WorkflowEvent.progress("one", "at it")
    raise _FatalError("fatal")


async def _stops_on_the_loop(event):
    raise StopAsyncIteration("at the end")


async def _is_fatal(event):
    raise _FatalError("fatal")


def _exits_as_a_generator(event):
    raise GeneratorExit


async def _stops_in_a_step(event, ctx):
    await ctx.step("first", next, iter([]))


async def _fails_in_a_group(event):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())
        raise ValueError("in a group")


@pytest.mark.parametrize(
    "handler",
    [
        _stops,
        _stops_in_a_generator,
        _stops_on_the_loop,
        _is_fatal,
        _exits_as_a_generator,
        _stops_in_a_step,
        _fails_in_a_group,
    ],
)
async def test_exceptions_of_an_uncommon_kind_are_failures_like_others(workflow, handler, caplog):
    workflow.register("go", handler)
    async with asyncio.timeout(20):
        events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert events[-1].name == "error"
    assert await workflow.run("r").status() == "failed"


# --- nonsense ------------------------------------------------------------------------------


async def _returns_text(event):
    return "done"


async def _returns_dict(event):
    return {"name": "done"}


async def _returns_list(event):
    return [WorkflowEvent("fine"), 7]


async def _returns_class(event):
    return WorkflowEvent


async def _yields_number(event):
    yield WorkflowEvent("fine")
    yield 7


async def _yields_none(event):
    yield None


def _yields_tuple(event):
    yield ("done", {})


async def _names_another_run(event):
    yield WorkflowEvent("go", correlation_id="another")


async def _emits_nan(event):
    return WorkflowEvent("out", {"values": [1.0, float("nan")]})


async def _emits_no_name(event):
    return WorkflowEvent("")


async def _emits_odd_name(event):
    return WorkflowEvent(7)


async def _completes_with_object(event, ctx):
    ctx.complete(object())


async def _state_with_object(event, ctx):
    ctx["thing"] = object()


async def _state_replaced(event, ctx):
    ctx.state = [1, 2]


async def _state_keys(event, ctx):
    ctx.state[7] = "seven"


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_returns_text, "returned an object of type str"),
        (_returns_dict, "returned an object of type dict"),
        (_returns_list, "returned an object of type int"),
        (_returns_class, "returned an object of type type"),
        (_yields_number, "yielded an object of type int"),
        (_yields_none, "yielded an object of type NoneType"),
        (_yields_tuple, "yielded an object of type tuple"),
        (_names_another_run, "workflow.send"),
        (_emits_nan, "data.values[1]"),
        (_emits_no_name, "name"),
        (_emits_odd_name, "name"),
        (_completes_with_object, "result"),
        (_state_with_object, "state.thing"),
        (_state_replaced, "state: is list; it must be dict"),
        (_state_keys, "state: has a key of type int"),
    ],
)
async def test_a_handler_that_gives_nonsense_has_failed(workflow, handler, words, caplog):
    """Named with its place; nothing of it is kept, and nothing else is lost."""

    async def after(event, ctx):
        ctx["after"] = event.data

    workflow.register("go", handler, name="odd").register("go", after)
    events = await collect(workflow.process(WorkflowEvent("go", 1), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]
    assert words in events[1].error
    assert events[1].data["handler"] == "odd"
    assert (await transitions(workflow, "r"))[0][1:] == ("odd", 1, "dead")
    assert await workflow.run("r").state() == {"after": 1}


async def test_a_handler_that_returns_nothing_is_fine(workflow):
    """The control to the one above."""

    async def nothing(event): ...

    async def empty(event):
        return []

    async def no_yield(event):
        if event.data:
            yield WorkflowEvent("never")

    workflow.register("go", nothing).register("go", empty).register("go", no_yield)
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go"]
    assert [row[3] for row in await transitions(workflow, "r")] == ["handled"] * 3


# --- names of handlers ---------------------------------------------------------------------


async def test_what_the_record_calls_a_handler(workflow):
    class Agent:
        async def answer(self, event): ...

        async def __call__(self, event): ...

    async def function(event, ctx): ...

    workflow.register("go", function)
    workflow.register("go", Agent().answer)
    workflow.register("go", Agent())
    workflow.register("go", function, name="by another name")
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [row[1] for row in await transitions(workflow, "r")] == [
        "function",
        "Agent.answer",
        "Agent",
        "by another name",
    ]


async def test_a_partial_is_a_handler(workflow):
    async def handle(extra, event, ctx):
        return WorkflowEvent("out", extra)

    workflow.register("go", functools.partial(handle, "more"))
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert events[-1].data == "more"


async def test_on_registers_and_leaves_the_function_as_it_is(workflow):
    @workflow.on("go", name="starter")
    async def handle(event):
        return WorkflowEvent("done")

    assert (await handle(None)).name == "done"
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert await log(workflow, "r") == [(1, "go"), (2, "done")]


async def test_a_handler_registered_while_the_workflow_is_in_use_counts_from_then_on(workflow):
    async def handle(event):
        return WorkflowEvent("done")

    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go"]
    workflow.register("go", handle)
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go", "done"]
