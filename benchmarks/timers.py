"""Timers: how late one fires, and what setting and firing one costs, beside thousands of others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread, paired, say
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from pathlib import Path

BAR = 20.0
FLAT = 1.2
A_RUN = 1_000
AHEAD = 0.03
YEAR = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Look:
    late: list[float]
    each: float


def measure(settings: Settings) -> Report:
    """Compare a store full of timers with an empty one."""
    timers = settings.size(100_000, 2_000)
    single, together = settings.size(100, 10), settings.size(2_000, 200)
    report = Report("Timers")
    late: list[float] = []
    with settings.folder() as folder:
        full = folder / "full.db"
        say(f"timers: filling a store with {timers:,} timers")
        asyncio.run(_fill(full, timers))

        def with_many() -> float:
            look = asyncio.run(_look(full, single, together))
            late.extend(look.late)
            return look.each

        def with_none() -> float:
            with settings.folder() as other:
                return asyncio.run(_look(other / "empty.db", single, together)).each

        pairs = paired(settings, with_none, with_many)
    late.sort()
    median, worst = late[len(late) // 2], late[int(len(late) * 0.99)]
    report.add(
        f"timers: {timers:,} in the store, one comes due: its handler is called",
        f"{median:.1f} ms late (99 of 100 at most {worst:.1f})",
        f"< {BAR:.0f} ms",
        met=worst < BAR,
    )
    ratio = Spread.of([many / none for none, many in pairs])
    report.add(
        f"  {together:,} due at once: setting and firing one / with an empty store",
        f"{ratio.text('.2f')} times",
        f"< {FLAT}",
        met=ratio.median < FLAT,
    )
    speed = Spread.of([1_000_000 * many for _, many in pairs])
    report.notes.append(
        f"from sending the event that sets them to the last call of the handler, not to its commit:"
        f" {speed.text(unit='µs')} a timer"
    )
    return report


class _Work:
    def __init__(self, path: Path) -> None:
        self.workflow = WorkflowManager(path)
        self.late: list[float] = []
        self.missing = 0
        self.done = asyncio.Event()
        self.workflow.register("set", self._set)
        self.workflow.register("due", self._due)

    async def _set(self, event: WorkflowEvent, ctx: Context) -> None:
        for delay in event.data["delays"]:
            due = time.time() + delay
            ctx.schedule(WorkflowEvent("due", {"at": due}), delay=delay)

    async def _due(self, event: WorkflowEvent) -> None:
        self.late.append(1_000 * (time.time() - event.data["at"]))
        self.missing -= 1
        if not self.missing:
            self.done.set()

    async def fire(self, delays: list[float]) -> None:
        """Set timers in a run of their own, and wait until all have been handled."""
        self.missing = len(delays)
        self.done.clear()
        await self.workflow.send(WorkflowEvent("set", {"delays": delays}))
        await self.done.wait()


async def _fill(path: Path, timers: int) -> None:
    work = _Work(path)
    async with work.workflow:
        for _ in range(0, timers, A_RUN):
            receipt = await work.workflow.send(WorkflowEvent("set", {"delays": [YEAR] * A_RUN}))
            await work.workflow.run(receipt.correlation_id).wait()


async def _look(path: Path, single: int, together: int) -> _Look:
    work = _Work(path)
    async with work.workflow:
        await work.fire([0.0])
        work.late.clear()
        for _ in range(single):
            await work.fire([AHEAD])
        late = list(work.late)
        started = time.perf_counter()
        await work.fire([0.0] * together)
        return _Look(late, (time.perf_counter() - started) / together)
