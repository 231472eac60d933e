"""Count to ten. Kill it on the way and run it again: it goes on from where it was.

    python examples/count_to_ten.py                # Ctrl-C, kill -9 and power cuts are fine
    python examples/count_to_ten.py --die-at 4     # kills itself with SIGKILL
    flowstore replay count-to-ten --app examples/count_to_ten.py:build    # counts without a pause

The run is kept where FLOWSTORE_URL says, else in ``./flowstore.db``; remove that to begin anew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RUN = "count-to-ten"
LAST = 10


async def say(number: int, pause: float) -> int:
    """Stand in for something slow or costly, such as a request to a paid service."""
    print(f"{number} …", flush=True)
    await asyncio.sleep(pause)
    return number


def build(store: str | None = None, pause: float = 0.3, die_at: int = 0) -> WorkflowManager:
    """Make a workflow whose only handler counts one further."""
    workflow = WorkflowManager(store, name="count-to-ten")

    @workflow.on("count")
    async def count(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        # The step's result is on the disk before it is used: it is never said twice.
        number = await ctx.step("say", say, event.data["number"], pause)
        if number == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        ctx["said"] = [*ctx.get("said", []), number]
        if number < LAST:
            yield WorkflowEvent("count", {"number": number + 1})

    return workflow


async def main() -> None:
    """Begin the run, or go on with it."""
    parser = argparse.ArgumentParser(description="Count to ten, whatever happens.")
    parser.add_argument("--store", help="the database (default FLOWSTORE_URL, else flowstore.db)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds for each number")
    parser.add_argument("--die-at", type=int, default=0, help="kill the process at this number")
    options = parser.parse_args()
    workflow = build(options.store, options.pause, options.die_at)
    # The event's id makes it one and the same event, however often it is sent.
    first = WorkflowEvent("count", {"number": 1})
    async for _ in workflow.process(first, correlation_id=RUN, id="first"):
        pass
    state = await workflow.run(RUN).state()
    print("said so far, each once:", *state["said"])
    await workflow.close()


if __name__ == "__main__":
    # Whoever closes the pipe ends this program like a kill; the run has not failed.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to go on")
