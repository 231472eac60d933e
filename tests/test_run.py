"""A run from outside: its events, state, status; waiting for it and cancelling it."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import hashlib

import pytest
from watching import collect, drops, log, names, query, transitions

from flowstore import WorkflowEvent
from flowstore.errors import InvalidValueError, RunNotFoundError, WaitTimeoutError


@pytest.fixture
def summing(workflow):
    async def add(event, ctx):
        ctx["sum"] = ctx.get("sum", 0) + event.data
        return WorkflowEvent("sum", ctx["sum"])

    return workflow.register("add", add)


async def add(workflow, run, *numbers):
    for number in numbers:
        await collect(workflow.process(WorkflowEvent("add", number), correlation_id=run))


# --- events ------------------------------------------------------------------------------


async def test_events_are_read_from_any_position(summing):
    await add(summing, "r", 1, 2)
    run = summing.run("r")
    assert await names(run.events()) == ["add", "sum", "add", "sum"]
    assert [(e.position, e.data) for e in await collect(run.events(after=2))] == [(3, 2), (4, 3)]
    assert await collect(run.events(after=4)) == []
    assert await collect(run.events(after=99)) == []


async def test_following_a_settled_run_ends_at_once(summing):
    await add(summing, "r", 1)
    assert await names(summing.run("r").events(follow=True)) == ["add", "sum"]
    assert await collect(summing.run("r").events(after=2, follow=True)) == []


async def test_more_events_than_a_page_holds(workflow):
    events = [WorkflowEvent("note", n, correlation_id="r") for n in range(1203)]
    await workflow.send_many(events)
    assert [e.data for e in await collect(workflow.run("r").events())] == list(range(1203))


async def test_following_from_another_manager_on_the_same_file(make):
    """Each event once, in order, while it happens elsewhere."""
    may_go_on = asyncio.Event()

    async def handle(event):
        yield WorkflowEvent.progress("one", "at it")
        await may_go_on.wait()
        yield WorkflowEvent("done")

    here, there = make().register("go", handle), make()
    await here.send(WorkflowEvent("go"), correlation_id="r")
    seen = []

    async def follow():
        async for event in there.run("r").events(follow=True):
            seen.append((event.position, event.name))
            if event.name == "progress":
                may_go_on.set()

    following = asyncio.create_task(follow())
    async with here:
        await following
    assert seen == [(1, "go"), (2, "progress"), (3, "done")]


async def test_several_follow_one_run_and_one_of_them_leaves(workflow):
    may_go_on = asyncio.Event()

    async def handle(event):
        yield WorkflowEvent.progress("one", "at it")
        await may_go_on.wait()
        yield WorkflowEvent("done")

    workflow.register("go", handle)
    await workflow.send(WorkflowEvent("go"), correlation_id="r")

    async def leave_early():
        events = workflow.run("r").events(follow=True)
        async for event in events:
            if event.name == "progress":
                await events.aclose()
                may_go_on.set()

    async with workflow:
        stay = asyncio.create_task(names(workflow.run("r").events(follow=True)))
        await leave_early()
        assert await stay == ["go", "progress", "done"]


async def test_a_run_that_does_not_exist(summing):
    await add(summing, "r", 1)
    run = summing.run("none")
    for action in (run.status, run.info, run.state, run.wait, run.cancel):
        with pytest.raises(RunNotFoundError, match=r"'none'.*flowstore runs"):
            await action()
    for follow in (False, True):
        with pytest.raises(RunNotFoundError, match="'none'"):
            await collect(run.events(follow=follow))
    with pytest.raises(RunNotFoundError, match="'none'"):
        await summing.resume("none")
    assert len(await summing.runs()) == 1


@pytest.mark.parametrize("name", ["", 7, None, "x" * 1000, "a\0b", "\ud800"])
def test_a_run_needs_a_proper_id(workflow, name):
    with pytest.raises(InvalidValueError, match="correlation_id"):
        workflow.run(name)


# --- state -------------------------------------------------------------------------------


async def test_the_state_at_every_position(summing):
    await add(summing, "r", 5, 7, 1)
    run = summing.run("r")
    states = [await run.state(at=position) for position in range(7)]
    assert states == [
        {},
        {"sum": 5},
        {"sum": 5},
        {"sum": 12},
        {"sum": 12},
        {"sum": 13},
        {"sum": 13},
    ]
    assert await run.state() == {"sum": 13}


async def test_the_state_at_every_position_of_a_long_run(workflow):
    """Through many snapshots: time travel is exact."""

    async def note(event, ctx):
        ctx.setdefault("notes", []).append(event.data)
        ctx["last"] = event.data

    workflow.register("note", note)
    notes = [f"{n} " + "x" * 400 for n in range(150)]
    await workflow.send_many([WorkflowEvent("note", n, correlation_id="r") for n in notes])
    await workflow.resume()
    for position in (0, 1, 2, 40, 41, 75, 99, 149, 150):
        state = await workflow.run("r").state(at=position)
        assert state.get("notes", []) == notes[:position]
    assert query(workflow._runtime.url.path, "SELECT count(*) > 1 FROM snapshot") == [(1,)]


@pytest.mark.parametrize("position", [-1, 3, 99, "1", 1.0, True])
async def test_a_position_that_there_is_not(summing, position):
    await add(summing, "r", 5)
    with pytest.raises(InvalidValueError, match=r"at: .*0 to 2"):
        await summing.run("r").state(at=position)


async def test_changing_what_was_read_changes_nothing(summing):
    await add(summing, "r", 5)
    state = await summing.run("r").state()
    state["sum"] = 99
    await add(summing, "r", 1)
    assert await summing.run("r").state() == {"sum": 6}


async def test_looking_writes_nothing(summing, make, path):
    """G12."""
    await add(summing, "r", 5, 6)
    await summing.close()
    before = _content(path)
    looking = make()
    run = looking.run("r")
    await run.status()
    await run.info()
    await run.state()
    await run.state(at=1)
    await collect(run.events())
    await looking.runs()
    await transitions(looking, "r")
    await drops(looking, "r")
    await (await looking._runtime.reader()).list_dead()
    await (await looking._runtime.reader()).list_unhandled()
    await looking.close()
    assert _content(path) == before


async def test_writing_writes_something(summing, make, path):
    """The control to the one above."""
    await add(summing, "r", 5)
    await summing.close()
    before = _content(path)
    other = make()
    await other.send(WorkflowEvent("note"), correlation_id="r")
    await other.close()
    assert _content(path) != before


def _content(path):
    # Only while no manager has the file open: see the locks that closing a file drops.
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- wait ----------------------------------------------------------------------------------


async def test_wait_returns_when_the_run_has_settled(workflow):
    may_end = asyncio.Event()

    async def handle(event, ctx):
        await may_end.wait()
        ctx.complete("done")

    workflow.register("go", handle)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        waiting = [asyncio.create_task(workflow.run("r").wait()) for _ in range(3)]
        may_end.set()
        assert [(await each).status for each in waiting] == ["completed"] * 3
    assert (await workflow.run("r").wait()).result == '"done"'


async def test_wait_from_another_manager(make):
    async def handle(event): ...

    here, there = make().register("go", handle), make()
    await here.send(WorkflowEvent("go"), correlation_id="r")
    waiting = asyncio.create_task(there.run("r").wait())
    async with here:
        assert (await waiting).status == "idle"


async def test_wait_gives_up_and_says_what_it_waited_for(workflow):
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    with pytest.raises(WaitTimeoutError, match=r"'r'.*1 events? .*no worker.*workflow\.process"):
        await workflow.run("r").wait(timeout=0.01)
    with pytest.raises(TimeoutError):
        await workflow.run("r").wait(timeout=0)


async def test_wait_for_a_settled_run_returns_at_once_whatever_the_timeout(summing):
    await add(summing, "r", 1)
    assert (await summing.run("r").wait(timeout=0)).status == "idle"


# --- cancel --------------------------------------------------------------------------------


async def test_cancel_stops_the_handler_at_work_and_keeps_nothing_of_it(workflow):
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def handle(event, ctx):
        ctx["left behind"] = True
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    workflow.register("go", handle)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r", id="go-1")
        await workflow.send(WorkflowEvent("go"), correlation_id="r", id="go-2")
        await reached.wait()
        record = await workflow.run("r").cancel("changed my mind")
        await stopped.wait()
    assert (record.status, record.reason) == ("cancelled", "changed my mind")
    assert await workflow.run("r").state() == {}
    assert await transitions(workflow, "r") == []
    # G6, G7: what was pending has its verdict.
    assert await drops(workflow, "r") == [("go-1", "stale"), ("go-2", "stale")]
    assert (await workflow.run("r").send(WorkflowEvent("go"))).status == "stale"


async def test_cancel_from_another_manager(make):
    """G8: the worker's commit is refused, and it notices by itself."""
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def handle(event):
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    here, there = make().register("go", handle), make()
    async with here:
        await here.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
        assert (await there.run("r").cancel()).status == "cancelled"
        await stopped.wait()


async def test_a_handler_that_does_not_heed_cancellation_cannot_commit(make, path):
    """G8, G7: the lost lease is recorded."""
    reached, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(event, ctx):
        reached.set()
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue
        ctx["late"] = True
        ended.set()

    here, there = make().register("go", handle), make()
    async with here:
        await here.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
        await there.run("r").cancel()
        may_end.set()
        await ended.wait()
    assert await there.run("r").status() == "cancelled"
    assert await there.run("r").state() == {}
    assert query(path, "SELECT count(*) FROM transition") == [(0,)]


async def test_cancelling_a_closed_run_leaves_it_as_it_was(workflow):
    async def handle(event, ctx):
        ctx.complete("done")

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    record = await workflow.run("r").cancel("too late")
    assert (record.status, record.reason, record.result) == ("completed", None, '"done"')


async def test_cancelling_an_idle_run_closes_it(summing):
    await add(summing, "r", 1)
    assert (await summing.run("r").cancel()).status == "cancelled"
    assert await drops(summing, "r") == []
    assert await summing.run("r").state() == {"sum": 1}


async def test_cancel_ends_those_who_watch(workflow):
    reached = asyncio.Event()

    async def handle(event):
        reached.set()
        await asyncio.Event().wait()

    workflow.register("go", handle)
    processing = asyncio.create_task(
        names(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    )
    await reached.wait()
    waiting = asyncio.create_task(workflow.run("r").wait())
    await workflow.run("r").cancel()
    assert await processing == ["go"]
    assert (await waiting).status == "cancelled"


@pytest.mark.parametrize("reason", ["\ud800", "a\0b", 7])
async def test_a_reason_that_cannot_be_stored_is_refused(summing, reason):
    await add(summing, "r", 1)
    with pytest.raises(InvalidValueError, match="reason"):
        await summing.run("r").cancel(reason)
    assert await summing.run("r").status() == "idle"


# --- send ------------------------------------------------------------------------------------


async def test_sending_through_the_run(summing):
    run = summing.run("r")
    assert (await run.send(WorkflowEvent("add", 1), id="e")).correlation_id == "r"
    assert (await run.send(WorkflowEvent("add", 1), id="e")).status == "duplicate"
    await summing.resume("r")
    assert await run.state() == {"sum": 1}


async def test_an_event_that_names_another_run_goes_where_the_call_says(summing):
    receipt = await summing.run("r").send(WorkflowEvent("add", 1, correlation_id="other"))
    assert receipt.correlation_id == "r"
    assert await log(summing, "r") == [(1, "add")]
