"""Runs with tasks under way: what they are called, and what ends them."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import pytest
from task_handlers import GO, keeping, outcome, submitting
from watching import collect, drops, log, names, query

from flowstore import WorkflowEvent
from flowstore.errors import (
    StaleEventError,
    WaitTimeoutError,
)

# --- status, stopping and closing -------------------------------------------------------------


async def test_a_run_with_tasks_under_way_is_running(workflow, path):
    begun, free = asyncio.Event(), asyncio.Event()

    @workflow.task
    async def work():
        begun.set()
        await free.wait()

    submitting(workflow, work)
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await begun.wait()
        with pytest.raises(WaitTimeoutError):
            await workflow.run("r").wait(timeout=0.05)
        assert query(path, "SELECT status, owner FROM run") == [("working", None)]
        assert await workflow.run("r").status() == "running"
        [record] = await workflow.runs(status="running")
        assert record.correlation_id == "r"
        free.set()
        assert (await workflow.run("r").wait()).status == "idle"


@pytest.mark.parametrize("how", ["serve", "resume", "resume all", "attach", "process"])
async def test_what_had_not_ended_when_the_engine_stopped_is_started_anew(make, how):
    """G9: an async task is cancelled then; how it is taken up again does not matter."""
    begun, hanging, cancelled = asyncio.Event(), True, []

    def build(workflow):
        @workflow.task
        async def work(number):
            if hanging:
                begun.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    cancelled.append(number)
            return number

        keeping(workflow)
        submitting(workflow, (work, 1), (work, 2))
        return workflow

    first = build(make())
    async with first:
        await first.send(GO, correlation_id="r", id="first")
        await begun.wait()
    await first.close()
    assert sorted(cancelled) == [1, 2]
    hanging, second = False, build(make())
    if how == "serve":
        async with second:
            await second.run("r").wait()
    elif how.startswith("resume"):
        assert await second.resume("r" if how == "resume" else None) == ["r"]
    else:
        first_again = WorkflowEvent("go", id="first") if how == "attach" else WorkflowEvent("more")
        assert len(await collect(second.process(first_again, correlation_id="r"))) >= 3
    assert sorted((await second.run("r").state())["work"]) == [1, 2]
    ends = [name for _, name in await log(second, "r") if name == "task.completed"]
    assert len(ends) == 2
    causes = [e.causation_id async for e in second.run("r").events() if e.name == "task.completed"]
    assert causes == ["first", "first"]


async def test_a_new_event_loop_goes_on_with_the_tasks_of_an_older_one(path, make):
    begun, release = threading.Event(), threading.Event()

    def build(workflow):
        @workflow.task
        def work():
            begun.set()
            release.wait(30)
            return 1

        keeping(workflow)
        submitting(workflow, work)
        return workflow

    workflow = build(make())

    async def begin():
        async for _ in workflow.process(GO, correlation_id="r"):
            await asyncio.to_thread(begun.wait, 30)
            return

    await asyncio.to_thread(asyncio.run, begin())
    release.set()
    assert await workflow.resume("r") == ["r"]
    assert await workflow.run("r").state() == {"work": [1]}


async def test_a_task_that_is_not_registered_here_is_left_to_others(make, caplog):
    begun, hanging = asyncio.Event(), True

    def build(workflow, *, knows):
        @workflow.task(name="work" if knows else "other")
        async def work():
            begun.set()
            if hanging:
                await asyncio.get_running_loop().create_future()

        submitting(workflow, work)
        return workflow

    async with build(make(), knows=True) as first:
        await first.send(GO, correlation_id="r")
        await begun.wait()
    hanging = False
    await first.close()
    with caplog.at_level(logging.WARNING):
        async with build(make(), knows=False) as second:
            while "no task 'work' is registered" not in caplog.text:
                await second.send(WorkflowEvent("flush"))
            assert await second.run("r").status() == "running"
        await second.close()
    async with build(make(), knows=True) as third:
        assert (await third.run("r").wait()).status == "idle"


async def test_tasks_of_a_run_that_is_closed_are_cancelled_and_their_end_is_a_stale_drop(workflow):
    """G6, G7."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @workflow.task(max_concurrency=1)
    async def work():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    submitting(workflow, work, work)
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await begun.wait()
        await workflow.run("r").cancel("enough")
        await cancelled.wait()
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert sorted(await drops(workflow, "r")) == [
        ("1/go/t1/end", "stale"),
        ("1/go/t2/end", "stale"),
    ]
    assert await workflow.run("r").status() == "cancelled"
    with pytest.raises(StaleEventError):
        await outcome(workflow)


@pytest.mark.parametrize("how", ["serve", "process"])
async def test_another_process_may_close_the_run(make, how):
    begun, cancelled = asyncio.Event(), asyncio.Event()
    workflow, other = make(), make()

    @workflow.task
    async def work():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    submitting(workflow, work)
    async with contextlib.AsyncExitStack() as stack:
        if how == "serve":
            await stack.enter_async_context(workflow)
        processing = asyncio.create_task(names(workflow.process(GO, correlation_id="r")))
        await begun.wait()
        await other.run("r").cancel()
        await cancelled.wait()
        assert await processing == ["go"]
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert await drops(workflow, "r") == [("1/go/t1/end", "stale")]


async def test_a_handler_that_completes_the_run_ends_its_tasks(workflow):
    started = []

    @workflow.task
    async def work():
        started.append(1)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.submit(work)
        ctx.complete()

    async with workflow:
        await outcome(workflow)
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert started == []
    assert await drops(workflow, "r") == [("1/go/t1/end", "stale")]


async def test_two_processes_share_tasks_without_disturbing_each_other(make):
    """G8: what a live worker is at is left to it."""
    begun, free, started = asyncio.Event(), asyncio.Event(), []

    def build(workflow, name):
        @workflow.task(name="work")
        async def work():
            started.append(name)
            begun.set()
            await free.wait()
            return name

        keeping(workflow)
        submitting(workflow, work)
        return workflow

    one, two = build(make(), "one"), build(make(), "two")
    async with one:
        await one.send(GO, correlation_id="r")
        await begun.wait()
        async with two:
            await two.send(WorkflowEvent("flush"))
            resuming = asyncio.create_task(two.resume("r"))
            await two.send(WorkflowEvent("flush"))
            free.set()
            await resuming
            assert await two.run("r").state() == {"work": ["one"]}
    assert started == ["one"]
