"""A program written for microflow runs with one import changed."""

# ruff: noqa: ARG001, ARG002 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
from programs import environment
from watching import collect, log, names, transitions

from flowstore import Context, WorkflowEvent, WorkflowManager
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


# --- process -----------------------------------------------------------------------------


async def test_the_first_event_comes_first_then_what_follows_from_it(workflow):
    async def first(event, ctx: Context):
        yield WorkflowEvent.progress("one", "at it")
        yield WorkflowEvent("second", {"n": 2})

    async def second(event, ctx: Context):
        yield WorkflowEvent("done", {"n": event.data["n"] + 1})

    workflow.register("first", first).register("second", second)
    events = await collect(workflow.process(WorkflowEvent("first", {"n": 1})))
    assert [event.name for event in events] == ["first", "progress", "second", "done"]
    assert [event.position for event in events] == [1, 2, 3, 4]
    assert events[-1].data == {"n": 3}
    assert len({event.correlation_id for event in events}) == 1
    assert events[3].causation_id == events[2].id
    assert events[2].causation_id == events[1].causation_id == events[0].id


async def test_progress_is_shown_while_its_handler_is_still_at_work(workflow):
    may_end = asyncio.Event()

    async def slow(event):
        yield WorkflowEvent.progress("wait", "waiting")
        await may_end.wait()
        yield WorkflowEvent("done")

    workflow.register("go", slow)
    seen = []
    async for event in workflow.process(WorkflowEvent("go")):
        seen.append(event.name)
        if event.name == "progress":
            may_end.set()
    assert seen == ["go", "progress", "done"]


async def test_progress_and_error_are_dispatched_only_if_someone_registered(workflow):
    seen = []

    async def handle(event):
        yield WorkflowEvent.progress("one", "at it")
        yield WorkflowEvent("odd", error="it is odd")

    async def watch(event):
        seen.append((event.name, event.error))

    workflow.register("go", handle)
    run = workflow.run("quiet")
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="quiet"))
    assert await run.status() == "idle"
    assert [row[1] for row in await transitions(workflow, "quiet")] == ["handle"]

    workflow.register("progress", watch).register("odd", watch)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="watched"))
    assert seen == [("progress", None), ("odd", "it is odd")]


async def test_an_exception_becomes_an_error_event_of_the_failing_event(workflow, caplog):
    async def fail(event):
        yield WorkflowEvent("never sent")
        raise ValueError("no such document")

    workflow.register("go", fail)
    sent = WorkflowEvent("go", {"doc": 4}, {"user": "ada"}, id="go-1")
    events = await collect(workflow.process(sent))
    assert [event.name for event in events] == ["go", "error"]
    error = events[1]
    assert error.error == "no such document"
    assert error.metadata == {"user": "ada"}
    assert error.data == {
        "event": "go",
        "event_id": "go-1",
        "position": 1,
        "handler": "fail",
        "exception": "ValueError",
    }
    assert any("no such document" in record.getMessage() for record in caplog.records)


async def test_an_exception_stops_its_handler_and_no_other(workflow, caplog):
    async def fail(event):
        raise ValueError("first")

    async def go_on(event):
        return WorkflowEvent("went on")

    workflow.register("go", fail).register("go", go_on)
    assert sorted(await names(workflow.process(WorkflowEvent("go")))) == [
        "error",
        "go",
        "went on",
    ]


async def test_an_event_with_an_error_ends_the_handler_that_yields_it(workflow):
    reached = []

    async def stop(event):
        yield WorkflowEvent("bad", error="enough")
        reached.append("after the error")
        yield WorkflowEvent("never")

    def stop_plain(event):
        yield WorkflowEvent("bad too", error="enough")
        reached.append("after the error")
        yield WorkflowEvent("never")

    async def other(event):
        yield WorkflowEvent("other")

    workflow.register("go", stop).register("go", stop_plain).register("go", other)
    assert await names(workflow.process(WorkflowEvent("go"))) == ["go", "bad", "bad too", "other"]
    assert reached == []


async def test_a_generator_that_is_ended_early_cleans_up(workflow):
    cleaned = []

    async def stop(event):
        try:
            yield WorkflowEvent("bad", error="enough")
        finally:
            cleaned.append("async")

    def stop_plain(event):
        try:
            yield WorkflowEvent("bad", error="enough")
        finally:
            cleaned.append("plain")

    workflow.register("go", stop).register("go", stop_plain)
    await collect(workflow.process(WorkflowEvent("go")))
    assert cleaned == ["async", "plain"]


async def test_an_event_without_handlers_is_logged_and_passed_on(workflow, caplog):
    """G7: it can be looked up as well."""
    caplog.set_level(logging.DEBUG, "flowstore")
    events = await collect(
        workflow.process(WorkflowEvent("nobody's", {"a": 1}), correlation_id="r")
    )
    assert [(event.name, event.data) for event in events] == [("nobody's", {"a": 1})]
    assert any("nobody's" in record.getMessage() for record in caplog.records)
    (found,) = await (await workflow._runtime.reader()).list_unhandled("r")
    assert (found[0], found[1].name) == ("r", "nobody's")
    assert await workflow.run("r").status() == "idle"


async def test_process_can_be_called_again_each_time_on_a_new_run(workflow):
    async def handle(event):
        return WorkflowEvent("done")

    workflow.register("go", handle)
    first = await collect(workflow.process(WorkflowEvent("go")))
    second = await collect(workflow.process(WorkflowEvent("go")))
    assert [event.name for event in first] == [event.name for event in second] == ["go", "done"]
    assert first[0].correlation_id != second[0].correlation_id


async def test_one_event_object_can_be_processed_twice(workflow):
    event = WorkflowEvent("go", {"list": [1]})
    await collect(workflow.process(event))
    await collect(workflow.process(event))
    assert len(await workflow.runs()) == 2
    assert event == WorkflowEvent("go", {"list": [1]})
    assert event.id is None


async def test_breaking_out_early_leaves_a_run_that_goes_on(workflow):
    may_go_on = asyncio.Event()

    async def handle(event):
        yield WorkflowEvent.progress("one", "at it")
        await may_go_on.wait()
        yield WorkflowEvent("done")

    workflow.register("go", handle)
    async for event in workflow.process(WorkflowEvent("go"), correlation_id="r"):
        if event.name == "progress":
            break
    may_go_on.set()
    await workflow.run("r").wait()
    assert await log(workflow, "r") == [(1, "go"), (2, "progress"), (3, "done")]


async def test_closing_the_iterator_early_leaves_no_watcher(workflow):
    async def handle(event):
        yield WorkflowEvent("done")

    workflow.register("go", handle)
    events = workflow.process(WorkflowEvent("go"), correlation_id="r")
    assert (await anext(events)).name == "go"
    await events.aclose()
    await workflow.run("r").wait()
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go", "done"]


async def test_many_process_calls_at_once_each_on_its_run(workflow):
    async def handle(event, ctx):
        ctx["n"] = event.data
        yield WorkflowEvent("half", event.data)

    async def half(event, ctx):
        yield WorkflowEvent("done", ctx["n"] * 2)

    workflow.register("go", handle).register("half", half)

    async def one(number):
        return await collect(workflow.process(WorkflowEvent("go", number)))

    results = await asyncio.gather(*map(one, range(40)))
    for number, events in enumerate(results):
        assert [event.name for event in events] == ["go", "half", "done"]
        assert events[-1].data == number * 2


async def test_many_process_calls_at_once_on_one_run(workflow):
    """G4: one event at a time, in order; each caller sees the log from its own event on."""
    at_work = 0

    async def handle(event, ctx):
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        ctx["seen"] = [*ctx.get("seen", []), event.data]
        at_work -= 1
        yield WorkflowEvent("done", event.data)

    workflow.register("go", handle)

    async def one(number):
        return await collect(workflow.process(WorkflowEvent("go", number), correlation_id="r"))

    results = await asyncio.gather(*map(one, range(12)))
    whole = await log(workflow, "r")
    assert [position for position, _ in whole] == list(range(1, 25))
    for number, events in enumerate(results):
        assert events[0].data == number
        positions = [event.position for event in events]
        assert positions == list(range(positions[0], positions[-1] + 1))
        assert ("done", number) in [(event.name, event.data) for event in events]
    assert sorted((await workflow.run("r").state())["seen"]) == list(range(12))


# --- programs ----------------------------------------------------------------------------


def test_one_manager_of_a_module_through_two_event_loops(path):
    workflow = WorkflowManager(path)

    async def handle(event, ctx):
        ctx["n"] = ctx.get("n", 0) + 1
        yield WorkflowEvent("done", ctx["n"])

    workflow.register("go", handle)

    async def main():
        return await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))

    assert [asyncio.run(main())[-1].data for _ in range(3)] == [1, 2, 3]
    asyncio.run(workflow.close())


def _run(folder: Any, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_SCRIPT = """
import asyncio
from flowstore import WorkflowEvent, WorkflowManager

workflow = WorkflowManager({"units": "metric"})

async def handle(event, ctx):
    yield WorkflowEvent.progress("one", ctx["units"])
    yield WorkflowEvent("done", {"n": 1})

workflow.register("go", handle)

async def main():
    async for event in workflow.process(WorkflowEvent("go")):
        print(event.name)
        EARLY

asyncio.run(main())
print("end")
"""


def test_a_script_that_closes_nothing_ends_normally(tmp_path):
    done = _run(tmp_path, _SCRIPT.replace("EARLY", ""))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["go", "progress", "done", "end"]


def test_a_script_that_breaks_out_early_ends_normally_and_can_be_resumed(tmp_path):
    done = _run(tmp_path, _SCRIPT.replace("EARLY", "break"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["go", "end"]
    program = _SCRIPT.replace("EARLY", "").replace(
        'async for event in workflow.process(WorkflowEvent("go")):\n        print(event.name)',
        "print(len(await workflow.resume()) <= 1, [r.status for r in await workflow.runs()])",
    )
    done = _run(tmp_path, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True ['idle']", "end"]


def test_a_script_that_raises_ends_with_its_own_error(tmp_path):
    done = _run(tmp_path, _SCRIPT.replace("EARLY", "raise SystemExit(3)"))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
