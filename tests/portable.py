"""Runs that have a bit of everything, and what it means that a file gives them back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.replay import read_file, write_file
from flowstore.replay.portable.kinds import KINDS
from flowstore.store.base import Restore
from flowstore.store.readonly import open_queries
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from flowstore.store.archive import Archive

PARTS = [kind.part for kind in KINDS.values()]


async def archives_of(path: Path) -> list[Archive]:
    """Return all runs of a store, the oldest first."""
    queries = open_queries(StoreUrl(path))
    names = [run.correlation_id for run in await queries.list_runs()]
    return await queries.read_archives(names[::-1])


async def restore(path: Path, archives: Sequence[Archive]) -> None:
    """Put runs into a store."""
    store = SQLiteStore(StoreUrl(path))
    await store.perform(Restore(archives))
    await store.close()


def told(archive: Archive) -> dict[str, Any]:
    """Return all of a run but the ids that its database gives, and its workers."""
    run = replace(archive.run, id=0, owner=None)
    tasks = [row._replace(run_id=0, owner=None) for row in archive.tasks]
    parts = {part: [row[1:] for row in getattr(archive, part)] for part in PARTS}
    events = [event[1:] for event in archive.events]
    return {"run": run, "events": events, "hashes": archive.hashes, **parts, "tasks": tasks}


async def check_round_trip(path: Path, folder: Path) -> list[Archive]:
    """Export a store, import that and export it again; return what was read from the file."""
    before = await archives_of(path)
    one, other, copy = folder / "one.jsonl", folder / "other.jsonl", folder / "copy.db"
    write_file(one, before, force=True)
    read = read_file(one)
    assert list(map(told, read)) == list(map(told, before))
    copy.unlink(missing_ok=True)
    await restore(copy, read)
    after = await archives_of(copy)
    assert list(map(told, after)) == list(map(told, before))
    write_file(other, after, force=True)
    assert other.read_bytes() == one.read_bytes()
    return read


# --- handlers that do what their events say ------------------------------------------------------


class Wrong(Exception):  # noqa: N818 - it is short
    """What handlers and steps raise."""


async def step(value: Any) -> Any:
    if value == "fail":
        raise Wrong("the step")
    return value


async def words(values: list[Any]) -> AsyncIterator[Any]:
    for value in values:
        await asyncio.sleep(0)
        yield value


def submitted(value: Any) -> Any:
    if value == "fail":
        raise Wrong("the task")
    return value


class Doing:
    """What a handler can do, each by its name."""

    def __init__(self, workflow: WorkflowManager) -> None:
        self.task = workflow.task(submitted, retry=Retry(attempts=2, delay=0))

    async def set(self, value: Any, ctx: Context) -> None:
        ctx.state[str(value)[:8]] = value

    async def grow(self, value: Any, ctx: Context) -> None:
        ctx.state["text"] = ctx.state.get("text", "") + str(value)

    async def big(self, value: Any, ctx: Context) -> None:
        ctx.state["big"] = [len(ctx.state), str(value) * 2000]

    async def list(self, value: Any, ctx: Context) -> None:
        ctx.state.setdefault("list", []).append(value)

    async def step(self, value: Any, ctx: Context) -> None:
        ctx.state["step"] = await ctx.step("a step", step, value)

    async def emit(self, value: Any, _ctx: Context) -> WorkflowEvent:
        return WorkflowEvent("other", value, {"of": value})

    async def progress(self, value: Any, _ctx: Context) -> WorkflowEvent:
        return WorkflowEvent.progress("go", str(value))

    async def stream(self, value: Any, _ctx: Context) -> WorkflowEvent:
        return WorkflowEvent("stream", {"words": words([value, "a", value])})

    async def submit(self, value: Any, ctx: Context) -> None:
        ctx.submit(self.task, value)

    async def external(self, _value: Any, ctx: Context) -> None:
        ctx.state["token"] = ctx.submit_external("asked", timeout=3600)

    async def later(self, value: Any, ctx: Context) -> None:
        ctx.schedule(WorkflowEvent("other", value), delay=3600, key=str(value))

    async def wait(self, _value: Any, ctx: Context) -> None:
        ctx.state["waited"] = (await ctx.wait_for("other", timeout=3600)).data

    async def fail(self, value: Any, _ctx: Context) -> None:
        raise Wrong(str(value))

    async def drop(self, _value: Any, ctx: Context) -> None:
        ctx.drop("not wanted")

    async def complete(self, value: Any, ctx: Context) -> None:
        ctx.complete(value)


def build(path: Path) -> WorkflowManager:
    """Make a workflow whose handler of ``go`` does what the event's data lists."""
    workflow = WorkflowManager(path)
    doing = Doing(workflow)

    @workflow.on("go", retry=Retry(attempts=2, delay=0))
    async def go(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        for what, value in event.data:
            emitted = await getattr(doing, what)(value, ctx)
            if emitted is not None:
                yield emitted

    @workflow.on("other")
    async def other(_event: WorkflowEvent, ctx: Context) -> None:
        both = ctx.collect("both", ["other", "other"])
        ctx.state["seen"] = ctx.state.get("seen", 0) + (both is not None)

    return workflow


VALUES: list[Any] = [
    None, True, 0, -7, 2**62, 1.5, -0.0, 1e300, "", "fail", "ann@example.org", 'a "b" \\ c\n\u2028',
    "\u00e9\U0001f600", [1, [2, {}]], {"a": {"b": [None, "x" * 70]}}, ["ann@example.org"],
]  # fmt: skip
WORK = [name for name in vars(Doing) if not name.startswith("_")]


async def live(path: Path, runs: dict[str, list[list[list[Any]]]]) -> None:
    """Send each run its events, twice the last of them, and let them be handled."""
    workflow = build(path)
    async with workflow:
        for name, events in runs.items():
            for number, operations in enumerate(events):
                for _ in range(1 + (number == len(events) - 1)):
                    event = WorkflowEvent("go", operations, {"user": "ann@example.org"})
                    await workflow.send(event, correlation_id=name, id=f"<{number}@example.org>")
                await workflow.run(name).wait(timeout=30)
            await workflow.send(WorkflowEvent("unheard", name), correlation_id=name)
    await workflow.close()


EVERYTHING = {
    "all": [
        [
            ["set", "ann@example.org"], ["grow", "long enough to be extended: ann@"],
            ["list", "ann@example.org"], ["step", {"email": "ann@example.org", "n": 41}],
        ],
        [["grow", "example.org and more"], ["emit", {"email": "ann@example.org"}]],
        [["progress", "for ann@example.org"], ["stream", "ann@"], ["submit", "ann@example.org"]],
        [["later", {"email": "ann@example.org"}], ["external", None], ["submit", "fail"]],
        [["wait", None], ["set", 1]],
        [["set", 2]],
    ],
    "large": [[["big", "ann@example.org"]], [["big", 2]]],
    "failed": [[["set", 3]], [["step", "fail"]], [["fail", "ann@example.org is unknown"]]],
    "done": [[["drop", None]], [["set", 5], ["complete", {"email": "ann@example.org"}]]],
    "\u00e9/ %?": [[["emit", None], ["list", 1]], [["list", 2], ["emit", 3]]],
}  # fmt: skip
"""Runs in which every kind of line occurs."""
