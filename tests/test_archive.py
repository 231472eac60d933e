"""Whole runs: read from one store, put into another, as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.engine.raised import raised_again, raised_text
from flowstore.errors import RunExistsError, StepFailedError
from flowstore.fingerprint import fingerprint
from flowstore.store import arranged, chain
from flowstore.store.base import Restore
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from pathlib import Path

    from flowstore.store.archive import Archive


class OwnError(Exception):
    """One that takes other arguments than it passes on."""

    def __init__(self, place: str, number: int) -> None:
        super().__init__(f"{place} {number}")
        self.number = number


def flaky() -> str:
    raise OwnError("gate", 7)


def made(path: Path) -> WorkflowManager:
    workflow = WorkflowManager(path)

    @workflow.on("begin", retry=Retry(attempts=2, delay=0))
    async def begin(_event: WorkflowEvent, ctx: Context):
        ctx.state["begun"] = ctx.state.get("begun", 0) + 1
        try:
            await ctx.step("flaky", flaky)
        except OwnError as error:
            ctx.state["error"] = str(error)
        ctx.schedule(WorkflowEvent("late", {"a": 1}), delay=3600, key="later")
        yield WorkflowEvent("next", {"n": 1})
        yield WorkflowEvent.progress("p", "halfway")

    @workflow.on("next")
    async def follow(event: WorkflowEvent, ctx: Context):
        ctx.state["got"] = await ctx.step("double", lambda: event.data["n"] * 2)
        await ctx.wait_for("go")

    return workflow


async def run_once(path: Path, name: str = "r") -> Archive:
    workflow = made(path)
    async for _ in workflow.process(WorkflowEvent("begin"), correlation_id=name):
        pass
    await workflow.send(WorkflowEvent("begin"), correlation_id=name, id="mine")
    await workflow.send(WorkflowEvent("begin"), correlation_id=name, id="mine")
    await workflow.close()
    (archive,) = await open_queries(StoreUrl(path)).read_archives([name, "absent"])
    return archive


async def test_an_archive_has_all_of_a_run(tmp_path: Path):
    archive = await run_once(tmp_path / "a.db")
    assert archive.run.correlation_id == "r"
    assert [event.position for event in archive.events] == list(range(1, archive.run.head + 1))
    assert [row.name for row in archive.steps] == ["flaky", "double"]
    assert archive.steps[0].result is None
    assert archive.steps[0].error == raised_text(OwnError("gate", 7))
    assert [row.key for row in archive.timers] == ["later"]
    assert [row.handler for row in archive.parked] == [["made.<locals>", "follow"][-1]]
    assert [row.reason for row in archive.drops] == ["duplicate"]
    begun = archive.transitions[0]
    assert begun.code is not None
    wanted = arranged.read(begun.arranged, archive.run.id)
    assert wanted.timers == archive.timers
    assert arranged.to_text(wanted) == begun.arranged


async def test_the_hashes_are_a_chain(tmp_path: Path):
    archive = await run_once(tmp_path / "a.db")
    before = chain.begin("r")
    for event, digest in zip(archive.events, archive.hashes, strict=True):
        before = chain.link(before, event[1:])
        assert digest == before
    assert archive.run.chain == before


async def test_what_is_restored_is_the_same_and_goes_on(tmp_path: Path):
    await run_once(tmp_path / "b.db", "other")
    archive = await run_once(tmp_path / "a.db")
    workflow = made(tmp_path / "b.db")
    store = workflow._runtime.store()
    assert await store.perform(Restore([archive])) == [2]
    (again,) = await store.reader.read_archives(["r"])
    for part in ("events", "transitions", "steps", "drops", "timers", "parked"):
        mine = [row._replace(run_id=2) for row in getattr(archive, part)]
        assert getattr(again, part) == mine, part
    assert again.hashes == archive.hashes
    assert replace(again.run, id=1) == archive.run
    renamed = replace(archive, run=replace(archive.run, correlation_id="x"))
    with pytest.raises(RunExistsError, match="'r' is in the store already"):
        await store.perform(Restore([renamed, archive]))
    assert await store.reader.get_run("x") is None
    await workflow.resume("r")
    record = await workflow.run("r").info()
    assert record.cursor == record.head
    await workflow.close()


def test_an_exception_is_raised_again_without_its_init():
    again = raised_again(raised_text(OwnError("gate", 7)))
    assert type(again) is OwnError
    assert str(again) == "gate 7"
    assert type(raised_again(raised_text(KeyError("k")))) is KeyError
    assert str(raised_again(raised_text(OSError(2, "gone")))) == "[Errno 2] gone"
    assert str(raised_again(raised_text(ValueError(object())))).startswith("<object")


def test_an_exception_that_is_not_loaded_is_not_imported():
    error = raised_again('{"type":"antigravity.Error","message":"no"}')
    assert type(error) is StepFailedError
    assert str(error) == "antigravity.Error: no"


def test_a_fingerprint_changes_with_the_code_alone():
    def one(value: str) -> bool:
        return value in {"a", "b", "c"}

    def two(value: str) -> bool:
        return value in {"a", "b", "d"}

    digits = fingerprint(one)
    assert digits is not None
    assert len(digits) == 12
    assert digits == fingerprint(one)
    assert digits != fingerprint(two)
    assert fingerprint(print) is None


async def test_runs_that_are_there_can_be_left_out(tmp_path: Path):
    archive = await run_once(tmp_path / "a.db")
    other = replace(archive, run=replace(archive.run, correlation_id="other"))
    workflow = made(tmp_path / "b.db")
    store = workflow._runtime.store()
    assert await store.perform(Restore([other])) == [1]
    assert await store.perform(Restore([other, archive], skips_existing=True)) == [None, 2]
    assert [run.correlation_id for run in await store.reader.list_runs()] == ["r", "other"]
    await workflow.close()


async def test_a_step_that_failed_does_not_count_as_finished(tmp_path: Path):
    await run_once(tmp_path / "a.db")
    counts = await open_queries(StoreUrl(tmp_path / "a.db")).count("r")
    assert counts.steps == 1
