"""Waiting, as the first program that waits for people found it (G6, G7)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from dataclasses import dataclass

import pytest
from watching import drops, transitions

from flowstore import WorkflowEvent


@dataclass
class Approved:
    by: str


def waiting(make, **options):
    """Make a manager whose "ask" waits for an approval."""
    workflow = make()

    @workflow.on("ask", name="ask")
    async def ask(event, ctx):
        approved = await ctx.wait_for(Approved, **options)
        ctx.state["by"] = approved.by

    return workflow


async def send(workflow, name, data=None, **more):
    receipt = await workflow.run("r").send(WorkflowEvent(name, data), **more)
    await workflow.resume("r")
    return receipt


@pytest.mark.parametrize(
    "options", [{}, {"where": {"kind": "final"}}, {"where": lambda approved: approved.by}]
)
async def test_an_event_that_does_not_fit_its_class_leaves_the_handler_waiting(make, options):
    """An envelope is sent without its class, as the shell does: nobody checked what is in it."""
    workflow = waiting(make, **options)
    await send(workflow, "ask")
    await send(workflow, "Approved", {"who": "alex", "kind": "final"}, id="wrong")
    assert await workflow.run("r").status() == "waiting"
    assert await drops(workflow, "r") == [("wrong", "stale")]
    await workflow.close()
    again = waiting(make, **options)
    await send(again, "Approved", {"by": "alex", "kind": "final"})
    assert await again.run("r").state() == {"by": "alex"}
    assert await transitions(again, "r") == [(1, "ask", 1, "parked"), (3, "ask@1", 1, "handled")]


async def test_why_it_does_not_fit_is_told(make):
    workflow = waiting(make)
    await send(workflow, "ask")
    await send(workflow, "Approved", {"who": "alex"})
    [drop] = await (await workflow._runtime.reader()).list_drops("r")
    assert drop.detail.startswith("handler 'ask' waits for it, and it does not fit: data.by: ")


async def test_an_event_that_came_early_and_does_not_fit_is_passed_over(make):
    workflow = make()

    @workflow.on("ask", name="ask")
    async def ask(event, ctx):
        await ctx.wait_for("ready")
        approved = await ctx.wait_for(Approved)
        ctx.state["by"] = approved.by

    await send(workflow, "ask")
    await send(workflow, "Approved", {"who": "alex"})
    await send(workflow, "Approved", {"by": "sam"})
    await send(workflow, "ready")
    assert await workflow.run("r").state() == {"by": "sam"}
