"""One event sent while thousands of runs stand idle: nobody pays for those who wait."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread, paired, say
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from pathlib import Path

BAR = 1.2
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class _Look:
    new_run: float
    idle_run: float
    opened: float
    threads: int
    tasks: int


def measure(settings: Settings) -> Report:
    """Compare a store full of idle runs with an empty one."""
    idle = settings.size(10_000, 1_000)
    events = settings.size(300, 30)
    report = Report("Waiting")
    looks: dict[int, list[_Look]] = {0: [], idle: []}
    with settings.folder() as folder:
        full = folder / "full.db"
        say(f"waiting: filling a store with {idle:,} runs")
        asyncio.run(_fill(full, idle))

        def look(path: Path, runs: int) -> float:
            found = asyncio.run(_look(path, runs, events))
            looks[runs].append(found)
            return found.new_run

        def empty() -> float:
            with settings.folder() as other:
                asyncio.run(_fill(other / "empty.db", 0))
                return look(other / "empty.db", 0)

        pairs = paired(settings, empty, lambda: look(full, idle))
    ratio = Spread.of([many / none for none, many in pairs])
    report.add(
        f"waiting: {idle:,} idle runs in the store, one event sent / with an empty store",
        f"{ratio.text('.2f')} times",
        f"< {BAR}",
        met=ratio.median < BAR,
    )
    ratio = Spread.of(
        [many.idle_run / none.idle_run for none, many in zip(looks[0], looks[idle], strict=True)]
    )
    report.add(
        "  the event goes to an idle run that is not in memory",
        f"{ratio.text('.2f')} times",
        f"< {BAR}",
        met=ratio.median < BAR,
    )
    _counts(report, looks[0], looks[idle])
    return report


def _counts(report: Report, none: list[_Look], many: list[_Look]) -> None:
    counts = [(look.threads, look.tasks) for look in (none[-1], many[-1])]
    report.add(
        "  threads and tasks while idle",
        "{} and {}, {} and {} with an empty store".format(*counts[1], *counts[0]),
        "the same",
        met=counts[0] == counts[1],
    )
    for text, looks in (("full", many), ("empty", none)):
        report.notes.append(
            f"{text} store, from sending to settled: {_milli([x.new_run for x in looks])} for a"
            f" new run, {_milli([x.idle_run for x in looks])} for an idle one; entering service"
            f" mode {_milli([x.opened for x in looks])}"
        )


def _milli(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f} ms"


def _workflow(path: Path) -> WorkflowManager:
    workflow = WorkflowManager(path)

    async def note(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["number"] = event.data["number"]

    return workflow.register("note", note)


async def _fill(path: Path, runs: int) -> None:
    workflow = _workflow(path)
    async for _ in workflow.process(WorkflowEvent("note", {"number": 0})):
        pass
    for first in range(0, runs, BATCH):
        await workflow.send_many(
            WorkflowEvent("note", {"number": number}, correlation_id=f"idle-{number}")
            for number in range(first, min(runs, first + BATCH))
        )
        await workflow.resume()
    await workflow.close()


async def _look(path: Path, runs: int, events: int) -> _Look:
    workflow = _workflow(path)
    started = time.perf_counter()
    async with workflow:
        opened = time.perf_counter() - started
        threads, tasks = threading.active_count(), len(asyncio.all_tasks())
        names = [f"new-{time.time_ns()}-{number}" for number in range(events)]
        new_run = await _latency(workflow, names)
    await workflow.close()
    if not runs:
        # Something to send to must exist in the small store too.
        await _fill(path, events)
    workflow = _workflow(path)
    async with workflow:
        # Spread over the whole store.
        stride = max(1, (runs or events) // events)
        idle_run = await _latency(workflow, [f"idle-{n * stride}" for n in range(events)])
    await workflow.close()
    return _Look(new_run, idle_run, opened, threads, tasks)


async def _latency(workflow: WorkflowManager, names: list[str]) -> float:
    """Return the median time from sending an event to its run being settled."""
    times: list[float] = []
    for number, name in enumerate(names):
        started = time.perf_counter()
        event = WorkflowEvent("note", {"number": number})
        async for _ in workflow.process(event, correlation_id=name):
            pass
        times.append(time.perf_counter() - started)
    return statistics.median(times)
