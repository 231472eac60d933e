"""Serves crons on a clock that runs thousands of times too fast, until it is killed.

Told to drain, it lets time stand still after some minutes, and ends when all has come to rest.
"""

from __future__ import annotations

import asyncio
import sys
import time

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.clock import SystemClock

TIMES = 2000
ROUND = 180_000_000  # microseconds: both crons fire at its end
BEGINNING = 1_900_000_020_000_000  # microseconds since 1970; what the machine's clock is no matter


class FastClock(SystemClock):
    """Time that all processes share, and that runs thousands of times too fast.

    Args:
        zero: the machine's time at the beginning, in microseconds since 1970.
    """

    def __init__(self, zero: int) -> None:
        self._zero = zero
        self.end = sys.maxsize

    def now(self) -> int:
        return min(BEGINNING + (time.time_ns() // 1000 - self._zero) * TIMES, self.end)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / TIMES)


def build(path, clock):
    workflow = WorkflowManager(path, clock=clock)
    workflow.cron("* * * * *", WorkflowEvent("tick"), name="one", correlation_id="r", missed="all")
    workflow.cron("*/3 * * * *", WorkflowEvent("own"), name="own", missed="all")

    @workflow.on("tick")
    async def tick(event, ctx):
        ctx.state.setdefault("seen", []).append(event.id)

    @workflow.on("own")
    async def own(event, ctx):
        ctx.complete(event.id)

    return workflow


async def serve(path, zero):
    def tell(name, fields):
        if name == "handled" and fields["handler"] == "tick":
            sys.stdout.write(".\n")
            sys.stdout.flush()

    workflow = build(path, FastClock(zero))
    workflow.hooks.subscribe(tell)
    async with workflow:
        await asyncio.Event().wait()


async def drain(path, zero):
    clock, stirred = FastClock(zero), asyncio.Event()
    clock.end = (clock.now() // ROUND + 2) * ROUND
    workflow = build(path, clock)
    workflow.hooks.subscribe(lambda *_: stirred.set())
    async with workflow:
        while not await _is_over(workflow, stamp(clock.end)):
            await stirred.wait()
            stirred.clear()


async def _is_over(workflow, end):
    """Tell whether both crons have fired at the end, and all runs have settled."""
    runs = {run.correlation_id: run.status for run in await workflow.runs()}
    if f"cron/own/{end}" not in runs or "running" in runs.values():
        return False
    return (await workflow.run("r").state())["seen"][-1] == f"cron/one/{end}"


def stamp(microseconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(microseconds // 1_000_000))


if __name__ == "__main__":
    asyncio.run((serve if sys.argv[1] == "serve" else drain)(sys.argv[2], int(sys.argv[3])))
