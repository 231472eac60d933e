"""Streams: what a handler's iterator gives is shown live, recorded, and read again by anyone."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import weakref
from contextlib import closing
from dataclasses import dataclass

import pytest
from pydantic import BaseModel
from watching import drops, query, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.door import Limits
from flowstore.errors import (
    EventTypeError,
    InvalidValueError,
    StoreClosedError,
    StreamFailedError,
    StreamRestartedError,
)
from flowstore.testing import VirtualClock

GO = WorkflowEvent("go")


class Word(BaseModel):
    text: str


@dataclass
class Pair:
    left: int
    right: int


class Object(list):
    """A list that can be looked for."""


async def each(*chunks):
    for chunk in chunks:
        yield chunk


async def read(stream):
    return [chunk async for chunk in stream]


async def show(stream, both=None):
    """Read to the end, however often it begins anew; what breaks it off for good comes last."""
    shown = []
    while True:
        try:
            async for chunk in stream:
                shown.append(chunk)
                if both is not None and len(shown) == 2:
                    await both.wait()
        except StreamRestartedError:
            shown.append("anew")
        except StreamFailedError as error:
            return [*shown, str(error)]
        else:
            return shown


async def run_all(workflow, run="r"):
    """Process an event, reading each stream as it comes; return the events and the chunks."""
    events, chunks = [], []
    async for event in workflow.process(GO, correlation_id=run):
        events.append(event)
        if event.name == "stream":
            chunks += await read(event.data["stream"])
    return events, chunks


async def stream_event(workflow, run="r"):
    [event] = [each async for each in workflow.run(run).events() if each.name == "stream"]
    return event


async def recorded(workflow, run="r", offset=0):
    event = await stream_event(workflow, run)
    return await read(event.data["stream"].read(offset=offset))


def streaming(workflow, *chunks, **options):
    """Register a handler that streams these chunks."""

    @workflow.on("go", **options)
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": each(*chunks)})


# --- the one who processes -----------------------------------------------------------------


async def test_the_caller_gets_each_chunk_as_it_comes(workflow):
    shown = asyncio.Queue()

    async def slowly():
        for word in ("one", "two", "three"):
            yield word
            assert await shown.get() == word  # the next comes when this one has been shown

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": slowly(), "language": "en"})

    async for event in workflow.process(GO):
        if event.name == "stream":
            assert event.data["language"] == "en"
            async for chunk in event.data["stream"]:
                shown.put_nowait(chunk)
    assert shown.empty()


async def test_the_caller_gets_the_original_objects(workflow):
    chunks = [Word(text="a"), Pair(1, 2), {"deep": [1]}, "text", None, 3, 1.5, [True]]
    streaming(workflow, *chunks)
    _, found = await run_all(workflow)
    assert all(one is other for one, other in zip(found, chunks, strict=True))


async def test_later_readers_get_their_json(workflow, make):
    """G10: exactly what went through the door."""
    chunks = [Word(text="a"), Pair(1, 2), {"deep": [1]}, "text", None, 3, 1.5, [True]]
    streaming(workflow, *chunks)
    await run_all(workflow)
    as_json = [{"text": "a"}, {"left": 1, "right": 2}, *chunks[2:]]
    assert await recorded(workflow) == as_json
    assert await recorded(make()) == as_json
    assert await recorded(make(), offset=3) == as_json[3:]
    assert await recorded(make(), offset=8) == await recorded(make(), offset=99) == []


async def test_the_handler_goes_on_when_the_stream_has_been_recorded(workflow, path):
    """And what it has kept of the chunks is state like any other (G2)."""
    pieces = []

    async def words():
        for word in ("a", "b", "c"):
            pieces.append(word)
            yield word

    @workflow.on("go")
    async def go(_event, ctx):
        yield WorkflowEvent("stream", {"stream": words()})
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT status, chunks FROM stream").fetchall()
        assert found == [("ended", 3)]
        ctx.state["answer"] = "".join(pieces)
        yield WorkflowEvent("completed", {"answer": "".join(pieces)})

    events, chunks = await run_all(workflow)
    assert [event.name for event in events] == ["go", "stream", "completed"]
    assert events[-1].data == {"answer": "abc"}
    assert chunks == ["a", "b", "c"]
    assert await workflow.run("r").state() == {"answer": "abc"}


async def test_a_stream_that_no_one_reads_is_recorded(workflow):
    streaming(workflow, *range(1_000))
    async for _ in workflow.process(GO, correlation_id="r"):
        pass
    assert await recorded(workflow) == list(range(1_000))


async def test_a_stream_is_read_after_the_run_has_settled(workflow):
    chunks = [Word(text=str(number)) for number in range(500)]
    streaming(workflow, *chunks)
    events = [event async for event in workflow.process(GO, correlation_id="r")]
    found = await read(events[1].data["stream"])
    assert all(one is other for one, other in zip(found, chunks, strict=True))


async def test_a_slow_reader_does_not_slow_the_run(workflow):
    """The reader takes its first chunk only when the run has settled."""
    streaming(workflow, *range(1_000))
    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            reading = aiter(event.data["stream"])
            assert await anext(reading) == 0
            await workflow.run("r").wait()
            assert [chunk async for chunk in reading] == list(range(1, 1_000))


async def test_a_reader_may_stop_in_the_middle(workflow):
    streaming(workflow, *range(100))
    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            async for chunk in event.data["stream"]:
                if chunk == 5:
                    break
    assert await workflow.run("r").status() == "idle"
    assert len(await recorded(workflow)) == 100


async def test_an_empty_stream(workflow, make):
    streaming(workflow)
    _, chunks = await run_all(workflow)
    assert chunks == await recorded(workflow) == await recorded(make()) == []


async def test_several_streams_and_several_readers(workflow):
    gates = [asyncio.Event(), asyncio.Event()]

    async def numbers(mine, other, start):
        for number in range(start, start + 3):
            yield number
            gates[other].set()  # the two go on side by side, or not at all
            await gates[mine].wait()

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("streams", {"a": numbers(0, 1, 0), "b": numbers(1, 0, 10), "c": 5})
        yield WorkflowEvent("stream", {"stream": each("x")})
        yield WorkflowEvent("stream", {"stream": each("y")})

    found = []
    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "streams":
            streams = event.data["b"], event.data["a"], event.data["a"], event.data["b"]
            found += await asyncio.gather(*map(read, streams))
            assert event.data["c"] == 5
        elif event.name == "stream":
            found.append(await read(event.data["stream"]))
    assert found == [[10, 11, 12], [0, 1, 2], [0, 1, 2], [10, 11, 12], ["x"], ["y"]]


async def test_a_stream_emitted_goes_on_beside_the_handler(workflow):
    words = asyncio.Queue()

    async def queued():
        while (word := await words.get()) is not None:
            yield word

    @workflow.on("go")
    async def go(_event, ctx):
        ctx.emit(WorkflowEvent("stream", {"stream": queued()}))
        for word in ("a", "b", None):
            yield WorkflowEvent.progress("words", str(word))
            words.put_nowait(word)

    events, chunks = await run_all(workflow)
    assert chunks == await recorded(workflow) == ["a", "b"]
    assert [event.name for event in events] == ["go", "stream", *["progress"] * 3]


async def test_plain_handlers_stream_too(workflow):
    @workflow.on("go")
    def generator(_event):
        pieces = []

        async def words():
            for word in ("a", "b"):
                pieces.append(word)
                yield word

        yield WorkflowEvent("stream", {"stream": words()})
        yield WorkflowEvent("done", pieces)

    @workflow.on("done")
    def reducer(_event, state):
        return state, [WorkflowEvent("other", {"stream": each(1, 2)})]

    events, chunks = await run_all(workflow)
    assert chunks == ["a", "b"]
    by_name = {event.name: event for event in events}
    assert by_name["done"].data == ["a", "b"]
    assert await read(by_name["other"].data["stream"]) == [1, 2]


async def test_a_stream_can_be_streamed_on(workflow):
    streaming(workflow, *range(5))

    @workflow.on("stream")
    async def copy(event):
        yield WorkflowEvent("copy", {"copy": event.data["stream"]})

    events, _ = await run_all(workflow)
    assert await read(events[-1].data["copy"]) == [0, 1, 2, 3, 4]


async def test_chunks_that_no_one_can_read_any_more_are_let_go_of(workflow, make):
    go_on = asyncio.Event()
    alive = weakref.WeakSet()

    class Chunk(Word):
        """Pydantic models can be looked at from afar."""

        __hash__ = object.__hash__

    async def many():
        for number in range(2_000):
            chunk = Chunk(text=str(number))
            alive.add(chunk)
            yield chunk
            if number == 1_500:
                await go_on.wait()

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": many()})

    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            count = 0
            async for _ in event.data["stream"]:
                count += 1
                if count == 1_501:
                    far = (await stream_event(make())).data["stream"]
                    assert await anext(far.read(offset=1_500)) == {"text": "1500"}
                    gc.collect()
                    assert len(alive) < 1_000
                    go_on.set()
            assert count == 2_000


# --- others who read --------------------------------------------------------------------------


async def follow(manager, both, **options):
    """Read the stream of a run; say when there are two chunks of it."""
    found = []
    async for event in manager.run("r").events(**options):
        if event.name == "stream":
            async for chunk in event.data["stream"]:
                found.append(chunk)
                if len(found) == 2:
                    both.set()
    return found


async def test_later_readers_go_on_live(workflow, make):
    """In this process, and over the file alone as another one does."""
    go_on, noted = asyncio.Event(), [asyncio.Event() for _ in range(4)]

    async def words():
        yield "a"
        yield "b"
        await go_on.wait()
        yield "c"

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": words()})

    async with asyncio.TaskGroup() as group:
        async for event in workflow.process(GO, correlation_id="r"):
            if event.name != "stream":
                continue
            readers = [
                group.create_task(follow(manager, both, follow=follows))
                for manager, both, follows in zip(
                    (workflow, workflow, make(), make()), noted, (True, False) * 2, strict=True
                )
            ]
            for both in noted:
                await both.wait()
            go_on.set()
    assert [reader.result() for reader in readers] == [["a", "b", "c"]] * 4


async def test_handlers_of_the_event_get_the_recorded_stream(workflow):
    streaming(workflow, Word(text="a"), Word(text="b"))

    @workflow.on("stream")
    async def keep(event, ctx):
        assert await workflow.run("r").status() == "running"
        ctx.state["words"] = await read(event.data["stream"])
        assert await read(ctx.event.data["stream"].read(offset=1)) == ctx.state["words"][1:]

    await run_all(workflow)
    assert await workflow.run("r").state() == {"words": [{"text": "a"}, {"text": "b"}]}


async def test_the_event_is_one_of_the_run_like_any_other(workflow, path):
    streaming(workflow, 1)
    events, _ = await run_all(workflow)
    event = await stream_event(workflow)
    assert (event.id, event.position, event.causation_id) == ("1/go/c1", 2, events[0].id)
    assert query(path, "SELECT data FROM event WHERE position = 2") == [
        ('{"stream":{"$stream":"1/go/c1/stream"}}',)
    ]
    assert repr(event.data["stream"]) == "<Stream '1/go/c1/stream'>"


async def test_a_run_that_is_completed_has_no_drop_for_its_stream(workflow):
    @workflow.on("go")
    async def go(_event, ctx):
        yield WorkflowEvent("stream", {"stream": each(1)})
        ctx.complete("done")

    await run_all(workflow)
    assert await drops(workflow, "r") == []
    assert await recorded(workflow) == [1]


@pytest.mark.parametrize("offset", [-1, 1.0, None, True])
async def test_an_offset_is_a_number_from_zero(workflow, offset):
    streaming(workflow, 1)
    await run_all(workflow)
    event = await stream_event(workflow)
    with pytest.raises(InvalidValueError, match="offset"):
        event.data["stream"].read(offset=offset)


async def test_a_reader_of_a_manager_that_is_closed_is_told(workflow, make):
    reached = asyncio.Event()

    async def endless():
        yield 1
        reached.set()
        await asyncio.Event().wait()

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": endless()})

    other = make()
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await reached.wait()
        async for event in other.run("r").events(follow=True):
            if event.name == "stream":
                reading = aiter(event.data["stream"])
                assert await anext(reading) == 1
                waiting = asyncio.ensure_future(anext(reading))
                await asyncio.sleep(0)
                await other.close()
                with pytest.raises(StoreClosedError):
                    await waiting
                break
        await workflow.run("r").cancel()


# --- beginning anew, and breaking off ----------------------------------------------------------


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


# --- the door ------------------------------------------------------------------------------------


def plain_generator():
    yield 1


@pytest.mark.parametrize(
    ("data", "where", "remedy"),
    [
        ({"a": {"b": each(1)}}, "data.a.b: ", "top level"),
        ({"a": [each(1)]}, "data.a[0]: ", "top level"),
        (each(1), "data: ", "top level"),
        ({"a": plain_generator()}, "data.a: ", "async def"),
        ({"a": iter([1])}, "data.a: ", "async def"),
        ({"s": each(1), "a": {"b": object()}}, "data.a.b: ", "object is not JSON"),
        ({"s": each(1), "a": asyncio.Lock()}, "data.a: ", "Lock is not JSON"),
        ({"s": each(1), "a": {"$stream": "1/go/c1/a"}}, "data.a: ", "mark of a stream"),
    ],
    ids=["deep", "list", "bare", "generator", "iterator", "beside", "lock", "mark"],
)
async def test_other_live_objects_are_refused(workflow, data, where, remedy):
    """G10: with the path to them, and what to do."""
    caught = []

    @workflow.on("go")
    async def go(_event, ctx):
        with pytest.raises(InvalidValueError) as refused:
            ctx.emit(WorkflowEvent("stream", data))
        caught.append(str(refused.value))

    await run_all(workflow)
    assert caught[0].startswith(where)
    assert remedy in caught[0]


async def test_a_caller_cannot_send_a_stream(workflow):
    with pytest.raises(InvalidValueError, match=r"^data\.stream: .*a handler can emit"):
        await workflow.send(WorkflowEvent("go", {"stream": each(1)}))


@pytest.mark.parametrize(
    "options", [{"id": "mine"}, {"correlation_id": "another"}], ids=["id", "run"]
)
async def test_the_place_of_a_stream_is_not_for_the_handler_to_choose(workflow, options):
    @workflow.on("go")
    async def go(_event, ctx):
        with pytest.raises(EventTypeError):
            ctx.emit(WorkflowEvent("stream", {"stream": each(1)}, **options))

    events, _ = await run_all(workflow)
    assert len(events) == 1


async def test_the_objects_of_a_class_have_no_streams(workflow):
    async def handle(_word):
        raise AssertionError

    @workflow.on("go")
    async def go(_event, ctx):
        with pytest.raises(EventTypeError, match="class"):
            ctx.emit(WorkflowEvent("Word", {"text": each(1)}))

    workflow.register(Word, handle)
    await run_all(workflow)


async def test_data_that_looks_like_a_stream_is_data(workflow):
    """G10: whoever sends it, and wherever it is."""
    look = {"stream": {"$stream": "1/go/1/stream"}, "other": {"$stream": "1/go/c1/other"}}

    @workflow.on("go")
    async def go(event):
        assert event.data == look
        yield WorkflowEvent("plain", look)
        yield WorkflowEvent("both", {"s": each(1), "a": {"$stream": "x"}, "b": [look]})

    first = WorkflowEvent("go", look, id="c1")
    events = [event async for event in workflow.process(first, correlation_id="r")]
    found = {event.name: event.data for event in events}
    assert found["go"] == found["plain"] == look
    assert found["both"]["a"] == {"$stream": "x"}
    assert found["both"]["b"] == [look]
    with pytest.raises(InvalidValueError, match="id"):
        await workflow.send(WorkflowEvent("go", look, id="1/go/c1"))


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        ({"x": {1, 2}}, r"data\.stream\[17\]\.x: set is not JSON"),
        (float("nan"), r"data\.stream\[17\]: is nan"),
        ("\0", r"data\.stream\[17\]: has a NUL"),
        (each(1), r"data\.stream\[17\]: async_generator is not JSON"),
        ("x" * 1_100_000, r"data\.stream\[17\]: is 1100002 bytes of JSON"),
    ],
    ids=["set", "nan", "nul", "stream", "large"],
)
async def test_a_chunk_that_cannot_be_stored_fails_the_handler(workflow, chunk, problem):
    """G10: what came before it is there."""
    closed = []

    async def words():
        try:
            for number in range(17):
                yield number
            yield chunk
        finally:
            closed.append(True)

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": words()})

    events = [event async for event in workflow.process(GO, correlation_id="r")]
    with pytest.raises(StreamFailedError, match=problem):
        await read(events[1].data["stream"])
    assert events[-1].data["exception"] in {"InvalidValueError", "ValueTooLargeError"}
    assert len(await first(workflow, 17)) == 17
    assert closed == [True]


async def first(workflow, count):
    reading = aiter((await stream_event(workflow)).data["stream"])
    return [await anext(reading) for _ in range(count)]


async def test_large_chunks(workflow, make):
    chunks = [letter * 1_000_000 for letter in "abcdefghijklmnopqrstuvwxyz"]
    streaming(workflow, *chunks)
    _, found = await run_all(workflow)
    assert found == chunks
    assert await recorded(make()) == chunks
    assert await recorded(make(), offset=20) == chunks[20:]


async def test_the_limits_are_those_of_data(make):
    workflow = make(limits=Limits(data_bytes=300, depth=2))
    streaming(workflow, "x" * 298, [[1]])
    _, chunks = await run_all(workflow)
    assert chunks == ["x" * 298, [[1]]]
    streaming(workflow, [[[1]]], name="deep")
    events = [event async for event in workflow.process(GO, correlation_id="other")]
    assert "data.stream[0]" in events[-1].error


async def test_many_chunks_are_few_rows(workflow, path):
    streaming(workflow, *range(10_000))
    await run_all(workflow)
    [(rows, chunks)] = query(path, "SELECT count(*), max(stream.chunks) FROM chunk, stream")
    assert rows < 400
    assert chunks == 10_000
    assert await recorded(workflow, offset=9_990) == list(range(9_990, 10_000))
