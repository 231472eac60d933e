"""Tasks: what one without work costs beside the core's fan-out, and many that only wait."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks import fan_out
from benchmarks.measure import Report, Settings, Spread, paired
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from pathlib import Path

BAR = 0.5
SLEEPERS = 200
SLEEP = 0.1
SLEPT = 0.6
A_RUN = fan_out.EVENTS - 1
"""Tasks of one run: with the event that submits them as many events as a run of the fan-out."""


def measure(settings: Settings) -> Report:
    """Compare tasks of no work with the fan-out of the core, and time tasks that sleep."""
    tasks = settings.size(1_000, 200)
    runs = -(-tasks // A_RUN)
    report = Report("Tasks")

    def core() -> float:
        with settings.folder() as folder:
            return asyncio.run(fan_out.process(folder / "store.db", settings.size(1_000, 300)))

    def ours() -> float:
        with settings.folder() as folder:
            return asyncio.run(_nothing(folder / "store.db", runs))

    pairs = paired(settings, core, ours)
    ratio = Spread.of([mine / base for base, mine in pairs])
    report.add(
        f"tasks: {runs * A_RUN:,} of no work in {runs:,} runs, through process()",
        f"{ratio.text('.2f')} of the core's fan-out",
        f">= {BAR:.2f}",
        met=ratio.median >= BAR,
    )
    speed = Spread.of([mine for _, mine in pairs])
    report.add("  the same", speed.text(unit="events/s"))
    slept: list[float] = []
    for _ in range(settings.rounds):
        with settings.folder() as folder:
            slept.append(asyncio.run(_sleepers(folder / "store.db")))
    seconds = Spread.of(slept)
    report.add(
        f"tasks: {SLEEPERS} of one run, each sleeps {1_000 * SLEEP:.0f} ms: the run has settled",
        seconds.text(".2f", "s"),
        f"< {SLEPT} s",
        met=seconds.median < SLEPT,
    )
    report.notes.append(
        "events are those that submit the tasks and those in which they end; a handler counts"
        " the latter, so each is a transaction of its run"
    )
    return report


class _Work:
    def __init__(self, path: Path) -> None:
        self.workflow = WorkflowManager(path, concurrency=fan_out.AT_ONCE)
        self.nothing = self.workflow.task(_nothing_at_all)
        self.workflow.register("submit", self._submit)
        self.workflow.register("task.completed", self._ended)

    async def _submit(self, event: WorkflowEvent, ctx: Context) -> None:
        for _ in range(event.data["tasks"]):
            ctx.submit(self.nothing, event.data["sleep"])

    async def _ended(self, _event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["count"] = ctx.state.get("count", 0) + 1

    async def run(self, name: str, tasks: int, sleep: float) -> int:
        """Submit tasks in one run, wait for all of it, and return how many events it came to."""
        first = WorkflowEvent("submit", {"tasks": tasks, "sleep": sleep})
        return len([each async for each in self.workflow.process(first, correlation_id=name)])


async def _nothing_at_all(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)


async def _nothing(path: Path, runs: int) -> float:
    work = _Work(path)
    await work.run("warm up", 1, 0.0)
    names = iter([f"run-{number}" for number in range(runs)])
    seen = 0

    async def caller() -> None:
        nonlocal seen
        for name in names:
            events = await work.run(name, A_RUN, 0.0)
            seen += events

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(fan_out.AT_ONCE):
            group.create_task(caller())
    elapsed = time.perf_counter() - started
    await work.workflow.close()
    if seen != runs * (A_RUN + 1):
        message = f"expected {runs * (A_RUN + 1)} events, saw {seen}"
        raise AssertionError(message)
    return seen / elapsed


async def _sleepers(path: Path) -> float:
    work = _Work(path)
    await work.run("warm up", 1, 0.0)
    started = time.perf_counter()
    await work.run("sleepers", SLEEPERS, SLEEP)
    elapsed = time.perf_counter() - started
    await work.workflow.close()
    return elapsed
