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
    for title, work in (("through process()", _process), ("send in service mode", _serve)):
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
    report.add(
        "  the same", speed.text(unit="events/s"), f">= {SPEED:,}", met=speed.median >= SPEED
    )
    report.notes.append(
        f"{title}: bare sqlite3 with executemany"
        f" {Spread.of([base for base, _ in pairs]).text()} events/s,"
        f" with execute {Spread.of(singles).text()} events/s"
    )


def _workflow(path: Path) -> WorkflowManager:
    workflow = WorkflowManager(path, concurrency=AT_ONCE)

    async def step(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        number = event.data["number"]
        ctx.state["count"] = number
        if number < EVENTS:
            yield WorkflowEvent("step", {"number": number + 1})

    return workflow.register("step", step)


async def _warm_up(workflow: WorkflowManager) -> None:
    async for _ in workflow.process(WorkflowEvent("step", {"number": EVENTS})):
        pass


async def _process(path: Path, runs: int) -> float:
    workflow = _workflow(path)
    await _warm_up(workflow)
    names = iter([f"run-{number}" for number in range(runs)])
    seen = 0

    async def caller() -> None:
        nonlocal seen
        for name in names:
            first = WorkflowEvent("step", {"number": 1})
            async for _ in workflow.process(first, correlation_id=name):
                seen += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    elapsed = time.perf_counter() - started
    await workflow.close()
    return _speed(seen, runs, elapsed)


async def _serve(path: Path, runs: int) -> float:
    workflow = _workflow(path)
    await _warm_up(workflow)
    names = iter([f"run-{number}" for number in range(runs)])
    handled = 0

    async def sender() -> None:
        nonlocal handled
        for name in names:
            await workflow.send(WorkflowEvent("step", {"number": 1}), correlation_id=name)
            record = await workflow.run(name).wait()
            handled += record.cursor

    async with workflow:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(sender())
        elapsed = time.perf_counter() - started
    await workflow.close()
    return _speed(handled, runs, elapsed)


def _speed(events: int, runs: int, elapsed: float) -> float:
    if events != runs * EVENTS:
        message = f"expected {runs * EVENTS} events, saw {events}"
        raise AssertionError(message)
    return events / elapsed
