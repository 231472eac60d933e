"""Sends runs that set timers, until it is killed; or, told to, lets all of them come to an end."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from killing import settle

from flowstore import WorkflowEvent, WorkflowManager

DELAYS = (0.03, 0.001, 0.05, 0.02, 0.01)


def build(path):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        for delay in event.data:
            ctx.schedule(WorkflowEvent("due", delay), delay=delay)

    @workflow.on("due")
    async def due(event, ctx):
        ctx.state.setdefault("seen", []).append(event.data)

    return workflow


async def send(path):
    workflow = build(path)
    async with workflow:
        for number in itertools.count():
            name = f"{os.getpid()}-{number}"
            await workflow.send(WorkflowEvent("go", list(DELAYS)), correlation_id=name)
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()


async def drain(path):
    workflow = build(path)
    async with workflow:
        await settle(workflow)


if __name__ == "__main__":
    asyncio.run((send if sys.argv[1] == "send" else drain)(sys.argv[2]))
