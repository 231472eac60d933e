"""Handlers that give back nonsense or fail in uncommon ways: failures like others."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from watching import collect, names, transitions

from flowstore import WorkflowEvent


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


# --- uncommon exceptions ---------------------------------------------------------------------


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
