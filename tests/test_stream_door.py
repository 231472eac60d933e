"""The door of streams: what is refused, where, and what a chunk can be (G10)."""

from __future__ import annotations

import asyncio

import pytest
from streaming import (
    GO,
    Word,
    each,
    first_of,
    read,
    recorded,
    run_all,
    streaming,
)
from watching import query

from flowstore import WorkflowEvent
from flowstore.door import Limits
from flowstore.errors import (
    EventTypeError,
    InvalidValueError,
    StreamFailedError,
)


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
    assert len(await first_of(workflow, 17)) == 17
    assert closed == [True]


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
