"""Dead letters of handlers that had waited, or put their event off, and are retried."""

# ruff: noqa: ARG001, ARG002, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import logging

import pytest
from test_dead_settled import after, dead
from watching import transitions

from flowstore import WorkflowEvent
from flowstore.errors import WaitExpiredError
from flowstore.replay import rerun
from flowstore.testing import VirtualClock


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


class Waiter:
    """Counts when it begins and when it goes on; fails behind its wait."""

    def __init__(self, workflow, *, is_late=False):
        self.workflow = workflow
        self.is_fixed = False
        self.is_late = is_late
        workflow.register("go", self.work, name="work")
        workflow.register("error", self.repair)

    async def repair(self, event):
        """So that the run is not closed."""

    async def work(self, event, ctx):
        ctx.state["begun"] = ctx.state.get("begun", 0) + 1
        first = await ctx.wait_for("first")
        ctx.state["first"] = first.data
        second = await ctx.wait_for("second")
        if not self.is_fixed:
            raise ValueError("broken")
        ctx.state["second"] = second.data
        if self.is_late:
            third = await ctx.wait_for("third")
            ctx.state["third"] = third.data


async def test_a_handler_that_waited_goes_on_where_it_failed(workflow):
    """G3: what it did before its waits is committed and not done twice."""
    waiter = Waiter(workflow, is_late=True)
    for number, name in enumerate(("go", "first", "second", "third"), 1):
        await workflow.send(WorkflowEvent(name, number), correlation_id="r")
        await workflow.resume()
    assert await dead(workflow) == [("r", 3, "work@1")]
    assert await workflow.run("r").state() == {"begun": 1, "first": 2}
    await workflow.run("r").retry_dead(3)
    await workflow.resume()
    assert [row[-1] for row in await transitions(workflow, "r")].count("dead") == 2
    waiter.is_fixed = True
    (last,) = await dead(workflow)
    await workflow.run("r").retry_dead(last[1])
    await workflow.resume()
    assert await dead(workflow) == []
    state = await workflow.run("r").state()
    assert state == {"begun": 1, "first": 2, "second": 3, "third": 4}
    assert await workflow.run("r").status() == "idle"


async def test_a_handler_whose_time_was_over_is_told_so_again(make):
    clock = VirtualClock()
    workflow = make(clock=clock)
    seen = []

    async def work(event, ctx):
        try:
            await ctx.wait_for("never", timeout=60)
        except WaitExpiredError:
            seen.append("late")
            if len(seen) == 1:
                raise ValueError("broken") from None

    workflow.register("go", work, name="work").register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait(30)
        await after(workflow, clock, 60)
        await workflow.run("r").retry_dead(2)
        await workflow.run("r").wait(30)
    assert seen == ["late", "late"]
    assert await dead(workflow) == []


async def test_a_handler_that_had_put_its_event_off_can_do_so_again(make):
    """The events that end its delays have ids of their own."""
    clock = VirtualClock()
    workflow = make(clock=clock)
    calls = []

    async def work(event, ctx):
        calls.append(len(calls))
        if len(calls) in {1, 3}:
            ctx.postpone(60)
        elif len(calls) == 2:
            raise ValueError("broken")
        else:
            ctx.state["done"] = event.data

    workflow.register("go", work, name="work").register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go", 7), correlation_id="r")
        await workflow.run("r").wait(30)
        await after(workflow, clock, 60)
        ((_, position, _),) = await dead(workflow)
        await workflow.run("r").retry_dead(position)
        assert (await workflow.run("r").wait(30)).status == "waiting"
        await after(workflow, clock, 60)
    assert await workflow.run("r").state() == {"done": 7}
    assert len(calls) == 4


async def test_a_retry_of_a_handler_that_waited_is_replayed_identically(workflow):
    Waiter(workflow)
    for number, name in enumerate(("go", "first", "second"), 1):
        await workflow.send(WorkflowEvent(name, number), correlation_id="r")
        await workflow.resume()
    await workflow.run("r").retry_dead(3)
    await workflow.resume()
    assert len(await dead(workflow)) == 1
    report = await rerun(workflow, "r")
    assert report.is_identical, report.divergence
