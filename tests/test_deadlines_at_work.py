"""A deadline that passes while a handler is at work: it is let finish, and can deal with it."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from test_deadlines import PASSED, after
from watching import drops, log

from flowstore import WorkflowEvent


class Slow:
    """A workflow with a handler that waits to be let go on, then does this with the deadline."""

    def __init__(self, make, clock, then):
        self.workflow = make(clock=clock)
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

        @self.workflow.on("set")
        async def set_it(event, ctx):
            ctx.deadline(delay=10)

        @self.workflow.on("slow")
        async def slow(event, ctx):
            self.began.set()
            await self.go_on.wait()
            then(ctx)

    async def pass_meanwhile(self, clock):
        """Let the deadline pass while the handler is at work; then let that go on."""
        run = self.workflow.run("r")
        await run.send(WorkflowEvent("set"))
        await run.send(WorkflowEvent("slow"))
        await self.began.wait()
        await clock.advance(20)
        await self.workflow.send(WorkflowEvent("flush"), correlation_id="flush")
        assert [name for _, name in await log(self.workflow, "r")] == ["set", "slow", "deadline"]
        self.go_on.set()
        return await run.wait()


async def test_the_handler_at_work_is_let_finish(make, clock):
    slow = Slow(make, clock, lambda ctx: ctx.state.update(done=True))
    async with slow.workflow as workflow:
        record = await slow.pass_meanwhile(clock)
        assert (record.status, record.reason) == ("failed", PASSED)
        assert await workflow.run("r").state() == {"done": True}


async def test_the_handler_at_work_completes_the_run(make, clock):
    """G6: the deadline comes too late, and that is recorded."""
    slow = Slow(make, clock, lambda ctx: ctx.complete("in time"))
    async with slow.workflow as workflow:
        assert (await slow.pass_meanwhile(clock)).status == "completed"
        assert await drops(workflow, "r") == [("1/set_it/d1", "stale")]


@pytest.mark.parametrize("is_registered", [True, False])
async def test_the_handler_at_work_sets_it_anew(make, clock, is_registered):
    """What passed no longer counts, whoever would deal with it."""
    slow = Slow(make, clock, lambda ctx: ctx.deadline(delay=100))
    got = []
    if is_registered:
        slow.workflow.register("deadline", lambda event: got.append(event.id))
    async with slow.workflow as workflow:
        assert (await slow.pass_meanwhile(clock)).status == "waiting"
        assert await drops(workflow, "r") == [("1/set_it/d1", "stale")]
        record = await after(workflow, clock, 100)
        assert record.status == ("idle" if is_registered else "failed")
    assert got == (["2/slow/d1"] if is_registered else [])


async def test_the_handler_at_work_removes_it(make, clock):
    slow = Slow(make, clock, lambda ctx: ctx.cancel_deadline())
    async with slow.workflow as workflow:
        assert (await slow.pass_meanwhile(clock)).status == "idle"
        assert await drops(workflow, "r") == [("1/set_it/d1", "stale")]
        assert await (await workflow._runtime.reader()).list_unhandled("r") == []
