"""Service mode, many runs at once, resuming, and several managers on one file."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from watching import collect, log, names, query, transitions

from flowstore import WorkflowEvent
from flowstore.engine.states import MOST_LIVE
from flowstore.errors import ConfigurationError, InvalidValueError


async def _count(event, ctx):
    ctx["n"] = ctx.get("n", 0) + 1


@dataclass
class Counted:
    n: int = 0


async def _add(event, ctx):
    ctx["n"] = _of(ctx.state) + 1


def _of(state):
    return state.n if isinstance(state, Counted) else state.get("n", 0)


# --- service mode --------------------------------------------------------------------------


async def test_service_mode_resumes_what_is_pending_then_serves(make):
    sender = make()
    for number in range(10):
        await sender.send(WorkflowEvent("go"), correlation_id=f"r{number}")
    workflow = make().register("go", _count)
    async with workflow as same:
        assert same is workflow
        for number in range(10):
            assert (await workflow.run(f"r{number}").wait()).status == "idle"
        await workflow.send(WorkflowEvent("go"), correlation_id="new")
        assert (await workflow.run("new").wait()).status == "idle"


async def test_service_mode_handles_what_another_manager_sends(make):
    """The notice comes from the file."""
    handled = asyncio.Event()

    async def handle(event):
        handled.set()

    sender, workflow = make(), make().register("go", handle)
    async with workflow:
        await sender.send(WorkflowEvent("go"), correlation_id="r")
        async with asyncio.timeout(20):
            await handled.wait()
            assert (await workflow.run("r").wait()).status == "idle"


@pytest.mark.parametrize("state", [dict, Counted])
async def test_more_runs_than_states_are_kept_in_memory(make, state):
    """G3: what was put away, packed or forgotten, goes on where it was."""
    workflow = make(state=state).register("go", _add)
    runs = 2 * MOST_LIVE + 10
    async with workflow:
        for _ in range(3):
            await workflow.send_many(
                [WorkflowEvent("go", correlation_id=f"r{number}") for number in range(runs)]
            )
            for number in range(0, runs, 200):
                await workflow.run(f"r{number}").wait()
    await workflow.resume()
    counts = [_of(state) async for _, state in workflow.states()]
    assert counts == [3] * runs


async def test_send_alone_handles_nothing(workflow):
    workflow.register("go", _count)
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    assert await workflow.run("r").status() == "running"
    await workflow.close()
    assert await transitions(workflow, "r") == []


async def test_leaving_service_mode_finishes_the_event_at_hand_and_keeps_the_rest(make):
    reached, may_end = asyncio.Event(), asyncio.Event()

    async def handle(event, ctx):
        ctx["seen"] = [*ctx.get("seen", []), event.data]
        reached.set()
        await may_end.wait()

    workflow = make().register("go", handle)
    for number in range(3):
        await workflow.send(WorkflowEvent("go", number), correlation_id="r")
    async with workflow:
        await reached.wait()
        asyncio.get_running_loop().call_soon(may_end.set)
    info = await workflow.run("r").info()
    assert (info.status, info.cursor, info.head, info.owner) == ("running", 1, 3, None)
    assert await make().register("go", handle).resume() == ["r"]
    assert await workflow.run("r").state() == {"seen": [0, 1, 2]}


async def test_leaving_service_mode_stops_a_handler_that_takes_longer_than_the_grace(make):
    """G3: what it did not commit is done again."""
    reached, calls = asyncio.Event(), []

    async def handle(event, ctx):
        calls.append(1)
        ctx["n"] = ctx.get("n", 0) + 1
        reached.set()
        if len(calls) == 1:
            await asyncio.Event().wait()

    workflow = make(grace=0.0).register("go", handle)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
    assert await make().register("go", handle).resume() == ["r"]
    assert len(calls) == 2
    assert await workflow.run("r").state() == {"n": 1}


async def test_a_manager_can_serve_again_after_it_has_served(workflow):
    workflow.register("go", _count)
    for expected in (1, 2):
        async with workflow:
            await workflow.send(WorkflowEvent("go"), correlation_id="r")
            await workflow.run("r").wait()
        assert await workflow.run("r").state() == {"n": expected}


async def test_serving_twice_at_once_is_refused(workflow):
    async with workflow:
        with pytest.raises(ConfigurationError, match="served already"):
            await workflow.__aenter__()
        # The refusal leaves the one who serves at work.
        workflow.register("go", _count)
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait()


async def test_process_while_serving(workflow):
    async def go(event):
        return WorkflowEvent("done")

    workflow.register("go", go)
    async with workflow:
        assert await names(workflow.process(WorkflowEvent("go"))) == ["go", "done"]


async def test_an_error_within_the_block_is_not_hidden(workflow):
    async def fail():
        async with workflow:
            await workflow.send(WorkflowEvent("go"), correlation_id="r")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await log(workflow, "r") == [(1, "go")]


# --- concurrency (G4) ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
async def test_no_more_runs_at_a_time_than_the_limit(make, limit):
    at_work, most = 0, 0

    async def handle(event):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(5):
            await asyncio.sleep(0)
        at_work -= 1

    workflow = make(concurrency=limit).register("go", handle)
    async with workflow:
        await workflow.send_many([WorkflowEvent("go", correlation_id=f"r{n}") for n in range(20)])
        for number in range(20):
            await workflow.run(f"r{number}").wait()
    assert most == limit


async def test_runs_do_not_wait_for_one_another(workflow):
    """G4: one handler is stuck, the others go on."""
    stuck, may_end = asyncio.Event(), asyncio.Event()

    async def block(event):
        stuck.set()
        await may_end.wait()

    workflow.register("block", block).register("go", _count)
    async with workflow:
        await workflow.send(WorkflowEvent("block"), correlation_id="stuck")
        await workflow.send(WorkflowEvent("go"), correlation_id="stuck")
        await stuck.wait()
        for number in range(20):
            await workflow.send(WorkflowEvent("go"), correlation_id=f"r{number}")
            await workflow.run(f"r{number}").wait()
        assert await workflow.run("stuck").status() == "running"
        assert await workflow.run("stuck").state() == {}
        may_end.set()
        await workflow.run("stuck").wait()
    assert await workflow.run("stuck").state() == {"n": 1}


async def test_events_of_a_run_are_handled_in_the_order_in_which_they_came(workflow):
    """G4: also those of its handlers, behind what was there before."""
    order = []

    async def handle(event):
        order.append((event.position, event.name))
        if event.name == "a" and event.position < 3:
            return WorkflowEvent("b")
        return None

    workflow.register("a", handle, name="a").register("b", handle, name="b")
    for _ in range(3):
        await workflow.send(WorkflowEvent("a"), correlation_id="r")
    await workflow.resume()
    assert order == [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b")]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_concurrency_that_makes_no_sense_is_refused(make, limit):
    with pytest.raises(ConfigurationError, match=f"concurrency={limit}"):
        make(concurrency=limit)


# --- resume --------------------------------------------------------------------------------


async def test_resume_goes_on_with_every_interrupted_run_and_says_which(make):
    sender = make()
    for run in ("a", "b", "c"):
        await sender.send(WorkflowEvent("go"), correlation_id=run)
    workflow = make().register("go", _count)
    assert await workflow.resume("b") == ["b"]
    assert await workflow.run("a").status() == "running"
    assert sorted(await workflow.resume()) == ["a", "c"]
    assert await workflow.resume() == []
    assert await workflow.resume("a") == []


async def test_resume_leaves_alone_what_a_live_worker_has(make):
    """G8."""
    reached, may_end, calls = asyncio.Event(), asyncio.Event(), []

    async def handle(event):
        calls.append(1)
        reached.set()
        await may_end.wait()

    here, there = make().register("go", handle), make().register("go", handle)
    async with here:
        await here.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
        assert await there.resume() == []
        may_end.set()
        await here.run("r").wait()
    assert calls == [1]


async def test_two_workers_share_the_runs_and_do_none_twice(make, path):
    """G8, G3."""
    here, there = make().register("go", _count), make().register("go", _count)
    async with here, there:
        await here.send_many([WorkflowEvent("go", correlation_id=f"h{n}") for n in range(50)])
        await there.send_many([WorkflowEvent("go", correlation_id=f"t{n}") for n in range(50)])
        for number in range(50):
            await here.run(f"t{number}").wait()
            await there.run(f"h{number}").wait()
    assert query(path, "SELECT count(*), count(DISTINCT run_id) FROM transition") == [(100, 100)]
    assert query(path, 'SELECT count(*) FROM "drop"') == [(0,)]


async def test_a_worker_takes_over_from_one_that_left(make):
    """G9."""
    reached, calls = asyncio.Event(), []

    async def handle(event, ctx):
        calls.append(1)
        reached.set()
        if len(calls) == 1:
            await asyncio.Event().wait()

    here, there = make(grace=0.0).register("go", handle), make().register("go", handle)
    async with there:
        await here.__aenter__()
        await here.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
        await here.__aexit__(None, None, None)
        assert (await there.run("r").wait()).status == "idle"


async def test_workflows_of_other_names_are_left_alone(make):
    orders, mails = make(name="orders"), make(name="mails")
    mails.register("go", _count)
    await orders.send(WorkflowEvent("go"), correlation_id="o")
    await mails.send(WorkflowEvent("go"), correlation_id="m")
    assert await mails.resume() == ["m"]
    assert await orders.run("o").status() == "running"
    assert [run.correlation_id for run in await orders.runs()] == ["o"]
    assert [run.correlation_id for run in await mails.runs()] == ["m"]


async def test_a_run_that_belongs_to_another_workflow_is_not_handled_here(make, path):
    """It is refused at once: no one would ever come to handle it."""
    orders, mails = make(name="orders").register("go", _count), make(name="mails")
    mails.register("go", _count)
    await orders.send(WorkflowEvent("go"), correlation_id="o")
    async with asyncio.timeout(20):
        with pytest.raises(ConfigurationError, match=r"'o'.*'orders'.*'mails'"):
            await collect(mails.process(WorkflowEvent("go"), correlation_id="o"))
        with pytest.raises(ConfigurationError, match=r"'o'.*'orders'.*'mails'"):
            await mails.resume("o")
    assert query(path, "SELECT count(*) FROM event") == [(1,)]
    assert await orders.resume("o") == ["o"]


@pytest.mark.parametrize("name", ["", 7, None, "a\0b", "x" * 1000])
def test_a_workflow_needs_a_proper_name(make, name):
    with pytest.raises(InvalidValueError, match="name"):
        make(name=name)
