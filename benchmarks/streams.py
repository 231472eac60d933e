"""Streams: what recording one costs, beside the same chunks through a queue to the same reader."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.measure import Report, Settings, Spread, paired
from flowstore import WorkflowEvent, WorkflowManager
from flowstore.store.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BAR = 2.0
MOST_TRANSACTIONS = 400


def measure(settings: Settings) -> Report:
    """Compare a recorded stream with one that is not."""
    chunks = settings.size(10_000, 1_000)
    report = Report("Streams")
    transactions: list[int] = []

    def recorded(*, waits: bool = True) -> float:
        with settings.folder() as folder, _counted(transactions):
            return asyncio.run(_recorded(folder / "runs.db", _chunks(chunks, waits=waits), chunks))

    def unrecorded(*, waits: bool = True) -> float:
        with settings.folder() as folder:
            path = folder / "runs.db"
            return asyncio.run(_unrecorded(path, _chunks(chunks, waits=waits), chunks))

    pairs = paired(settings, unrecorded, recorded)
    ratio = Spread.of([one / other for other, one in pairs])
    report.add(
        f"streams: {chunks:,} small chunks, handler to caller / through a queue, unrecorded",
        f"{ratio.text('.2f')} times",
        f"<= {BAR:.0f}",
        met=ratio.median <= BAR,
    )
    report.add(
        "  transactions in all",
        f"{max(transactions):,} at most",
        f"< {MOST_TRANSACTIONS}",
        met=max(transactions) < MOST_TRANSACTIONS,
    )
    greedy = paired(settings, partial(unrecorded, waits=False), partial(recorded, waits=False))
    ratio = Spread.of([one / other for other, one in greedy])
    report.add(
        "  from an iterator that never waits",
        f"{ratio.text('.2f')} times",
        f"<= {BAR:.0f}",
        met=ratio.median <= BAR,
    )
    for text, times in (
        ("recorded", [one for _, one in pairs]),
        ("through a queue", [other for other, _ in pairs]),
    ):
        speed = Spread.of([1_000_000 * seconds / chunks for seconds in times])
        report.notes.append(f"{text}: {speed.text('.1f', 'µs')} a chunk")
    report.notes.append(
        "both: the same run in a new file, its events recorded; from sending the event to the end "
        "of `process`, every chunk read by the caller as it comes. The iterator lets others have "
        "their turn before each chunk, as one does that waits for a model"
    )
    return report


async def _chunks(count: int, *, waits: bool) -> AsyncIterator[str]:
    for number in range(count):
        if waits:
            await asyncio.sleep(0)
        yield f"word {number} "


async def _recorded(path: Path, chunks: AsyncIterator[str], count: int) -> float:
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(_event: WorkflowEvent) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent("stream", {"stream": chunks})
        yield WorkflowEvent("done")

    await _warm(workflow)
    started = time.perf_counter()
    seen = 0
    async for event in workflow.process(WorkflowEvent("go")):
        if event.name == "stream":
            async for _ in event.data["stream"]:
                seen += 1
    return _time(started, seen, count)


async def _unrecorded(path: Path, chunks: AsyncIterator[str], count: int) -> float:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(_event: WorkflowEvent) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent.progress("stream", "It begins")
        async for chunk in chunks:
            await queue.put(chunk)
        await queue.put(None)
        yield WorkflowEvent("done")

    await _warm(workflow)
    started = time.perf_counter()
    seen = 0
    async for event in workflow.process(WorkflowEvent("go")):
        if event.name == "progress":
            while await queue.get() is not None:
                seen += 1
    return _time(started, seen, count)


async def _warm(workflow: WorkflowManager) -> None:
    """Make the file, and start the writer."""
    async for _ in workflow.process(WorkflowEvent("nothing")):
        pass


def _time(started: float, seen: int, count: int) -> float:
    taken = time.perf_counter() - started
    if seen != count:
        message = f"{seen:,} of {count:,} chunks were seen"
        raise RuntimeError(message)
    return taken


@contextmanager
def _counted(transactions: list[int]) -> Iterator[None]:
    """Count the transactions of the store that is used meanwhile."""
    carry_out, count = Session.carry_out, 0

    def counting(session: Session, operations: list[object]) -> object:
        nonlocal count
        count += 1
        return carry_out(session, operations)  # type: ignore[arg-type]

    with mock.patch.object(Session, "carry_out", counting):
        yield
    transactions.append(count)
