"""Runs with handlers that wait, postpone and collect, driven until it is killed; or to the end."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from flowstore import WorkflowEvent, WorkflowManager

ROUNDS = 3
EVENTS = ("go", *("x", "b") * ROUNDS)
"""What each run is sent, in this order, with ids of their own."""

UNSETTLED = ("running",)


def note(*words):
    """Write down in one go what has been done; a line cut short has no full stop."""
    os.write(2, f"{' '.join(map(str, words))} .\n".encode())


def build(path):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.state["began"] = ctx.state.get("began", 0) + 1
        ctx.emit(WorkflowEvent("a", 0))
        for number in range(ROUNDS):
            key = f"{ctx.correlation_id}/{number}"
            await ctx.step("pay", pay, key)
            note("paid", key)
            found = await ctx.wait_for("x", timeout=3600)
            ctx.state.setdefault("found", []).append(found.data)
            ctx.emit(WorkflowEvent("a", number + 1))
        ctx.state["ended"] = ctx.state.get("ended", 0) + 1

    async def pay(key):
        note("pay", key)
        await asyncio.sleep(0)

    async def join(event, ctx):
        ctx.state[event.name] = ctx.state.get(event.name, 0) + 1
        both = ctx.collect("both", ["a", "b"])
        if both is not None:
            ctx.state.setdefault("both", []).append([each.data for each in both])

    workflow.register("a", join, name="a").register("b", join, name="b")

    @workflow.on("b", name="early")
    async def early(event, ctx):
        if not ctx.state.get("ended"):
            ctx.emit(WorkflowEvent("void"))
            ctx.postpone(until="x")
            return
        ctx.state.setdefault("late", []).append(event.data)

    return workflow


async def send(path):
    """Drive run after run; say of each event that it has been acknowledged."""
    workflow = build(path)
    async with workflow:
        for number in itertools.count():
            name = f"{os.getpid()}-{number}"
            await drive(workflow, name, 0)


async def drive(workflow, name, first):
    for number in range(first, len(EVENTS)):
        event = WorkflowEvent(EVENTS[number], number)
        await workflow.send(event, correlation_id=name, id=f"{name}.{number}")
        sys.stdout.write(f"{name} {number}\n")
        sys.stdout.flush()
        if number % 2:
            await workflow.run(name).wait()


async def drain(path):
    """Send every run what it has not been sent, and see all of them settled."""
    workflow = build(path)
    async with workflow:
        for run in await workflow.runs(limit=None):
            name = run.correlation_id
            ids = [event.id async for event in workflow.run(name).events()]
            await drive(workflow, name, sum(f"{name}.{n}" in ids for n in range(len(EVENTS))))
            await workflow.run(name).wait()


if __name__ == "__main__":
    asyncio.run((send if sys.argv[1] == "send" else drain)(sys.argv[2]))
