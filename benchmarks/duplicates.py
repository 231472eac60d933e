"""One event sent again and again: what a repeat costs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread
from flowstore import WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

BAR = 20_000
RUN = "one"
BATCH = 1_000


def measure(settings: Settings) -> Report:
    """Send the same event many times, at once, in batches, and one by one."""
    count = settings.size(10_000, 1_000)
    report = Report("Duplicates")
    speed = _speed(settings, _at_once, count)
    report.add(
        f"duplicates: the same event {count:,} times, at once",
        speed.text(unit="events/s"),
        f">= {BAR:,}",
        met=speed.median >= BAR,
    )
    speed = _speed(settings, _batches, count)
    report.add(f"  with send_many, {BATCH:,} a call", speed.text(unit="events/s"))
    few = count // 10
    speed = _speed(settings, _one_by_one, few)
    report.add(f"  one by one, {few:,} times, each awaited", speed.text(unit="events/s"))
    report.notes.append(
        "each repeat is in the ledger of drops, on the disk, before its receipt is given"
    )
    return report


def _event() -> WorkflowEvent:
    return WorkflowEvent("paid", {"amount": 12}, id="payment-1", correlation_id=RUN)


async def _at_once(workflow: WorkflowManager, count: int) -> list[str]:
    receipts = await asyncio.gather(*(workflow.send(_event()) for _ in range(count)))
    return [receipt.status for receipt in receipts]


async def _batches(workflow: WorkflowManager, count: int) -> list[str]:
    statuses: list[str] = []
    for _ in range(0, count, BATCH):
        receipts = await workflow.send_many([_event() for _ in range(BATCH)])
        statuses += [receipt.status for receipt in receipts]
    return statuses


async def _one_by_one(workflow: WorkflowManager, count: int) -> list[str]:
    return [(await workflow.send(_event())).status for _ in range(count)]


def _speed(
    settings: Settings,
    send: Callable[[WorkflowManager, int], Coroutine[None, None, list[str]]],
    count: int,
) -> Spread:
    def once() -> float:
        with settings.folder() as folder:
            return asyncio.run(_measure(folder / "store.db", send, count))

    return Spread.of([once() for _ in range(settings.rounds)])


async def _measure(
    path: Path,
    send: Callable[[WorkflowManager, int], Coroutine[None, None, list[str]]],
    count: int,
) -> float:
    workflow = WorkflowManager(path)
    handled = 0

    async def pay(event: WorkflowEvent) -> None:
        nonlocal handled
        handled += event.id == "payment-1"

    workflow.register("paid", pay)
    async with workflow:
        await workflow.send(_event())
        started = time.perf_counter()
        statuses = await send(workflow, count)
        elapsed = time.perf_counter() - started
        await workflow.run(RUN).wait()
    await workflow.close()
    if statuses != ["duplicate"] * count or handled != 1:
        message = f"a repeat was not refused; the handler ran {handled} times"
        raise AssertionError(message)
    return count / elapsed
