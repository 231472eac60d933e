"""What the command line shows of streams."""

from __future__ import annotations

import asyncio
import re

import pytest
from command_line import Called

from flowstore import WorkflowEvent, WorkflowManager


@pytest.fixture(autouse=True)
def _folder(folder):
    asyncio.run(_stream(folder / "flowstore.db"))


async def _stream(path):
    workflow = WorkflowManager(path)

    async def numbers(count):
        for number in range(count):
            yield number

    async def broken():
        yield 0
        raise ValueError("no more")

    async def endless():
        yield 0
        await workflow.run("open").cancel()
        await asyncio.Event().wait()

    @workflow.on("whole")
    async def whole(_event):
        yield WorkflowEvent("stream", {"a": numbers(1), "b": numbers(12), "c": {"plain": True}})

    @workflow.on("broken")
    async def fail(_event):
        yield WorkflowEvent("stream", {"a": broken()})

    @workflow.on("open")
    async def leave(_event):
        yield WorkflowEvent("stream", {"a": endless()})

    for name in ("whole", "broken", "open"):
        async for _ in workflow.process(WorkflowEvent(name), correlation_id=name):
            pass
    await workflow.close()


def data(capfd, run):
    [line] = [line for line in Called(capfd, "log", run).out.splitlines() if "/c1 " in line]
    return line[line.index("{") :]


def test_log_says_how_much_there_is_of_a_stream(capfd):
    assert data(capfd, "whole") == '{"a": "1 chunk", "b": "12 chunks", "c": {"plain": true}}'
    assert data(capfd, "broken") == '{"a": "1 chunk, broken off"}'
    assert re.fullmatch(r'\{"a": "[01] chunks?, unfinished"\}', data(capfd, "open"))


def test_log_as_json_has_where_a_stream_stands(capfd):
    [first, event] = Called(capfd, "log", "whole", "--json").json
    assert "streams" not in first
    assert event["data"] == {
        "a": {"$stream": "1/whole/c1/a"},
        "b": {"$stream": "1/whole/c1/b"},
        "c": {"plain": True},
    }
    assert event["streams"]["b"] == {
        "id": "1/whole/c1/b",
        "status": "ended",
        "chunks": 12,
        "generation": 1,
        "error": None,
    }
    event = Called(capfd, "log", "broken", "--json").json[1]
    assert (event["streams"]["a"]["status"], event["streams"]["a"]["error"]) == (
        "failed",
        "no more",
    )


def test_show_counts_streams(capfd):
    assert Called(capfd, "show", "whole", "--json").json["counts"]["streams"] == {"ended": 2}
    assert re.search(r"^streams +failed 1$", Called(capfd, "show", "broken").out, re.MULTILINE)
    assert re.search(r"^streams +open 1$", Called(capfd, "show", "open").out, re.MULTILINE)
