"""Sends runs whose deadlines pass while handlers are at work; or lets all come to an end."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from killing import settle

from flowstore import WorkflowEvent, WorkflowManager


def build(path):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.deadline(delay=0.002)

    @workflow.on("slow")
    async def slow(event, ctx):
        """Set it anew: often it has passed by then."""
        await asyncio.sleep(0.003)
        ctx.deadline(delay=0.01)

    return workflow


async def send(path):
    workflow = build(path)
    async with workflow:
        for number in itertools.count():
            name = f"{os.getpid()}-{number}"
            await workflow.send_many(
                [WorkflowEvent(each, correlation_id=name) for each in ("go", "slow")]
            )
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()


async def drain(path):
    workflow = build(path)
    async with workflow:
        await settle(workflow)


if __name__ == "__main__":
    asyncio.run((send if sys.argv[1] == "send" else drain)(sys.argv[2]))
