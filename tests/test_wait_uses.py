"""Where and how one can wait: side by side, in what kinds of handlers, across processes (G9)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from parking import builder, parked, path_of, send, state
from watching import drops, query

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import ConfigurationError, EventTypeError
from flowstore.testing import crash


@pytest.fixture
def script(make, clock):
    return builder(make, clock)


# --- the run is closed ------------------------------------------------------------------


async def test_closing_the_run_ends_its_waits(script, clock):
    async def handler(event, ctx):
        await ctx.wait_for("x", timeout=60)

    workflow = script(handler)

    @workflow.on("finish")
    async def finish(event, ctx):
        ctx.complete("done")

    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "finish") == "completed"
        await send(workflow, "go", run="s")
        await workflow.run("s").cancel("no longer wanted")
        assert parked(workflow) == []
        assert query(path_of(workflow), "SELECT count(*) FROM timer") == [(0,)]
        await clock.advance(3600)
        receipt = await workflow.send(WorkflowEvent("x"), correlation_id="r", id="x")
    assert receipt.status == "stale"
    assert await drops(workflow, "r") == [("x", "stale")]


async def test_a_handler_completes_its_run_behind_the_wait_but_not_before(script):
    errors = []

    async def handler(event, ctx):
        if event.data == "before":
            ctx.complete()
            with pytest.raises(ConfigurationError) as caught:
                await ctx.wait_for("x")
            errors.append(str(caught.value))
        else:
            ctx.complete((await ctx.wait_for("x")).data)

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "waiting"
        assert await send(workflow, "x", 5) == "completed"
        assert await send(workflow, "go", "before", run="s") == "completed"
    assert (await workflow.run("r").info()).result == "5"
    assert errors == ["ctx.wait_for: the run is completed; nothing comes any more"]


# --- side by side, and in what handlers --------------------------------------------------


async def test_waits_that_are_gathered_come_one_after_another(script):
    async def handler(event, ctx):
        names = "aab"
        found = await asyncio.gather(*(ctx.wait_for(name) for name in names))
        ctx.state["found"] = [each.data for each in found]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        for name, data in (("b", 1), ("a", 2)):
            assert await send(workflow, name, data) == "waiting"
        assert await send(workflow, "a", 3) == "idle"
    assert await state(workflow) == {"found": [2, 3, 1]}


async def test_a_task_group_of_waits(script):
    async def handler(event, ctx):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.wait_for(name)) for name in "ab"]
        ctx.state["found"] = [task.result().data for task in tasks]

    workflow = script(handler)
    async with workflow:
        await send(workflow, "go")
        assert await send(workflow, "b", 1) == "waiting"
        assert await send(workflow, "a", 2) == "idle"
    assert await state(workflow) == {"found": [2, 1]}


async def inside_a_step(ctx):
    await ctx.step("wait", lambda: ctx.wait_for("x"))


async def beside_a_step(ctx):
    await asyncio.gather(ctx.step("slow", asyncio.sleep, 0.01), ctx.wait_for("x"))


async def after_a_postponement(ctx):
    ctx.postpone("x")
    await ctx.wait_for("x")


async def in_a_thread(ctx):
    await asyncio.to_thread(lambda: asyncio.run(ctx.wait_for("x")))


async def with_a_wrong_where(ctx):
    await ctx.wait_for("x", where="by=alex")


async def with_a_wrong_timeout(ctx):
    await ctx.wait_for("x", timeout=-1)


async def without_a_name(ctx):
    await ctx.wait_for("")


@pytest.mark.parametrize(
    "use",
    [
        inside_a_step,
        beside_a_step,
        after_a_postponement,
        in_a_thread,
        with_a_wrong_where,
        with_a_wrong_timeout,
        without_a_name,
    ],
)
async def test_waits_that_make_no_sense_are_refused(script, use):
    errors = []

    async def handler(event, ctx):
        try:
            await use(ctx)
        except ConfigurationError as error:
            errors.append(error)
            raise

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "failed"
    assert len(errors) == 1
    assert parked(workflow) == []


async def test_only_classes_of_events_can_be_waited_for(script):
    async def handler(event, ctx):
        with pytest.raises(EventTypeError):
            await ctx.wait_for(int)

    workflow = script(handler)
    async with workflow:
        assert await send(workflow, "go") == "idle"


# --- processes --------------------------------------------------------------------------


async def two_waits(event, ctx):
    ctx.state["steps"] = [await ctx.step("a", lambda: 1)]
    first = await ctx.wait_for("x")
    ctx.state["steps"].append(await ctx.step("a", lambda: 2))
    second = await ctx.wait_for("x", timeout=3600)
    ctx.state["found"] = [first.data, second.data]


@pytest.mark.parametrize("ending", ["close", "crash"])
async def test_the_process_may_end_between_any_two_events(make, clock, ending):
    """G9: each event is handled by another process."""
    build = builder(make, clock)
    for number, name in enumerate(("go", "x", "note", "x")):
        workflow = build(two_waits)
        async with workflow:
            status = await send(workflow, name, number)
            if ending == "crash":
                await crash(workflow)
        await workflow.close()
        assert status == ("idle" if number == 3 else "waiting")
    workflow = build(two_waits)
    assert await state(workflow) == {"steps": [1, 2], "found": [1, 3], "count": 1}
    assert await drops(workflow, "r") == []


async def test_what_one_process_sends_wakes_what_another_has_parked(path):
    """Two workers serve one file; whoever takes the run goes on with it."""
    workflow, other = WorkflowManager(path), WorkflowManager(path)
    for each in (workflow, other):
        each.register("go", two_waits, name="h")
    async with workflow, other:
        for number in range(10):
            name = f"r{number}"
            await send((workflow, other)[number % 2], "go", run=name)
            await send((workflow, other)[(number + 1) % 2], "x", 1, run=name)
            assert await send((workflow, other)[number // 2 % 2], "x", 2, run=name) == "idle"
            assert (await state(workflow, name))["found"] == [1, 2]
    await workflow.close()
    await other.close()
