"""Streams that begin anew or break off, and handlers that do more than stream."""

from __future__ import annotations

import asyncio
import re

import pytest
from streaming import (
    GO,
    Word,
    each,
    read,
    recorded,
    run_all,
    show,
    stream_event,
    streaming,
)
from watching import drops, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.errors import (
    StreamFailedError,
    StreamRestartedError,
)
from flowstore.testing import VirtualClock


def breaking(workflow, *, times, retry=None):
    """Register a handler whose stream breaks off behind its second chunk, so many times.

    It does not before the event that is returned is set.
    """
    left, may_break = iter(range(times)), asyncio.Event()

    async def words():
        yield Word(text="a")
        yield Word(text="b")
        if next(left, None) is not None:
            await may_break.wait()
            raise ConnectionError("the model has gone")
        yield Word(text="c")

    @workflow.on("go", retry=retry)
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": words()})
        yield WorkflowEvent("done")

    return may_break


async def test_a_stream_begins_anew_with_its_handler(patient, make):
    may_break = breaking(patient, times=1, retry=Retry(attempts=2))
    other, found, names = make(), [], []
    halves = asyncio.Barrier(3)

    async for event in patient.process(GO, correlation_id="r"):
        names.append(event.name)
        if event.name == "stream":
            far = (await stream_event(other)).data["stream"]
            readers = asyncio.gather(show(event.data["stream"], halves), show(far, halves))
            await halves.wait()
            may_break.set()
            found = await readers
    assert names == ["go", "stream", "done"]
    here, there = found
    words = [word.text if isinstance(word, Word) else word for word in here]
    assert words == ["a", "b", "anew", "a", "b", "c"]
    assert here[-1] is not here[0]
    assert there[:3] == [{"text": "a"}, {"text": "b"}, "anew"]
    assert there[3:] == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert await drops(patient, "r") == []
    assert await recorded(make()) == there[3:]


async def test_one_who_reads_what_is_void_is_told(patient):
    breaking(patient, times=1, retry=Retry(attempts=2)).set()
    async for event in patient.process(GO, correlation_id="r"):
        if event.name == "stream":
            reading = aiter(event.data["stream"])
            assert (await anext(reading)).text == "a"
            await patient.run("r").wait()
            with pytest.raises(StreamRestartedError, match="1/go/c1/stream"):
                await anext(reading)
            assert [chunk async for chunk in reading] == []
            assert [word.text for word in await read(event.data["stream"])] == ["a", "b", "c"]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_an_iterator_that_fails_fails_its_handler(patient, make, attempts):
    breaking(patient, times=9, retry=Retry(attempts=attempts)).set()
    names, found = [], []
    async for event in patient.process(GO, correlation_id="r"):
        names.append((event.name, event.error))
        if event.name == "stream":
            found = await show(event.data["stream"])
    assert names == [("go", None), ("stream", None), ("error", "the model has gone")]
    *found, problem = found
    assert problem.endswith("broke off: the model has gone")
    # A reader may miss an attempt, but not that there was another one.
    words = " ".join(word.text if isinstance(word, Word) else word for word in found)
    assert re.fullmatch("(a b anew )*a b", words)
    assert await patient.run("r").status() == "failed"
    outcomes = [outcome for _, _, _, outcome in await transitions(patient, "r")]
    assert outcomes == ["retried"] * (attempts - 1) + ["dead"]
    *found, problem = await show((await stream_event(make())).data["stream"])
    assert found == [{"text": "a"}, {"text": "b"}]
    assert problem.endswith("the model has gone")


async def test_a_handler_that_fails_behind_its_stream_leaves_it_whole(workflow):
    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": each(1, 2)})
        raise ValueError("later")

    events, chunks = await run_all(workflow)
    assert chunks == await recorded(workflow) == [1, 2]
    assert events[-1].error == "later"


async def test_a_stream_emitted_that_fails_fails_its_handler(workflow):
    async def broken():
        yield 1
        raise KeyError("word")

    @workflow.on("go")
    async def go(_event, ctx):
        ctx.emit(WorkflowEvent("stream", {"stream": broken()}))

    events = [event async for event in workflow.process(GO, correlation_id="r")]
    assert [event.name for event in events] == ["go", "stream", "error"]
    assert events[-1].data["exception"] == "KeyError"
    with pytest.raises(StreamFailedError, match="word"):
        await read(events[1].data["stream"])


async def test_a_handler_that_takes_too_long_breaks_its_stream_off(make):
    clock, closed = VirtualClock(), asyncio.Event()
    workflow = make(clock=clock)

    async def endless():
        try:
            yield 1
            await clock.advance(2.0)
            await asyncio.Event().wait()
        finally:
            closed.set()

    @workflow.on("go", timeout=1.0)
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": endless()})

    events = []
    async for event in workflow.process(GO, correlation_id="r"):
        events.append(event)
        if event.name == "stream":
            with pytest.raises(StreamFailedError, match="timeout"):
                await read(event.data["stream"])
    assert events[-1].data["exception"] == "HandlerTimeoutError"
    assert closed.is_set()


async def test_a_run_that_is_cancelled_breaks_its_stream_off(workflow, make):
    closed, other = asyncio.Event(), make()

    async def endless():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": endless()})

    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            far = aiter((await stream_event(other)).data["stream"])
            here = aiter(event.data["stream"])
            assert await anext(here) == await anext(far) == 1
            await workflow.run("r").cancel("enough")
            for reading in (here, far):
                with pytest.raises(StreamFailedError, match="left unfinished: its run is cancel"):
                    await anext(reading)
    await closed.wait()
    assert await workflow.run("r").status() == "cancelled"


async def test_an_iterator_that_cancels_itself_fails_its_handler(workflow):
    async def broken():
        yield 1
        raise asyncio.CancelledError

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": broken()})

    events = [event async for event in workflow.process(GO)]
    assert events[-1].error == "the handler was cancelled from within"


async def test_a_handler_that_ends_with_an_error_event_has_its_streams(workflow):
    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": each(1)}, error="and that was that")
        raise AssertionError

    events, chunks = await run_all(workflow)
    assert (events[-1].error, chunks) == ("and that was that", [1])


async def test_a_handler_that_waits_does_not_stream_again(workflow, make):
    """What it needs of the stream behind the wait is in the state."""
    begun = []

    @workflow.on("go")
    async def go(event, ctx):
        pieces = []

        async def words():
            begun.append(event.id)
            for word in ("a", "b"):
                pieces.append(word)
                yield word

        yield WorkflowEvent("stream", {"stream": words()})
        ctx.state["answer"] = "".join(pieces)
        await ctx.wait_for("approved")
        yield WorkflowEvent("stream", {"stream": each(ctx.state["answer"])})

    await run_all(workflow)
    run = make().register("go", go).run("r")
    second = [
        event async for event in workflow.process(WorkflowEvent("approved"), correlation_id="r")
    ]
    assert [event.id for event in second if event.name == "stream"] == ["1/go/c2"]
    streams = [event async for event in run.events() if event.name == "stream"]
    assert [await read(event.data["stream"]) for event in streams] == [["a", "b"], ["ab"]]
    assert len(begun) == 1
    assert await drops(workflow, "r") == []


# --- handlers that do more ---------------------------------------------------------------------


async def test_steps_within_a_stream_are_taken_once(patient):
    """G3: an answer that breaks off is paid for again only from where it broke off."""
    asked = []

    async def ask(number):
        asked.append(number)
        if len(asked) == 2:
            raise ConnectionError("the model has gone")
        return f"part {number}"

    @patient.on("go", retry=Retry(attempts=2))
    async def go(_event, ctx):
        async def parts():
            for number in range(3):
                yield await ctx.step("ask", ask, number)

        yield WorkflowEvent("stream", {"stream": parts()})

    async for _ in patient.process(GO, correlation_id="r"):
        pass
    assert await recorded(patient) == ["part 0", "part 1", "part 2"]
    assert asked == [0, 1, 1, 2]


async def test_an_iterator_cannot_wait_for_an_event(workflow):
    @workflow.on("go")
    async def go(_event, ctx):
        async def words():
            yield 1
            await ctx.wait_for("approved")

        yield WorkflowEvent("stream", {"stream": words()})

    events = [event async for event in workflow.process(GO, correlation_id="r")]
    assert events[-1].data["exception"] == "ConfigurationError"
    assert await workflow.run("r").status() == "failed"


async def test_a_handler_waits_when_its_streams_have_ended(workflow):
    @workflow.on("go")
    async def go(_event, ctx):
        ctx.emit(WorkflowEvent("stream", {"stream": each(*range(200))}))
        await ctx.wait_for("approved")

    await run_all(workflow)
    assert await workflow.run("r").status() == "waiting"
    assert await recorded(workflow) == list(range(200))


async def test_everyone_who_processes_an_event_gets_the_originals(workflow):
    chunks = [["a"], ["b"]]
    streaming(workflow, *chunks)
    first = WorkflowEvent("go", id="same")

    async def process():
        found = []
        async for event in workflow.process(first, correlation_id="r"):
            if event.name == "stream":
                found = await read(event.data["stream"])
        return found

    for found in await asyncio.gather(*(process() for _ in range(5))):
        assert all(one is other for one, other in zip(found, chunks, strict=True))


async def test_who_follows_the_run_gets_the_originals_too(workflow):
    chunks, begun = [Word(text="a"), Word(text="b")], asyncio.Event()

    @workflow.on("go")
    async def go(_event):
        await begun.wait()
        yield WorkflowEvent("stream", {"stream": each(*chunks)})

    async with workflow:
        await workflow.send(GO, correlation_id="r")
        async for event in workflow.run("r").events(follow=True):
            begun.set()
            if event.name == "stream":
                found = await read(event.data["stream"])
    assert all(one is other for one, other in zip(found, chunks, strict=True))


async def test_a_handler_that_fails_beside_its_stream_breaks_it_off(workflow):
    begun, closed = asyncio.Event(), asyncio.Event()

    async def endless():
        try:
            yield 1
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    @workflow.on("go")
    async def go(_event, ctx):
        ctx.emit(WorkflowEvent("stream", {"stream": endless()}))
        await begun.wait()
        raise ValueError("no more")

    events = [event async for event in workflow.process(GO, correlation_id="r")]
    assert closed.is_set()
    assert await show(events[1].data["stream"]) == [
        1,
        "stream '1/go/c1/stream' of run 'r' broke off: no more",
    ]


async def test_what_there_is_of_a_stream_is_read_before_the_next_attempt(make):
    """That may be far away; a clock that no one moves does not come to it."""
    workflow, other = make(clock=VirtualClock()), make()
    breaking(workflow, times=1, retry=Retry(attempts=2)).set()
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        found = []
        async for event in other.run("r").events(follow=True):
            if event.name == "stream":
                reading = aiter(event.data["stream"])
                found = [await anext(reading), await anext(reading)]
                break
    assert found == [{"text": "a"}, {"text": "b"}]
