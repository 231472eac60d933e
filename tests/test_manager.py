"""`WorkflowManager`: its runs, its stores, closing, and what it guarantees."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import logging

import pytest
from watching import collect, drops, log, query

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import ConfigurationError
from flowstore.testing import VirtualClock


async def _count(event, ctx):
    ctx["n"] = ctx.get("n", 0) + 1


# --- runs ------------------------------------------------------------------------------------


async def test_runs_are_listed_the_youngest_first_by_status_and_in_pages(workflow):
    async def close(event, ctx):
        ctx.complete()

    workflow.register("close", close).register("go", _count)
    for number in range(5):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id=f"r{number}"))
    await collect(workflow.process(WorkflowEvent("close"), correlation_id="r2"))
    found = [run.correlation_id for run in await workflow.runs()]
    assert found == ["r4", "r3", "r2", "r1", "r0"]
    assert [run.correlation_id for run in await workflow.runs(status="completed")] == ["r2"]
    assert [run.correlation_id for run in await workflow.runs(limit=2)] == ["r4", "r3"]
    assert [run.correlation_id for run in await workflow.runs(before="r3", limit=2)] == ["r2", "r1"]


async def test_runs_of_a_store_that_is_still_empty(workflow, make):
    assert await workflow.runs() == []
    assert await make(":memory:").runs() == []


# --- stores ------------------------------------------------------------------------------------


async def test_a_store_in_memory_lives_as_long_as_its_manager(make):
    one, other = make(":memory:").register("go", _count), make(":memory:")
    async with one:
        await one.send(WorkflowEvent("go"), correlation_id="r")
        await one.run("r").wait()
    assert await one.run("r").state() == {"n": 1}
    await other.send(WorkflowEvent("go"))
    assert [run.correlation_id for run in await other.runs()] != ["r"]


async def test_the_environment_names_the_default_store_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWSTORE_URL", f"sqlite:///{tmp_path}/environment.db")
    for store, file in ((None, "environment.db"), (tmp_path / "given.db", "given.db")):
        workflow = WorkflowManager(store)
        await workflow.send(WorkflowEvent("go"))
        await workflow.close()
        assert (tmp_path / file).exists()


async def test_nothing_is_made_before_it_is_needed(make, path):
    workflow = make().register("go", _count)
    workflow.run("r")
    assert not path.exists()
    await workflow.send(WorkflowEvent("go"))
    assert path.exists()


async def test_close_can_be_called_at_any_time_and_again(workflow, path):
    await workflow.close()
    assert not path.exists()
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    await workflow.close()
    await workflow.close()
    assert await log(workflow, "r") == [(1, "go")]


async def test_closing_folds_the_log_of_sqlite_into_the_file(workflow, path):
    await workflow.send(WorkflowEvent("go"))
    assert path.with_name("runs.db-wal").exists()
    await workflow.close()
    assert not path.with_name("runs.db-wal").exists()


# --- guarantees ------------------------------------------------------------------------------


async def test_what_was_acknowledged_is_in_the_file(workflow, path):
    """G1: another connection sees it as soon as send returns."""
    for number in range(5):
        receipt = await workflow.send(WorkflowEvent("go", number), correlation_id="r")
        assert query(path, "SELECT count(*), max(position) FROM event") == [
            (number + 1, receipt.position)
        ]


@pytest.mark.parametrize(
    ("url", "level"),
    [("", 2), ("?synchronous=FULL", 2), ("?synchronous=NORMAL", 1)],
)
async def test_how_the_disk_is_synced(make, path, url, level):
    """G1: FULL unless the user says otherwise."""
    workflow = make(f"sqlite:///{path}{url}")
    await workflow.send(WorkflowEvent("go"))
    asked = workflow._runtime.store()._call(
        lambda session: session._connection.execute("PRAGMA synchronous").fetchone()
    )
    assert await asked == (level,)
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


async def test_hooks_are_told_and_cannot_do_harm(make, caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")
    clock = VirtualClock(is_automatic=True)
    workflow, told = make(clock=clock), []

    def break_down(what, fields):
        raise RuntimeError("a broken instrument")

    workflow.hooks.subscribe(break_down)
    stop = workflow.hooks.subscribe(
        lambda what, fields: told.append((what, fields["correlation_id"]))
    )

    async def fail(event):
        raise ValueError("broken")

    workflow.register("go", _count).register("bad", fail)
    for name in ("go", "nobody's", "bad"):
        await collect(workflow.process(WorkflowEvent(name), correlation_id=name))
    assert told == [
        ("handled", "go"),
        ("settled", "go"),
        ("unhandled", "nobody's"),
        ("settled", "nobody's"),
        ("dead", "bad"),
        ("settled", "bad"),
    ]
    stop()
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="go"))
    assert len(told) == 6


async def test_everything_that_was_refused_or_failed_can_be_asked_for(make, caplog):
    """G7."""
    caplog.set_level(logging.CRITICAL, "flowstore")
    workflow = make()

    async def fail(event):
        raise ValueError("broken")

    workflow.register("bad", fail).register("go", _count)
    await workflow.send(WorkflowEvent("go"), correlation_id="r", id="e")
    await workflow.send(WorkflowEvent("go"), correlation_id="r", id="e")
    await workflow.send(WorkflowEvent("nobody's"), correlation_id="r")
    await workflow.send(WorkflowEvent("bad"), correlation_id="r")
    await workflow.resume()
    await workflow.send(WorkflowEvent("go"), correlation_id="r", id="late")
    reader = await workflow._runtime.reader()
    assert await drops(workflow, "r") == [("e", "duplicate"), ("late", "stale")]
    assert all(drop.detail for drop in await reader.list_drops())
    assert [event.name for _, event in await reader.list_unhandled()] == ["nobody's"]
    assert [(dead.name, dead.error) for dead in await reader.list_dead()] == [("bad", "broken")]


def test_a_manager_at_work_on_another_loop_is_refused(path):
    workflow = WorkflowManager(path)

    async def inner():
        await workflow.send(WorkflowEvent("go"))

    async def outer():
        await workflow.send(WorkflowEvent("go"))
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, inner())
        await workflow.close()

    asyncio.run(outer())
