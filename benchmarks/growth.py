"""One run with a growing state: bytes on the disk, and whether late events cost more."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread, say
from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MEGABYTE = 1_000_000
WINDOW = 100
PIECE = 200


@dataclass(frozen=True, slots=True)
class _Growth:
    first: float
    last: float
    open_bytes: int
    closed_bytes: int

    @property
    def ratio(self) -> float:
        return self.last / self.first


def measure(settings: Settings) -> Report:
    """Append 200 bytes to a list in the state with each event, 1,000 and 20,000 times."""
    report = Report("Growth")
    short, long = settings.size(1_000, 300), settings.size(20_000, 2_000)
    results = [_once(settings, short) for _ in range(settings.rounds)]
    size = max(result.open_bytes for result in results)
    name = f"growth: one run, {short:,} events each appending {PIECE} bytes to its state"
    report.add(
        name,
        f"{size / MEGABYTE:.2f} MB with the WAL, largest of {len(results)}",
        "< 3 MB",
        met=size < 3 * MEGABYTE,
    )
    _times(report, f"last {WINDOW} of {short:,} events / first {WINDOW}", results, 1.3)
    say(f"growth: {long:,} events")
    rounds = 1 if settings.quick else min(3, settings.rounds)
    longer = [_once(settings, long) for _ in range(rounds)]
    _times(report, f"last {WINDOW} of {long:,} events / first {WINDOW}", longer, 2.0)
    for count, some in ((short, results), (long, longer)):
        report.notes.append(
            f"{count:,} events: first {_micro([r.first for r in some])}, last"
            f" {_micro([r.last for r in some])} an event; file and WAL"
            f" {max(r.open_bytes for r in some) / MEGABYTE:.2f} MB while open,"
            f" {max(r.closed_bytes for r in some) / MEGABYTE:.2f} MB after close,"
            f" {max(r.closed_bytes for r in some) / count:,.0f} bytes an event"
        )
    report.notes.append(
        "times: medians of the time between two calls of the handler, within one process"
    )
    return report


def _times(report: Report, name: str, results: list[_Growth], bar: float) -> None:
    ratio = Spread.of([result.ratio for result in results])
    report.add(f"  {name}", f"{ratio.text('.2f')} times", f"<= {bar}", met=ratio.median <= bar)


def _micro(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:,.0f} µs"


def _once(settings: Settings, events: int) -> _Growth:
    with settings.folder() as folder:
        return asyncio.run(_grow(folder / "store.db", events))


async def _grow(path: Path, events: int) -> _Growth:
    moments: list[float] = []
    workflow = WorkflowManager(path)

    async def note(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        moments.append(time.perf_counter())
        number = event.data["number"]
        ctx.state.setdefault("notes", []).append(f"{number:0{PIECE}}")
        if number < events:
            yield WorkflowEvent("note", {"number": number + 1})

    workflow.register("note", note)
    async for _ in workflow.process(WorkflowEvent("note", {"number": 1}), correlation_id="one"):
        pass
    kept = (await workflow.run("one").state())["notes"]
    if len(kept) != events or kept[-1] != f"{events:0{PIECE}}":
        message = f"expected {events} notes in the state, found {len(kept)}"
        raise AssertionError(message)
    open_bytes = _bytes(path)
    await workflow.close()
    times = [late - early for early, late in pairwise(moments)]
    return _Growth(
        statistics.median(times[:WINDOW]),
        statistics.median(times[-WINDOW:]),
        open_bytes,
        _bytes(path),
    )


def _bytes(path: Path) -> int:
    # Sizes only: opening the files of a live database would drop SQLite's locks.
    parts = (path, path.with_name(path.name + "-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())
