"""Who waits for a run when the manager is closed is told so, whenever they began."""

from __future__ import annotations

import asyncio

import pytest

from flowstore import WorkflowEvent
from flowstore.errors import StoreClosedError


async def _wait(workflow):
    await workflow.run("r").wait()


async def _follow(workflow):
    async for _ in workflow.run("r").events(follow=True):
        pass


async def _resume(workflow):
    await workflow.resume("r")


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("attend", [_wait, _follow, _resume])
async def test_closing_ends_every_wait(workflow, attend, turns):
    done = asyncio.Event()

    async def never(_event):
        await done.wait()

    workflow.register("go", never)
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    waiting = asyncio.create_task(attend(workflow))
    for _ in range(turns):
        await asyncio.sleep(0)
    workflow._runtime._grace = 0.01
    await workflow.close()
    async with asyncio.timeout(20):
        with pytest.raises(StoreClosedError):
            await waiting
