"""Streams: what a handler's iterator gives is shown live, recorded, and read again by anyone."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import weakref
from contextlib import closing

import pytest
from streaming import (
    GO,
    Pair,
    Word,
    each,
    read,
    recorded,
    run_all,
    stream_event,
    streaming,
)
from watching import drops, query

from flowstore import WorkflowEvent
from flowstore.errors import (
    InvalidValueError,
    StoreClosedError,
)


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


async def test_an_iterator_that_never_waits_lets_others_have_their_turn(workflow):
    seen, most = [], 2_000_000

    async def until_seen():
        for number in range(most):  # so many that a slow disk has its time
            if seen:
                return
            yield number

    @workflow.on("go")
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": until_seen()})

    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "stream":
            async for chunk in event.data["stream"]:
                seen.append(chunk)  # noqa: PERF401 - one by one, for the iterator looks at it
    assert 0 < len(seen) < most


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
