"""Reducers, states of a class, threads and names of handlers."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading

import pytest
from pydantic import BaseModel
from watching import collect, log, names, transitions

from flowstore import WorkflowEvent
from flowstore.errors import ConfigurationError


@dataclasses.dataclass
class Approved:
    by: str


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
