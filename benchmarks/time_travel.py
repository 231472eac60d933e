"""The state that a run had: as fast in a long run as in a short one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread, paired, say
from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAR = 1.2
READS = 50


def measure(settings: Settings) -> Report:
    """Look at one position after another, through the command and without starting Python."""
    short, long = 1_000, settings.size(100_000, 3_000)
    report = Report("Time travel")
    with settings.folder() as folder:
        places: dict[int, Path] = {}
        for events in (short, long):
            say(f"time travel: making a run of {events:,} events")
            places[events] = folder / f"{events}.db"
            asyncio.run(_make(places[events], events))
        name = f"flowstore state RUN --at N, run of {long:,} / {short:,} events"
        _compare(settings, report, f"time travel: {name}", _command, places)
        _compare(settings, report, "  the read alone", _read, places)
    return report


def _compare(
    settings: Settings,
    report: Report,
    title: str,
    look: Callable[[Path, int], float],
    places: dict[int, Path],
) -> None:
    short, long = places
    pairs = paired(settings, lambda: look(places[short], short), lambda: look(places[long], long))
    ratio = Spread.of([slow / fast for fast, slow in pairs])
    report.add(title, f"{ratio.text('.2f')} times", f"< {BAR}", met=ratio.median < BAR)
    middle = Spread.of([1000 * slow for _, slow in pairs])
    report.notes.append(f"{title.strip()}: {middle.text('.1f')} ms in the long run")


async def _make(path: Path, events: int) -> None:
    """Make one run whose state has a count, a text that changes and a list of 20."""
    workflow = WorkflowManager(f"sqlite:///{path}?synchronous=NORMAL")

    @workflow.on("add")
    async def add(event: WorkflowEvent, ctx: Context) -> None:
        number = event.data["number"]
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        ctx.state["last"] = f"event {number}"
        ctx.state["recent"] = [*ctx.state.get("recent", [])[-19:], number]

    async with workflow:
        for start in range(0, events, 1_000):
            await workflow.send_many(
                WorkflowEvent("add", {"number": number}, correlation_id="run")
                for number in range(start, start + 1_000)
            )
        await workflow.run("run").wait()


def _positions(events: int) -> list[int]:
    """Return places all over the run, the same share of the way in each."""
    return [max(1, events * step // 10 - 7) for step in range(1, 11)]


def _command(path: Path, events: int) -> float:
    started = time.perf_counter()
    for position in _positions(events)[::3]:
        words = ["state", "run", "--at", str(position), "--store", str(path), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "flowstore.cli", *words],
            capture_output=True,
            check=True,
            text=True,
        )
        if f'"last": "event {position - 1}"' not in done.stdout:
            raise AssertionError(done.stdout)
    return (time.perf_counter() - started) / len(_positions(events)[::3])


def _read(path: Path, events: int) -> float:
    async def look() -> float:
        queries = open_queries(StoreUrl(path))
        await queries.read_state("run", at=1)
        started = time.perf_counter()
        for _ in range(READS // 10):
            for position in _positions(events):
                await queries.read_state("run", at=position)
        return (time.perf_counter() - started) / READS

    return asyncio.run(look())
