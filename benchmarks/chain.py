"""One run whose handler emits the next event: what one durable event costs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks import bare
from benchmarks.measure import Report, Settings, Spread, paired
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BAR = 0.50


def measure(settings: Settings) -> Report:
    """Compare a chain of events with bare sqlite3, one transaction an event."""
    events = settings.size(1_000, 200)

    def ours() -> float:
        with settings.folder() as folder:
            return asyncio.run(_chain(folder / "store.db", events))

    def theirs() -> float:
        with settings.folder() as folder:
            return bare.chain(folder / "bare.db", events)

    pairs = paired(settings, theirs, ours)
    ratio = Spread.of([mine / base for base, mine in pairs])
    report = Report("Chain")
    report.add(
        f"chain: one run, {events:,} events one after another",
        f"{ratio.text('.2f')} of bare sqlite3",
        f">= {BAR:.2f}",
        met=ratio.median >= BAR,
    )
    report.notes += [
        f"flowstore: {Spread.of([mine for _, mine in pairs]).text()} events/s",
        (
            "bare sqlite3, one transaction an event:"
            f" {Spread.of([base for base, _ in pairs]).text()} events/s"
        ),
    ]
    return report


async def _chain(path: Path, events: int) -> float:
    workflow = WorkflowManager(path)

    async def step(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        number = event.data["number"]
        ctx.state["count"] = number
        if number < events:
            yield WorkflowEvent("step", {"number": number + 1})

    workflow.register("step", step)
    # The store is opened by the first event; the bare connection is open as well.
    async for _ in workflow.process(WorkflowEvent("step", {"number": events})):
        pass
    started = time.perf_counter()
    seen = 0
    async for _ in workflow.process(WorkflowEvent("step", {"number": 1})):
        seen += 1
    elapsed = time.perf_counter() - started
    await workflow.close()
    if seen != events:
        message = f"expected {events} events, saw {seen}"
        raise AssertionError(message)
    return events / elapsed
