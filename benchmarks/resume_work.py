"""The processes that the resume group starts, kills and times.

``python -m benchmarks.resume_work create|stop|whole|finish STORE RUNS EVENTS``
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STEP = "step"


class Work:
    """Runs of a few events each.

    Args:
        store: path of the database.
        runs: how many runs.
        events: how many events each of them has.
        stop_at: in the handler of this event wait for ever, once all runs have come there.
    """

    def __init__(self, store: str, runs: int, events: int, stop_at: int | None = None) -> None:
        self._runs = runs
        self._events = events
        self._stop_at = stop_at
        self._handled = 0
        self._stopped = 0
        self._done = asyncio.Event()
        # To stop in the middle of every run, all of them have to be at work together.
        self._workflow = WorkflowManager(store, concurrency=runs if stop_at else 256)
        self._workflow.register(STEP, self._step)

    async def _step(self, event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        number = event.data["number"]
        if number == self._stop_at:
            self._stopped += 1
            if self._stopped == self._runs:
                _tell("half")
            await asyncio.Event().wait()
        ctx.state["count"] = number
        if number < self._events:
            yield WorkflowEvent(STEP, {"number": number + 1})
        self._handled += 1
        if 2 * self._handled == self._runs * self._events:
            _tell("half")
        if self._handled == self._runs * self._events:
            self._done.set()

    async def create(self) -> None:
        """Make the database, with one run that is done."""
        last = WorkflowEvent(STEP, {"number": self._events})
        async for _ in self._workflow.process(last, correlation_id="warm-up"):
            pass
        await self._workflow.close()

    async def whole(self) -> None:
        """Start every run, and serve until all are done."""
        async with self._workflow:
            first = {"number": 1}
            await self._workflow.send_many(
                WorkflowEvent(STEP, first, correlation_id=f"run-{number}")
                for number in range(self._runs)
            )
            await self._done.wait()
        await self._workflow.close()

    async def finish(self) -> None:
        """Continue what another process left."""
        resumed = await self._workflow.resume()
        await self._workflow.close()
        _tell(f"resumed {len(resumed)}")


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _main(mode: str, store: str, runs: int, events: int) -> None:
    started = time.perf_counter()
    work = Work(store, runs, events, events // 2 + 1 if mode == "stop" else None)
    job = {"create": work.create, "stop": work.whole, "whole": work.whole, "finish": work.finish}
    await job[mode]()
    _tell(f"seconds {time.perf_counter() - started}")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
