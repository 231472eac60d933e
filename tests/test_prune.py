"""Runs that are over are removed; what they had stays refused."""

# ruff: noqa: ARG001, S608 - handlers have the parameters that users would write; tables are ours

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from watching import drops, log, query

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import EventConflictError, RunExistsError
from flowstore.store import migrate, schema
from flowstore.store.base import Prune, Restore
from flowstore.store.prune import PARTS
from flowstore.store.verify import verify
from flowstore.testing import VirtualClock

DAY = 86_400 * 1_000_000
STATUSES = ("completed", "failed", "cancelled")


pytestmark = pytest.mark.usefixtures("folder")


def shop(store, clock=None, **options):
    """A workflow whose runs have something in every table, and end as their data says."""
    workflow = WorkflowManager(store, clock=clock, **options)

    @workflow.task()
    async def pack():
        return 1

    @workflow.on("order", retry=Retry(attempts=2, delay=0))
    async def order(event, ctx):
        ctx.state["orders"] = ctx.state.get("orders", 0) + 1
        await ctx.step("ask", lambda: 7)
        yield WorkflowEvent("told", {"n": 1})
        yield WorkflowEvent("streamed", {"words": words()})
        ends = (event.data or {}).get("ends")
        if ends == "waiting":
            ctx.schedule(WorkflowEvent("later"), delay=10 * 86_400)
        elif ends == "failed":
            raise ValueError("broken")
        elif ends == "completed":
            ctx.complete({"ok": True})
        elif ends == "task":
            ctx.submit(pack)

    async def words():
        yield "one"
        yield "two"

    return workflow


async def run_to(workflow, name, ends=None):
    event = WorkflowEvent("order", {"ends": ends})
    async for _ in workflow.process(event, correlation_id=name, id=f"{name}-1"):
        pass
    if ends == "cancelled":
        await workflow.run(name).cancel()


async def prune(workflow, path, *, before=None, statuses=STATUSES, names=None):
    """Remove runs as the command does; those of these names, or all."""
    where = "" if names is None else f" WHERE correlation_id IN {(*names, '')}"
    ids = [row[0] for row in query(path, f"SELECT id FROM run{where} ORDER BY id")]
    now = workflow._runtime.clock.now()
    return await workflow._runtime.store().perform(
        Prune(ids, statuses, now + 1 if before is None else before, now)
    )


def left_of(path, name):
    """Return the tables that have anything of a run."""
    tables = [name for name in PARTS if query(path, f'SELECT 1 FROM "{name}" LIMIT 1')]
    found = query(path, "SELECT id FROM run WHERE correlation_id = ?", name)
    return found, [
        table for table in tables
        if found and query(path, f'SELECT 1 FROM "{table}" WHERE run_id = ?', found[0][0])
    ]  # fmt: skip


def sound(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return migrate.check(connection) + verify(connection).flaws


@pytest.fixture
async def workflow(path):
    workflow = shop(path)
    yield workflow
    await workflow.close()


# --- which ones ------------------------------------------------------------------------------


def test_every_table_with_rows_of_runs_is_known():
    named = {table.name for table in schema.TABLES if "run_id" in table.columns}
    assert set(PARTS) == named
    assert len(named) == 11


async def test_all_that_there_is_of_a_run_goes(workflow, path):
    for name in ("one", "two", "last"):
        await run_to(workflow, name, "completed")
        await workflow.send(WorkflowEvent("late"), correlation_id=name)
    assert len(left_of(path, "one")[1]) >= 6
    before = await (await workflow._runtime.reader()).read_archives(["two", "last"])
    done = await prune(workflow, path, names=["one"])
    assert (done.runs, done.events, done.left) == (1, 3, 0)
    assert left_of(path, "one") == ([], [])
    for table in PARTS:
        assert query(path, f'SELECT count(*) FROM "{table}" WHERE run_id = 1') == [(0,)]
    after = await (await workflow._runtime.reader()).read_archives(["two", "last"])
    assert after == before
    assert sound(path) == []


async def test_only_runs_that_are_over_go(make, path):
    clock = VirtualClock()
    workflow = shop(path, clock)
    for ends in ("completed", "failed", "cancelled", "waiting", "idle"):
        await run_to(workflow, ends, ends)
    await workflow.send(WorkflowEvent("order"), correlation_id="pending")
    await clock.advance(86_400 / 2)
    await run_to(workflow, "young", "completed")
    await run_to(workflow, "newest", "completed")
    done = await prune(workflow, path, before=clock.now() - DAY // 4)
    assert {run.correlation_id for run in await workflow.runs()} == {
        "waiting", "idle", "pending", "young", "newest",
    }  # fmt: skip
    assert (done.runs, done.left) == (3, 5)
    done = await prune(workflow, path, statuses=("idle", "running", "waiting"))
    assert {run.correlation_id for run in await workflow.runs()} == {
        "waiting", "pending", "young", "newest",
    }  # fmt: skip
    assert sound(path) == []
    await workflow.close()


async def test_neither_ids_of_runs_nor_places_in_the_store_are_given_again(workflow, path):
    for name in ("one", "two", "three"):
        await run_to(workflow, name, "completed")
    await workflow.run("one").send(WorkflowEvent("late"))
    numbers = 'SELECT max(run.id), max(event.seq), max("drop".seq) FROM run, event, "drop"'
    newest = query(path, numbers)
    await prune(workflow, path)
    assert [run.correlation_id for run in await workflow.runs()] == ["three", "one"]
    assert query(path, numbers) == newest


# --- what is said to those who send still ----------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
async def test_what_was_sent_is_a_duplicate_and_the_rest_is_stale(workflow, path, status):
    """G5, G6, G7."""
    await run_to(workflow, "r", status)
    await run_to(workflow, "newest", "completed")
    await prune(workflow, path)
    receipt = await workflow.send(WorkflowEvent("order"), correlation_id="r", id="r-1")
    assert (receipt.status, receipt.position) == ("duplicate", 1)
    assert "before the run was pruned on 20" in receipt.reason
    for options in ({}, {"id": "r-2"}, {"id": "1/order/1"}):
        receipt = await workflow.send(WorkflowEvent("order"), correlation_id="r", **options)
        assert (receipt.status, receipt.position) == ("stale", None)
        assert receipt.reason.startswith(f"the run was {status}, and pruned on 20")
    assert [reason for _, reason in await drops(workflow, "r")] == ["duplicate", *["stale"] * 3]
    info = await workflow.run("r").info()
    assert (info.status, info.head) == (status, 0)
    assert sound(path) == []


async def test_what_is_left_to_record_refusals_goes_too_and_nothing_is_forgotten(workflow, path):
    await run_to(workflow, "r", "completed")
    await run_to(workflow, "newest", "completed")
    for _ in range(2):
        await prune(workflow, path)
        assert left_of(path, "r") == ([], [])
        receipt = await workflow.send(WorkflowEvent("order"), correlation_id="r", id="r-1")
        assert (receipt.status, receipt.position) == ("duplicate", 1)
        await run_to(workflow, f"newest-{_}", "completed")
        await workflow.run(f"newest-{_}").send(WorkflowEvent("late"))


async def test_only_ids_that_came_from_outside_are_kept(workflow, path):
    await run_to(workflow, "r", "completed")
    await workflow.send(WorkflowEvent("x"), correlation_id="idle", id="mine")
    await workflow.send(WorkflowEvent("y"), correlation_id="idle")
    await run_to(workflow, "newest", "completed")
    await workflow.resume()
    await prune(workflow, path, statuses=("idle", "completed"))
    kept = query(path, "SELECT correlation_id, event_id, position FROM pruned ORDER BY 1, 3, 2")
    (generated,) = [row[1] for row in kept if row[:1] == ("idle",) and row[1] not in {"", "mine"}]
    assert kept == [
        ("idle", "mine", 1),
        ("idle", "", 2),
        ("idle", generated, 2),
        ("r", "r-1", 1),
        ("r", "", 3),
    ]


async def test_an_idle_run_begins_anew_and_refuses_what_it_had(workflow, path):
    await run_to(workflow, "r")
    await run_to(workflow, "newest")
    await prune(workflow, path, statuses=("idle",))
    again = await workflow.send(WorkflowEvent("order", {"n": 2}), correlation_id="r", id="r-1")
    assert (again.status, again.position) == ("duplicate", 1)
    assert await workflow.run("r").status() == "idle"
    receipt = await workflow.send(WorkflowEvent("order"), correlation_id="r", id="r-2")
    assert (receipt.status, receipt.position) == ("accepted", 1)
    await workflow.resume("r")
    assert await workflow.run("r").state() == {"orders": 1}
    assert (await workflow.run("r").info()).status == "idle"
    twice = await workflow.send(WorkflowEvent("order"), correlation_id="r", id="r-2")
    assert (twice.status, twice.position) == ("duplicate", 1)
    with pytest.raises(EventConflictError):
        await workflow.send(WorkflowEvent("other"), correlation_id="r", id="r-2")
    again = await workflow.send(WorkflowEvent("order"), correlation_id="r", id="r-1")
    assert again.status == "duplicate"
    assert {name for _, name in await log(workflow, "r")} == {"order", "told", "streamed"}
    assert sound(path) == []


async def test_a_worker_does_not_take_its_memory_of_the_old_run_for_the_new_one(make, path):
    """Both come to the same version of their state."""

    def counting():
        workflow = make()

        @workflow.on("add")
        async def add(event, ctx):
            ctx.state["sum"] = ctx.state.get("sum", 0) + event.data

        return workflow

    async def add(workflow, value, name="r"):
        await workflow.send(WorkflowEvent("add", value), correlation_id=name)
        await workflow.resume(name)

    first, second = counting(), counting()
    await add(first, 100)
    await add(first, 1, "newest")
    await prune(first, path, statuses=("idle",))
    await add(second, 5)
    await add(first, 2)  # it has the sum 100 of version 1 in memory
    assert await first.run("r").state() == {"sum": 7}


async def test_other_workers_are_not_disturbed(make, path):
    """They have the run in memory; what they send is answered by what the file has now."""
    first, second = shop(path), shop(path)
    await run_to(first, "r", "completed")
    await run_to(second, "newest", "completed")
    for name in ("r", "newest"):
        assert (await second.send(WorkflowEvent("x"), correlation_id=name)).status == "stale"
    await prune(first, path)
    receipt = await second.send(WorkflowEvent("order"), correlation_id="r", id="r-1")
    assert receipt.status == "duplicate"
    await run_to(second, "another", "completed")
    assert await second.run("another").status() == "completed"
    await first.close()
    await second.close()


async def test_the_token_of_a_task_of_a_removed_run_is_stale(make, path):
    workflow = make()
    tokens = []

    @workflow.on("go")
    async def go(event, ctx):
        tokens.append(ctx.submit_external("approval"))

    for name in ("r", "newest"):
        await workflow.send(WorkflowEvent("go"), correlation_id=name)
        await workflow.resume()
        await workflow.run(name).cancel()
    await prune(workflow, path)
    receipt = await workflow.complete_task(tokens[0], True)  # noqa: FBT003 - a result
    assert receipt.status == "stale"
    assert "pruned on" in receipt.reason


async def test_a_removed_run_can_be_put_back(workflow, path):
    """With what was refused meanwhile; from then on it is a run like any other."""
    await run_to(workflow, "r", "completed")
    store = workflow._runtime.store()
    (archive,) = await store.reader.read_archives(["r"])
    await run_to(workflow, "newest", "completed")
    await prune(workflow, path)
    assert (await workflow.send(WorkflowEvent("x"), correlation_id="r")).status == "stale"
    await store.perform(Restore([archive]))
    assert {name for _, name in await log(workflow, "r")} == {"order", "streamed", "told"}
    assert [reason for _, reason in await drops(workflow, "r")] == ["stale"]
    receipt = await workflow.send(WorkflowEvent("y"), correlation_id="r")
    assert receipt.reason == "the run is completed"
    again = await workflow.send(
        WorkflowEvent("order", {"ends": "completed"}), correlation_id="r", id="r-1"
    )
    assert (again.status, again.position) == ("duplicate", 1)
    assert sound(path) == []
    with pytest.raises(RunExistsError):
        await store.perform(Restore([archive]))


@pytest.mark.parametrize("ends", ["completed", None])
async def test_what_was_noted_of_a_removed_run_holds_no_more(workflow, path, ends):
    """Also when it begins anew, or refuses something; but not for what came since."""
    await run_to(workflow, "r", ends)
    await run_to(workflow, "newest", ends)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        noted = verify(connection).runs
        await prune(workflow, path, statuses=("completed", "idle"))
        assert verify(connection, against=noted).flaws == []
        await workflow.send(WorkflowEvent("order"), correlation_id="r")
        assert verify(connection, against=noted).flaws == []
        # The control: what nobody has pruned is missed.
        connection.execute("DELETE FROM pruned")
        missed = [flaw.correlation_id for flaw in verify(connection, against=noted).flaws]
        assert missed == ["r"]


async def test_a_store_that_never_pruned_asks_once(make, path, monkeypatch):
    from broken import break_connections

    faults = break_connections(monkeypatch)
    workflow = make()
    for number in range(50):
        await workflow.send(WorkflowEvent("x"), correlation_id=f"r{number}", id="1")
    assert sum("FROM pruned" in sql for sql in faults.seen) == 1
