"""Feed a process log as events, one run a case, and sum up what the runs have come to.

    python examples/case_log.py FILE [--store flowstore.db] [--json]

FILE is JSON lines, also gzipped. Each line is an object with ``id``, ``case``, ``activity`` and
``time`` (ISO 8601 with an offset), and may have a ``resource`` and anything else. Kill it and
run it again: what was interrupted goes on, and lines that are known are refused as duplicates.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import statistics
import sys
import textwrap
import time
import zlib
from array import array
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from flowstore import Context, Receipt, WorkflowEvent, WorkflowManager
from flowstore.errors import FlowstoreError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT_EVERY = 20
"""Batches from one report of progress to the next."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class LineError(Exception):
    """A line of the log is not an event."""


# --- what happens to a case ---------------------------------------------------------------


class Window:
    """How many events have been sent and not handled, so that a reader does not run ahead."""

    def __init__(self) -> None:
        self._under_way = 0
        self._stirred = asyncio.Event()

    def enter(self, events: int) -> None:
        """Take note that events are sent."""
        self._under_way += events

    def leave(self, events: int = 1) -> None:
        """Take note that events have been handled or refused."""
        self._under_way = max(0, self._under_way - events)
        self._stirred.set()

    async def below(self, events: int) -> None:
        """Return when fewer events than this are under way."""
        while self._under_way >= events:
            self._stirred.clear()
            try:
                await asyncio.wait_for(self._stirred.wait(), timeout=1.0)
            except TimeoutError:
                self._under_way = 0  # another process handles them


def build(store: str | None, window: Window) -> WorkflowManager:
    """Make the workflow: what each case keeps as its state."""
    workflow = WorkflowManager(store, name="case-log", concurrency=1_024)

    @workflow.on("activity")
    async def fold(event: WorkflowEvent, ctx: Context) -> None:
        row, case = event.data, ctx.state
        path = case.setdefault("path", [])
        resource = row.get("resource")
        if path and resource != case["resource"]:
            case["hand_overs"] += 1
        moment = microseconds(row["time"])
        case.setdefault("hand_overs", 0)
        case["resource"] = resource
        case["first"] = min(moment, case.get("first", moment))
        case["last"] = max(moment, case.get("last", moment))
        path.append(row["activity"])
        window.leave()

    return workflow


def workflow() -> WorkflowManager:
    """Make the workflow for commands that call its handlers again, such as ``flowstore check``."""
    return build(None, Window())


def microseconds(text: str) -> int:
    """Turn a time with an offset into microseconds since 1970, exactly."""
    return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND


# --- from the file to the store -----------------------------------------------------------


class Line(NamedTuple):
    """A line of the log as an event."""

    number: int
    event: WorkflowEvent


def parse(text: bytes) -> WorkflowEvent:
    """Turn a line into an event; raise ValueError if it cannot be one."""
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - all that is wrong is one error
    for key in ("id", "case", "activity", "time"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise ValueError(f"{key!r} must be a text that is not empty")
    if datetime.fromisoformat(row["time"]).tzinfo is None:
        raise ValueError("'time' has no offset from UTC")
    identity, case = row.pop("id"), row.pop("case")
    return WorkflowEvent("activity", row, id=identity, correlation_id=case)


def read(log: Path) -> Iterator[Line]:
    """Read the log line by line; raise LineError where it is damaged."""
    number = 0
    opened = gzip.open if log.suffix == ".gz" else open
    try:
        with opened(log, "rb") as lines:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    yield Line(number, parse(text))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LineError(f"{log}: damaged after line {number}: {error}") from error
    except ValueError as error:
        raise LineError(f"{log}, line {number}: {error}") from error


def batches(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Gather lines; what stands before a damaged line is handed out before the error."""
    batch: list[Line] = []
    try:
        for line in lines:
            batch.append(line)
            if len(batch) == size:
                yield batch
                batch = []
    except LineError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class Feed:
    """Sends a log to the store, two batches ahead of the handlers at most.

    Args:
        workflow: where the events go.
        window: what its handler tells of events that are done.
        log: the file; messages name it.
        size: how many lines are sent together.
    """

    def __init__(self, workflow: WorkflowManager, window: Window, log: Path, size: int) -> None:
        self._workflow = workflow
        self._window = window
        self._log = log
        self._size = size
        self._started = time.monotonic()
        self.lines = 0
        self.duplicates = 0

    async def run(self) -> None:
        """Send every line while the workflow handles what has been sent."""
        async with self._workflow:
            for batch in batches(read(self._log), self._size):
                self._count(await self._send(batch))
                await self._window.below(2 * self._size)
            await self._window.below(1)

    async def _send(self, batch: list[Line]) -> list[Receipt]:
        self._window.enter(len(batch))
        try:
            return await self._workflow.send_many([line.event for line in batch])
        except InvalidValueError:
            # Nothing of the batch was sent. Find the line; what stands before it stays.
            for line in batch:
                try:
                    await self._workflow.send(line.event)
                except InvalidValueError as error:
                    raise LineError(f"{self._log}, line {line.number}: {error}") from error
            raise

    def _count(self, receipts: list[Receipt]) -> None:
        duplicates = sum(receipt.status == "duplicate" for receipt in receipts)
        self._window.leave(duplicates)
        self.lines += len(receipts)
        self.duplicates += duplicates
        if self.lines % (REPORT_EVERY * self._size) == 0:
            speed = self.lines / (time.monotonic() - self._started)
            tell(f"{self.lines:,} lines, {speed:,.0f} a second")


# --- from the store to the summary --------------------------------------------------------


class Summary:
    """What all cases have in common; holds counts, not cases."""

    def __init__(self) -> None:
        self.cases = 0
        self.events = 0
        self.hand_overs = 0
        self.paths: Counter[tuple[str, ...]] = Counter()
        self._open_times = array("q")  # eight bytes a case, for the median

    def add(self, case: dict[str, Any]) -> None:
        """Take in the state of a case."""
        self.cases += 1
        self.events += len(case["path"])
        self.hand_overs += case["hand_overs"]
        self.paths[tuple(case["path"])] += 1
        self._open_times.append(case["last"] - case["first"])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them; times are microseconds."""
        times = self._open_times
        frequent = sorted(self.paths.items(), key=lambda item: (-item[1], item[0]))[:5]
        return {
            "cases": self.cases,
            "events": self.events,
            "hand_overs": self.hand_overs,
            "different_paths": len(self.paths),
            "open_time": {
                "shortest": min(times, default=None),
                "median": statistics.median_low(times) if times else None,
                "mean": sum(times) // len(times) if times else None,
                "longest": max(times, default=None),
                "total": sum(times),
            },
            "paths": [{"cases": count, "path": list(path)} for path, count in frequent],
        }


async def sum_up(workflow: WorkflowManager) -> Summary:
    """Read the state of every case, some at a time."""
    summary = Summary()
    async for _, case in workflow.states():
        summary.add(case)
    return summary


def text_of(figures: dict[str, Any]) -> str:
    """Write the figures for people."""
    lines = [
        f"cases         {figures['cases']:,}",
        f"events        {figures['events']:,}",
        f"duplicates    {figures['duplicates']:,} refused of {figures['lines']:,} lines now",
        f"hand-overs    {figures['hand_overs']:,}",
        "open time     "
        + ", ".join(
            f"{name} {timedelta(microseconds=figures['open_time'][name])}"
            for name in ("shortest", "median", "mean", "longest")
            if figures["cases"]
        ),
        f"paths         {figures['different_paths']:,}, the most frequent:",
    ]
    for item in figures["paths"]:
        path = " > ".join(item["path"])
        lines.append(f"  {item['cases']:7,}   {textwrap.shorten(path, 90, placeholder=' ...')}")
    return "\n".join(lines)


def tell(text: str) -> None:
    """Show progress where it does not mix with the summary."""
    print(text, file=sys.stderr, flush=True)


async def feed_and_sum_up(log: Path, store: str | None, size: int) -> dict[str, Any]:
    """Go on with interrupted cases, feed the log, and return the figures."""
    window = Window()
    workflow = build(store, window)
    try:
        interrupted = await workflow.resume()
        if interrupted:
            tell(f"{len(interrupted):,} interrupted cases went on")
        feed = Feed(workflow, window, log, size)
        await feed.run()
        await workflow.resume()
        for case in await workflow.runs(status="running"):
            await workflow.run(case.correlation_id).wait()  # another process has it
        summary = await sum_up(workflow)
    finally:
        await workflow.close()
    return {"lines": feed.lines, "duplicates": feed.duplicates, **summary.as_dict()}


def main() -> int:
    """Read the command line and print the summary."""
    parser = argparse.ArgumentParser(description="Feed a process log, one run a case.")
    parser.add_argument("file", type=Path, help="JSON lines, may be gzipped")
    parser.add_argument("--store", help="default FLOWSTORE_URL, else ./flowstore.db")
    parser.add_argument("--batch", type=int, default=500, help="lines sent together")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error(f"argument --batch: {options.batch} lines cannot be sent; give 1 or more")
    gc.freeze()  # what the imports made is no garbage: searching it anew takes a tenth of the time
    try:
        figures = asyncio.run(feed_and_sum_up(options.file, options.store, options.batch))
    except (LineError, FlowstoreError, OSError) as error:
        tell(f"error: {error}")
        return 1
    print(json.dumps(figures) if options.json else text_of(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
