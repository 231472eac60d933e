"""Many runs at once: what the group commit makes of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks import bare
from benchmarks.measure import Report, Settings, Spread, paired
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

BAR = 0.30
SPEED = 10_000
EVENTS = 10
AT_ONCE = 256
BATCH = 100


def measure(settings: Settings) -> Report:
    """Compare many short runs with bare sqlite3 in transactions of 100 events."""
    runs = settings.size(1_000, 300)
    report = Report("Fan-out")
    for title, work in (("through process()", process), ("send in service mode", _serve)):
        _compare(settings, report, runs, title, work)
    report.notes.append(
        "'executemany' hands each statement to the driver once for all 100 events of a"
        " transaction, 'execute' once for each event; the bar is held against the faster."
    )
    return report


def _compare(
    settings: Settings,
    report: Report,
    runs: int,
    title: str,
    work: Callable[[Path, int], Coroutine[None, None, float]],
) -> None:
    def ours() -> float:
        with settings.folder() as folder:
            return asyncio.run(work(folder / "store.db", runs))

    singles: list[float] = []

    def theirs() -> float:
        with settings.folder() as folder:
            singles.append(
                bare.fan_out(folder / "single.db", runs, EVENTS, batch=BATCH, together=False)
            )
            return bare.fan_out(folder / "many.db", runs, EVENTS, batch=BATCH, together=True)

    pairs = paired(settings, theirs, ours)
    ratio = Spread.of([mine / base for base, mine in pairs])
    speed = Spread.of([mine for _, mine in pairs])
    name = f"fan-out: {runs:,} runs of {EVENTS} events, {AT_ONCE} at a time, {title}"
    report.add(
        name, f"{ratio.text('.2f')} of bare sqlite3", f">= {BAR:.2f}", met=ratio.median >= BAR
    )
    single = Spread.of([mine / base for (_, mine), base in zip(pairs, singles, strict=True)])
    report.add("  the same, bare sqlite3 statement by statement", f"{single.text('.2f')} of it")
    report.add(
        "  the same", speed.text(unit="events/s"), f">= {SPEED:,}", met=speed.median >= SPEED
    )
    report.notes.append(
        f"{title}: bare sqlite3 with executemany"
        f" {Spread.of([base for base, _ in pairs]).text()} events/s,"
        f" with execute {Spread.of(singles).text()} events/s"
    )


class _Work:
    """The workflow, and who waits for a run to come to its last event."""

    def __init__(self, path: Path) -> None:
        self.workflow = WorkflowManager(path, concurrency=AT_ONCE)
        self.workflow.register("step", self._step)
        self.ends: dict[str, asyncio.Future[None]] = {}

    async def _step(self, event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        number = event.data["number"]
        ctx.state["count"] = number
        if number < EVENTS:
            yield WorkflowEvent("step", {"number": number + 1})
        elif ctx.correlation_id in self.ends:
            self.ends[ctx.correlation_id].set_result(None)

    async def warm_up(self) -> None:
        """Open the store; the bare connection is open as well."""
        async for _ in self.workflow.process(WorkflowEvent("step", {"number": EVENTS})):
            pass


async def process(path: Path, runs: int) -> float:
    """Run them through `process`, so many at a time; return events in a second."""
    work = _Work(path)
    await work.warm_up()
    names = iter([f"run-{number}" for number in range(runs)])
    seen = 0

    async def caller() -> None:
        nonlocal seen
        for name in names:
            first = WorkflowEvent("step", {"number": 1})
            async for _ in work.workflow.process(first, correlation_id=name):
                seen += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    elapsed = time.perf_counter() - started
    await work.workflow.close()
    return _speed(seen, runs, elapsed)


async def _serve(path: Path, runs: int) -> float:
    work = _Work(path)
    await work.warm_up()
    names = iter([f"run-{number}" for number in range(runs)])
    loop = asyncio.get_running_loop()

    async def sender() -> None:
        for name in names:
            work.ends[name] = loop.create_future()
            await work.workflow.send(WorkflowEvent("step", {"number": 1}), correlation_id=name)
            await work.ends[name]

    async with work.workflow:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(sender())
        # Commits are made in order: behind these two, the last handler's is on the disk.
        for _ in range(2):
            await work.workflow.send(WorkflowEvent("end"))
        elapsed = time.perf_counter() - started
    records = await work.workflow.runs(status="idle")
    await work.workflow.close()
    handled = sum(run.cursor for run in records if run.correlation_id in work.ends)
    return _speed(handled, runs, elapsed)


def _speed(events: int, runs: int, elapsed: float) -> float:
    if events != runs * EVENTS:
        message = f"expected {runs * EVENTS} events, saw {events}"
        raise AssertionError(message)
    return events / elapsed
