"""What a run waits for, as anyone can see it without touching anything (G7, G12)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from command_line import Called

from flowstore import Retry, WorkflowEvent
from flowstore.clock import to_microseconds
from flowstore.errors import RunNotFoundError
from flowstore.testing import VirtualClock

START = to_microseconds(datetime(2030, 1, 1, tzinfo=UTC))
SECOND = 1_000_000


@pytest.fixture
def clock():
    return VirtualClock()


async def waiting(make, clock):
    """Return a manager with a run that waits for one of everything, and the token."""
    workflow = make(clock=clock)
    tokens = []

    @workflow.on("go")
    async def go(event, ctx):
        ctx.schedule(WorkflowEvent("remind"), delay=60, key="reminder")
        ctx.deadline(delay=600)
        tokens.append(ctx.submit_external("approval", timeout=300))
        ctx.submit_external("signature")

    @workflow.on("ask")
    async def ask(event, ctx):
        await ctx.wait_for("answer", where={"secret": "42"}, timeout=120)

    @workflow.on("early")
    async def early(event, ctx):
        ctx.postpone(until=event.data)

    @workflow.on("part")
    async def part(event, ctx):
        ctx.collect("parts", "part", count=2)

    run = workflow.run("r")
    async with workflow:
        for name, data in (
            ("go", None),
            ("ask", None),
            ("early", 30),
            ("early", "order"),
            ("part", 1),
        ):
            await run.send(WorkflowEvent(name, data))
            await run.wait()
            await clock.advance(1)
        assert await run.status() == "waiting"
    return workflow, tokens[0]


EXPECTED = {
    ("timer", "remind", "reminder", None, None, 0, 60),
    ("deadline", "deadline", None, None, None, 0, 600),
    ("external task", "approval", "1/go/t1", None, None, 0, 300),
    ("external task", "signature", "1/go/t2", None, None, 0, None),
    ("wait", "answer", None, 2, "ask", 1, 121),
    ("postponed", None, None, 3, "early", 2, 32),
    ("postponed", "order", None, 4, "early", 3, None),
    ("collected", "part", "parts", 5, None, 4, None),
}


async def test_one_of_everything(make, clock):
    workflow, _ = await waiting(make, clock)
    before = workflow._runtime.url.path.read_bytes()
    found = await workflow.run("r").outstanding()
    assert {
        (
            each.kind, each.name, each.key, each.position, each.handler,
            (each.since - START) // SECOND,
            None if each.due_at is None else (each.due_at - START) // SECOND,
        )
        for each in found
    } == EXPECTED  # fmt: skip
    assert [each.where for each in found if each.kind == "wait"] == [{"secret": "42"}]
    assert [each.where for each in found if each.kind != "wait"] == [None] * 7
    assert [each.since for each in found] == sorted(each.since for each in found)
    assert await workflow.run("r").outstanding(limit=3) == found[:3]
    await workflow.close()
    assert workflow._runtime.url.path.read_bytes() == before


async def test_a_task_with_its_last_failure(make, clock):
    workflow = make(clock=clock)

    @workflow.task(retry=Retry(attempts=3, delay=100, jitter=0))
    async def fetch():
        raise ConnectionError("no line")

    @workflow.on("go")
    async def go(event, ctx):
        ctx.submit(fetch)

    async with workflow:
        await workflow.run("r").send(WorkflowEvent("go"))
        await clock.until_asleep(50)
        (task,) = await workflow.run("r").outstanding()
    shown = {name: value for name, value in asdict(task).items() if value is not None}
    assert shown == {
        "kind": "task", "name": "fetch", "key": "1/go/t1", "attempts": 1, "error": "no line",
        "since": START, "due_at": START + 100 * SECOND,
    }  # fmt: skip


async def test_a_run_that_waits_for_nothing(make, clock):
    workflow = make(clock=clock)
    with pytest.raises(RunNotFoundError):
        await workflow.run("r").outstanding()
    await workflow.run("r").send(WorkflowEvent("go"))
    assert await workflow.run("r").outstanding() == []


async def test_what_was_waited_for_and_what_was_closed_is_gone(make, clock):
    workflow, token = await waiting(make, clock)
    async with workflow:
        await workflow.complete_task(token, {"ok": True})
        await workflow.run("r").send(WorkflowEvent("answer", {"secret": "42"}))
        await workflow.run("r").wait()
        kinds = [each.kind for each in await workflow.run("r").outstanding()]
        assert sorted(kinds) == sorted(
            kind for kind, name, *_ in EXPECTED if name not in {"approval", "answer"}
        )
        await workflow.run("r").cancel()
        assert await workflow.run("r").outstanding() == []


async def test_the_command_line_shows_it_and_no_token(make, clock, folder, capfd):
    workflow, token = await waiting(make, clock)
    await workflow.close()
    path = str(workflow._runtime.url.path)

    def look():
        """In a thread of its own: the command line has its own event loop."""
        return [Called(capfd, "show", "r", "--store", path, *more) for more in ((), ("--json",))]

    text, as_json = await asyncio.to_thread(look)
    listed = as_json.json["outstanding"]
    assert {(each["kind"], each["name"], each["key"]) for each in listed} == {
        each[:3] for each in EXPECTED
    }
    assert listed[0]["since"] == "2030-01-01T00:00:00.000000Z"
    assert "outstanding" in text.out
    assert "reminder" in text.out
    for part in (token, token.partition(".")[0], token.partition(".")[2]):
        assert part not in text.out + json.dumps(as_json.json)
