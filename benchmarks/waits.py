"""Handlers parked in ctx.wait_for: what thousands cost, and how soon each goes on."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Report, Settings, Spread, say
from flowstore import Context, WorkflowEvent, WorkflowManager

MEMORY_BAR = 40.0
WAKE_BAR = 10.0
BATCH = 500


@dataclass(frozen=True, slots=True)
class _Look:
    megabytes: float
    threads: int
    tasks: int
    wakes: list[float]


def measure(settings: Settings) -> Report:
    """Compare a process with thousands of parked runs with one that has none."""
    runs, wakes = settings.size(10_000, 500), settings.size(500, 50)
    report = Report("Waits")
    none: list[_Look] = []
    many: list[_Look] = []
    for _ in range(settings.rounds):
        say(f"waits: parking {runs:,} runs")
        none.append(_in_process(settings, 0, wakes))
        many.append(_in_process(settings, runs, wakes))
    more = Spread.of([b.megabytes - a.megabytes for a, b in zip(none, many, strict=True)])
    report.add(
        f"waits: {runs:,} runs parked in wait_for: memory of the process above none parked",
        more.text(".1f", "MB"),
        f"< {MEMORY_BAR:.0f} MB",
        met=more.median < MEMORY_BAR,
    )
    counts = [(look.threads, look.tasks) for look in (none[-1], many[-1])]
    report.add(
        "  threads and tasks",
        "{} and {}, {} and {} with none parked".format(*counts[1], *counts[0]),
        "the same",
        met=counts[0] == counts[1],
    )
    late = sorted(wake for look in many for wake in look.wakes)
    median, worst = late[len(late) // 2], late[int(len(late) * 0.99)]
    report.add(
        "  from sending the event to the handler's going on behind its wait",
        f"{median:.1f} ms (99 of 100 at most {worst:.1f})",
        f"< {WAKE_BAR:.0f} ms",
        met=worst < WAKE_BAR,
    )
    alone = sorted(wake for look in none for wake in look.wakes)
    report.notes.append(
        f"with no other run parked: {alone[len(alone) // 2]:.1f} ms "
        f"(99 of 100 at most {alone[int(len(alone) * 0.99)]:.1f})"
    )
    return report


def _in_process(settings: Settings, runs: int, wakes: int) -> _Look:
    """Look at a process of its own: memory that another one has used does not count."""
    with settings.folder() as folder:
        command = [sys.executable, "-m", "benchmarks.waits", str(folder / "runs.db")]
        ended = subprocess.run(
            [*command, str(runs), str(wakes)], check=True, capture_output=True, text=True
        )
    megabytes, threads, tasks, *late = ended.stdout.split()
    return _Look(float(megabytes), int(threads), int(tasks), [float(each) for each in late])


# --- in that process -----------------------------------------------------------------------


class _Work:
    def __init__(self, path: Path) -> None:
        self.workflow = WorkflowManager(path)
        self.workflow.register("go", self._go)
        self.woken: asyncio.Event = asyncio.Event()
        self.moment = 0.0

    async def _go(self, event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["request"] = event.data
        ctx.state["asked"] = await ctx.step("ask", _ask)
        approved = await ctx.wait_for("approved", where={"by": "alex"})
        self.moment = time.perf_counter()
        ctx.state["by"] = approved.data["by"]
        self.woken.set()

    async def park(self, names: list[str]) -> None:
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            data = {"text": "please read this", "pages": 12}
            await self.workflow.send_many(
                WorkflowEvent("go", data, correlation_id=name) for name in batch
            )
            for name in batch:
                await self.workflow.run(name).wait()

    async def wake(self, name: str) -> float:
        """Return the milliseconds from sending to going on."""
        self.woken.clear()
        started = time.perf_counter()
        event = WorkflowEvent("approved", {"by": "alex"})
        sending = asyncio.ensure_future(self.workflow.send(event, correlation_id=name))
        await self.woken.wait()
        await sending
        await self.workflow.run(name).wait()
        return 1_000 * (self.moment - started)


async def _ask() -> str:
    return "sent to alex"


async def _look(path: Path, runs: int, wakes: int) -> _Look:
    work = _Work(path)
    async with work.workflow:
        first = [f"first-{number}" for number in range(20)]
        await work.park(first)  # the code is loaded, the caches are warm
        for name in first:
            await work.wake(name)
        names = [f"run-{number}" for number in range(runs)]
        await work.park(names)
        gc.collect()
        memory, threads = _memory(), threading.active_count()
        tasks = len(asyncio.all_tasks())
        if not names:
            names = [f"run-{number}" for number in range(wakes)]
            await work.park(names)
        stride = max(1, len(names) // wakes)
        late = [await work.wake(name) for name in names[::stride][:wakes]]
    await work.workflow.close()
    return _Look(memory, threads, tasks, late)


def _memory() -> float:
    """Return the resident memory in megabytes; where that is unknown, its highest so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


if __name__ == "__main__":
    _found = asyncio.run(_look(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(f"{_found.megabytes} {_found.threads} {_found.tasks} ")
    sys.stdout.write(" ".join(map(str, _found.wakes)))
