"""`process` as microflow has it: what it shows, in which order, and programs that use it."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

from programs import environment
from watching import collect, log, names, transitions

from flowstore import Context, WorkflowEvent, WorkflowManager

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
