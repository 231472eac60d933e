"""Child programs that send runs until they are killed, and how they come to an end at last."""

from __future__ import annotations

import asyncio
import subprocess
import sys

UNSETTLED = ("running", "waiting")


def killed_after(child, path, runs):
    """Kill a child when it has acknowledged so many runs; return those that were read."""
    with subprocess.Popen(
        [sys.executable, child, "send", path], stdout=subprocess.PIPE, text=True
    ) as process:
        names = {process.stdout.readline().strip() for _ in range(runs)}
        process.kill()
        names |= {line.strip() for line in process.stdout if line.endswith("\n")}
    return names


async def settle(workflow):
    """Return when nothing is left to be done in any run; the workflow is being served."""
    stirred = asyncio.Event()
    workflow.hooks.subscribe(lambda *_: stirred.set())
    # One read: a run goes from waiting to running and back between two.
    while not {run.status for run in await workflow.runs()}.isdisjoint(UNSETTLED):
        await stirred.wait()
        stirred.clear()
