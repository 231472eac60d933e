"""A program written for microflow runs with one import changed: classes, handlers, ctx."""

# ruff: noqa: ARG001, ARG002 - handlers have the parameters that users would write

from __future__ import annotations

import pytest
from watching import collect, names

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import ConfigurationError, DuplicateHandlerError, HandlerSignatureError

# --- the classes -------------------------------------------------------------------------


def test_an_event_takes_name_data_metadata_error_in_this_order():
    event = WorkflowEvent("query", {"query": "why"}, {"user": "ada"}, "failed")
    assert (event.name, event.data, event.metadata, event.error) == (
        "query",
        {"query": "why"},
        {"user": "ada"},
        "failed",
    )
    assert WorkflowEvent("query").data is None


def test_progress_is_an_event_with_step_and_description():
    event = WorkflowEvent.progress("search", "Looking it up", {"n": 1})
    assert event == WorkflowEvent(
        "progress", {"step": "search", "description": "Looking it up"}, {"n": 1}
    )


def test_events_are_equal_by_what_was_said_not_by_where_it_stands():
    assert WorkflowEvent("a", 1, id="one") == WorkflowEvent("a", 1, id="two", position=4)
    assert WorkflowEvent("a", 1) != WorkflowEvent("a", 2)


# --- register ----------------------------------------------------------------------------


async def test_register_can_be_chained(workflow):
    seen = []

    async def one(event):
        seen.append(("one", event.name))

    async def two(event):
        seen.append(("two", event.name))

    assert workflow.register("a", one).register("b", two) is workflow
    await collect(workflow.process(WorkflowEvent("a")))
    await collect(workflow.process(WorkflowEvent("b")))
    assert seen == [("one", "a"), ("two", "b")]


async def test_handlers_of_one_event_are_called_in_registration_order(workflow):
    seen = []

    def handler(number):
        async def handle(event, ctx):
            seen.append(number)
            yield WorkflowEvent(f"from {number}")

        return handle

    for number in (3, 1, 2):
        workflow.register("go", handler(number), name=f"handler {number}")
    assert await names(workflow.process(WorkflowEvent("go"))) == [
        "go",
        "from 3",
        "from 1",
        "from 2",
    ]
    assert seen == [3, 1, 2]


def test_two_handlers_of_one_name_for_one_event_are_refused(workflow):
    async def handle(event): ...

    workflow.register("a", handle)
    workflow.register("b", handle)  # another event: nothing to confuse
    with pytest.raises(DuplicateHandlerError, match=r"'.*handle'.*name="):
        workflow.register("a", handle)
    workflow.register("a", handle, name="again")


# --- shapes ------------------------------------------------------------------------------


async def _generator(event):
    yield WorkflowEvent("out", event.data)


async def _generator_with_ctx(event, ctx):
    yield WorkflowEvent("out", event.data + ctx["base"] - 10)


async def _coroutine(event):
    return WorkflowEvent("out", event.data)


async def _coroutine_with_ctx(event, ctx):
    return WorkflowEvent("out", event.data + ctx["base"] - 10)


async def _coroutine_with_list(event):
    return [WorkflowEvent("out", event.data)]


async def _coroutine_that_emits(event, ctx):
    ctx.emit(WorkflowEvent("out", event.data))


def _function(event):
    return WorkflowEvent("out", event.data)


def _function_with_ctx(event, ctx):
    return WorkflowEvent("out", event.data + ctx["base"] - 10)


def _plain_generator(event, ctx):
    yield WorkflowEvent("out", event.data)


class _Method:
    async def handle(self, event, ctx):
        yield WorkflowEvent("out", event.data)


class _Callable:
    async def __call__(self, event, context):
        return WorkflowEvent("out", event.data)


async def _with_option(event, ctx, extra=None):
    return WorkflowEvent("out", event.data if extra is None else extra)


@pytest.mark.parametrize(
    "handler",
    [
        _generator,
        _generator_with_ctx,
        _coroutine,
        _coroutine_with_ctx,
        _coroutine_with_list,
        _coroutine_that_emits,
        _function,
        _function_with_ctx,
        _plain_generator,
        _Method().handle,
        _Callable(),
        _with_option,
        lambda event: WorkflowEvent("out", event.data),
    ],
)
async def test_every_shape_of_handler(make, handler):
    workflow = make(ctx={"base": 10}).register("in", handler)
    events = await collect(workflow.process(WorkflowEvent("in", 7)))
    assert [(event.name, event.data) for event in events] == [("in", 7), ("out", 7)]


def _nothing(): ...


def _three(event, ctx, more): ...


def _keyword(event, *, needed): ...


@pytest.mark.parametrize("handler", [_nothing, _three, _keyword])
def test_other_parameters_are_refused_when_registering(workflow, handler):
    with pytest.raises(HandlerSignatureError, match=r"\(event, ctx\)"):
        workflow.register("in", handler)


@pytest.mark.parametrize("handler", [None, "handler", 7])
def test_what_cannot_be_called_is_refused_when_registering(workflow, handler):
    with pytest.raises(HandlerSignatureError, match="not callable"):
        workflow.register("in", handler)


# --- the manager's ctx -------------------------------------------------------------------


async def test_a_mapping_in_first_place_is_the_shared_ctx(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow = WorkflowManager({"model": "small", "client": object()})
    seen = []

    async def handle(event, ctx):
        seen.append((ctx["model"], ctx.get("missing", "none"), "client" in ctx))
        ctx["model"] = "large"
        seen.append((ctx["model"], dict(ctx.state)))

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go")))
    assert seen == [("small", "none", True), ("large", {"model": "large"})]
    assert workflow.ctx["model"] == "small"
    assert (tmp_path / "flowstore.db").exists()
    await workflow.close()


def test_ctx_given_twice_is_refused():
    with pytest.raises(ConfigurationError, match="twice"):
        WorkflowManager({"a": 1}, ctx={"b": 2})


async def test_what_a_handler_writes_to_ctx_belongs_to_its_run(workflow):
    async def count(event, ctx):
        ctx["count"] = ctx.get("count", 0) + 1
        return WorkflowEvent("counted", ctx["count"])

    workflow.register("go", count)
    for run, expected in (("a", 1), ("a", 2), ("b", 1)):
        events = await collect(workflow.process(WorkflowEvent("go"), correlation_id=run))
        assert events[-1].data == expected
