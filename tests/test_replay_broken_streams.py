"""Executing runs again whose handlers failed as the iterator of a stream raised."""

from __future__ import annotations

from typing import Any

import pytest
from again import ONE, again, handling, record

from flowstore import Retry, WorkflowEvent


async def breaking():
    yield 1
    raise ConnectionError("the model has gone")


async def whole():
    yield 1


def yielding(chunks: Any) -> Any:
    async def handle(_event, ctx):
        yield WorkflowEvent("answer", {"stream": chunks()})
        ctx.state["told"] = True

    return handle


def plain(chunks: Any) -> Any:
    def handle(_event, ctx):
        yield WorkflowEvent("answer", {"stream": chunks()})
        ctx.state["told"] = True

    return handle


def emitting(chunks: Any) -> Any:
    async def handle(_event, ctx):
        ctx.emit(WorkflowEvent("answer", {"stream": chunks()}))
        ctx.state["told"] = True

    return handle


@pytest.mark.parametrize("make", [yielding, plain, emitting])
async def test_what_failed_of_a_stream_is_taken_over(path, make):
    """No iterator is read anew, so the handler could not fail of it again."""
    setup = handling(make(breaking), retry=Retry(attempts=2, delay=0))
    archive = await record(path, setup, ONE)
    assert [row.outcome for row in archive.transitions] == ["retried", "dead"]
    assert archive.transitions[-1].error == "the model has gone"
    assert await again(archive, setup) is None


async def test_what_failed_beside_a_stream_is_made_again(path):
    async def failing(_event, ctx):
        ctx.emit(WorkflowEvent("answer", {"stream": whole()}))
        raise ConnectionError("no answer")

    archive = await record(path, handling(failing), ONE)
    assert await again(archive, handling(failing)) is None
    found = await again(archive, handling(emitting(whole)))
    assert (found.position, found.kind) == (1, "outcome")
