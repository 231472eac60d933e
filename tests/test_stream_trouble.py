"""Streams when the store fails, the process crashes or stops, or another one closes the run."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
from broken import break_connections
from streaming import show
from watching import drops, transitions

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import (
    LeaseLostError,
    StoreError,
    StreamFailedError,
    StreamRestartedError,
)
from flowstore.store.base import AddChunks, BeginStream, ChunkRow
from flowstore.testing import crash

GO = WorkflowEvent("go")
WHOLE = ["a", "b", "c"]


def gated(workflow, *, begun=None, go_on=None):
    """Register a handler whose stream says when it has begun, and waits in the middle."""

    async def words():
        yield "a"
        yield "b"
        if begun is not None:
            begun.set()
        if go_on is not None:
            await go_on.wait()
        yield "c"

    @workflow.on("go")
    async def go(_event, ctx):
        yield WorkflowEvent("stream", {"stream": words()})
        ctx.state["ended"] = ctx.state.get("ended", 0) + 1

    return workflow


async def stream_of(workflow):
    [event] = [each async for each in workflow.run("r").events() if each.name == "stream"]
    return event.data["stream"]


async def read(stream):
    return [chunk async for chunk in stream]


async def check_whole(workflow):
    """It is there once, whole; and so is what its handler did."""
    assert await read(await stream_of(workflow)) == WHOLE
    assert await workflow.run("r").state() == {"ended": 1}
    assert await drops(workflow, "r") == []
    outcomes = [outcome for *_, outcome in await transitions(workflow, "r")]
    assert outcomes == ["handled"]


async def test_after_a_crash_the_stream_is_made_anew(make):
    """G3, G9: one who reads from another process goes on with the run's next owner."""
    begun, never = asyncio.Event(), asyncio.Event()
    first, second, other = make(), make(), make()
    gated(first, begun=begun, go_on=never)
    gated(second)
    await first.send(GO, correlation_id="r")
    async with first:
        await begun.wait()
        async for event in other.run("r").events(follow=True):
            if event.name == "stream":
                reading = aiter(event.data["stream"])
                assert [await anext(reading), await anext(reading)] == ["a", "b"]
                await crash(first)
                assert await second.resume() == ["r"]
                with pytest.raises(StreamRestartedError):
                    await anext(reading)
                assert await read(event.data["stream"]) == WHOLE
    await check_whole(second)


async def test_the_one_who_sends_again_after_a_crash_reads_it_to_its_end(make):
    begun, never, go_on = (asyncio.Event() for _ in range(3))
    first = gated(make(), begun=begun, go_on=never)
    async with first:
        await first.send(GO, correlation_id="r", id="1")
        await begun.wait()
        await crash(first)
    second = gated(make(), begun=begun, go_on=go_on)
    go_on.set()
    found = []
    async for event in second.process(GO, correlation_id="r", id="1"):
        while event.name == "stream":
            with contextlib.suppress(StreamRestartedError):
                found = await read(event.data["stream"])
                break
    assert found == WHOLE
    assert await drops(second, "r") == [("1", "duplicate")]  # the event that was sent again
    assert await second.run("r").state() == {"ended": 1}


async def test_a_service_that_stops_leaves_the_stream_to_the_next(make):
    begun, never = asyncio.Event(), asyncio.Event()
    first = gated(make(grace=0.0), begun=begun, go_on=never)
    async with first:
        await first.send(GO, correlation_id="r")
        await begun.wait()
    second = gated(make())
    await second.resume()
    await check_whole(second)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    "word", ["BEGIN", "INSERT INTO stream", "INSERT INTO event", "INSERT INTO chunk", "COMMIT"]
)
async def test_a_store_that_fails_is_not_the_handlers_fault(make, monkeypatch, word, *, done):
    """G3: the stream begins anew when the store is back; no retry is used up by it."""
    faults = break_connections(monkeypatch)
    workflow, entered, go_on = make(), asyncio.Event(), asyncio.Event()
    gated(workflow)

    @workflow.on("go", name="before")
    async def before(_event):
        entered.set()
        await go_on.wait()

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    workflow._routes._handlers.reverse()  # the one that waits is called first
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await entered.wait()
        faults.fail_once(word, error, done=done)
        go_on.set()
        while True:
            with contextlib.suppress(StoreError):
                assert (await workflow.run("r").wait(20)).status == "idle"
                break
        assert await read(await stream_of(workflow)) == WHOLE
        assert await workflow.run("r").state() == {"ended": 1}
        assert {outcome for *_, outcome in await transitions(workflow, "r")} == {"handled"}


async def test_a_run_that_another_process_cancels(make):
    """G8: the stream is stopped, and neither chunk nor commit comes after it."""
    begun, stopped = asyncio.Event(), asyncio.Event()
    workflow, other = make(), make()

    async def endless():
        try:
            yield "a"
            begun.set()
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": endless()})

    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await begun.wait()
        stream = await stream_of(workflow)
        await other.run("r").cancel("enough")
        await stopped.wait()
        with pytest.raises(StreamFailedError, match="cancelled"):
            await read(stream)


async def test_a_stream_in_memory(make):
    workflow = gated(make(":memory:"))
    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            assert await read(event.data["stream"]) == WHOLE
    await check_whole(workflow)


def test_a_stream_outlives_its_loop(path):
    workflow = gated(WorkflowManager(path))

    async def make_it():
        return [event async for event in workflow.process(GO, correlation_id="r")][1]

    async def read_it():
        found = await read(await stream_of(workflow))
        await workflow.close()
        return found

    event = asyncio.run(make_it())
    assert asyncio.run(read_it()) == WHOLE
    assert asyncio.run(read(event.data["stream"])) == WHOLE


async def test_a_lease_that_was_lost_writes_no_chunk(make):
    """G7, G8: and the record says so."""
    workflow = gated(make())
    async for _ in workflow.process(GO, correlation_id="r"):
        pass
    store = workflow._runtime.store()
    stream = "1/go/c1/stream"
    run = await workflow.run("r").info()
    rows = [ChunkRow(1, stream, 3, '["d"]')]
    for operation in (
        BeginStream(1, run.epoch - 1, stream),
        AddChunks(1, run.epoch - 1, stream, rows, 4, "open"),
    ):
        with pytest.raises(LeaseLostError, match=stream):
            await store.perform(operation)
    assert await read(await stream_of(workflow)) == WHOLE
    assert await drops(workflow, "r") == [(None, "lease_lost")] * 2


async def test_a_stream_that_was_made_here_and_begins_anew_elsewhere(make):
    """What is in memory is void then."""
    begun, never = asyncio.Event(), asyncio.Event()
    first = gated(make(grace=0.0), begun=begun, go_on=never)
    async with first, contextlib.aclosing(first.process(GO, correlation_id="r")) as events:
        [stream] = [event.data["stream"] async for event in until_stream(events)]
        await begun.wait()
    second = gated(make())
    await second.resume()
    assert await show(stream) == ["a", "b", "anew", *WHOLE]


async def until_stream(events):
    async for event in events:
        if event.name == "stream":
            yield event
            return
