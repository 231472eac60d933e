"""What fails alone, and what goes on by itself afterwards (G1, G2, G3, G7)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from broken import Faults, break_connections
from sqlalchemy import text

import flowstore.runtime
from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import StoreBusyError, StoreError, StoreUnavailableError
from flowstore.store.base import Load
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse
from flowstore.testing import crash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., WorkflowManager]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return break_connections(monkeypatch)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep the database locked for writing, as another program might."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


def query(path: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


async def count(_: WorkflowEvent, ctx: Any) -> None:
    ctx["count"] = ctx.get("count", 0) + 1


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


# --- a transaction that fails ------------------------------------------------------------


async def test_a_failed_commit_is_reported_and_writes_nothing(faults, workflow, path):
    await workflow.send(WorkflowEvent("x"), correlation_id="r", id="a")
    faults.fail_once("COMMIT", io_error())
    with pytest.raises(StoreUnavailableError, match="reading or writing the disk failed"):
        await workflow.send(WorkflowEvent("x"), correlation_id="r", id="b")
    assert query(path, "SELECT id FROM event") == [("a",)]
    receipt = await workflow.send(WorkflowEvent("x"), correlation_id="r", id="b")
    assert (receipt.status, receipt.position) == ("accepted", 2)


async def test_a_commit_that_failed_although_it_was_done(faults, workflow, path):
    """It is ambiguous, so it is an error; sending again with the same id is safe (G5)."""
    await workflow.send(WorkflowEvent("x"), correlation_id="r", id="a")
    faults.fail_once("COMMIT", io_error(), done=True)
    with pytest.raises(StoreError):
        await workflow.send(WorkflowEvent("x"), correlation_id="r", id="b")
    receipt = await workflow.send(WorkflowEvent("x"), correlation_id="r", id="b")
    assert (receipt.status, receipt.position) == ("duplicate", 2)
    assert query(path, "SELECT position FROM event") == [(1,), (2,)]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("word", ["BEGIN", "INSERT INTO transition", "UPDATE run", "COMMIT"])
async def test_a_service_goes_on_after_a_failure(make: Make, faults, word: str, *, done: bool):
    """G3: whatever of a handler's commit failed, its change is applied once in the end."""
    workflow = make()
    entered, go = asyncio.Event(), asyncio.Event()

    async def handle(event, ctx):
        entered.set()
        await go.wait()
        await count(event, ctx)

    workflow.register("x", handle)
    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        await entered.wait()
        faults.fail_once(word, io_error(), done=done)
        go.set()
        # Whoever waits is told of the failure; the run goes on all the same.
        while True:
            with contextlib.suppress(StoreError):
                assert (await workflow.run("r").wait(20)).status == "idle"
                break
        assert await workflow.run("r").state() == {"count": 1}


async def test_one_that_clashes_fails_alone(make: Make, path: Path, caplog):
    """G2: the others of its batch are committed; it goes on when the cause has gone."""
    workflow = make()
    entered, go = asyncio.Semaphore(0), asyncio.Event()

    async def handle(event, ctx):
        entered.release()
        await go.wait()
        await count(event, ctx)
        yield WorkflowEvent("done")

    workflow.register("x", handle, name="h")
    names = [f"r{number}" for number in range(20)]
    async with workflow:
        for name in names:
            await workflow.send(WorkflowEvent("x"), correlation_id=name)
        for _ in names:
            await entered.acquire()
        query(
            path,
            "INSERT INTO event (run_id, position, id, name, version, created_at) "
            "SELECT id, 0, '1/h/1', 'forged', 1, 1 FROM run WHERE correlation_id = 'r7'",
        )
        go.set()
        for name in names:
            if name != "r7":
                assert (await workflow.run(name).wait(20)).status == "idle"
        with pytest.raises(StoreError, match="UNIQUE"):
            await workflow.run("r7").wait(20)
        assert query(path, "SELECT correlation_id FROM run WHERE head < 2") == [("r7",)]
        query(path, "DELETE FROM event WHERE name = 'forged'")
        while True:
            with contextlib.suppress(StoreError):
                assert (await workflow.run("r7").wait(20)).status == "idle"
                break
        for name in names:
            assert await workflow.run(name).state() == {"count": 1}
    assert "'r7' cannot go on here" in caplog.text


# --- the user's own SQL ------------------------------------------------------------------


def ledger_table(path: Path) -> None:
    query(path, "CREATE TABLE booking (event TEXT PRIMARY KEY) STRICT")


async def book(event: WorkflowEvent, ctx: Any) -> None:
    await count(event, ctx)
    ctx.execute(text("INSERT INTO booking VALUES (:event)"), {"event": event.data})


async def test_sql_that_fails_is_its_handlers_failure(make: Make, path: Path):
    """G2: nothing of the handler is kept; its neighbours are not touched."""
    workflow = make()
    workflow.register("book", book, retry=Retry(attempts=2, delay=0.01))
    await workflow.send(WorkflowEvent("unheard"))
    ledger_table(path)
    query(path, "INSERT INTO booking VALUES ('taken')")
    events = [
        WorkflowEvent("book", key, correlation_id=f"run-{key}") for key in ("a", "taken", "b")
    ]
    await workflow.send_many(events)
    await workflow.resume()
    statuses = {run.correlation_id: run.status for run in await workflow.runs()}
    assert statuses["run-a"] == statuses["run-b"] == "idle"
    assert statuses["run-taken"] == "failed"
    assert await workflow.run("run-taken").state() == {}
    assert await workflow.run("run-a").state() == {"count": 1}
    outcomes = query(
        path, "SELECT outcome, error FROM transition WHERE outcome != 'handled' ORDER BY number"
    )
    assert [outcome for outcome, _ in outcomes] == ["retried", "dead"]
    assert all("booking.event" in error for _, error in outcomes)
    assert query(path, "SELECT event FROM booking") == [("taken",), ("a",), ("b",)]


@pytest.mark.parametrize("sql", ["ROLLBACK", "COMMIT", "RELEASE flowstore_statements"])
async def test_sql_that_ends_the_transaction(make: Make, path: Path, sql: str):
    """It is refused or fails; in no case are its neighbours' acknowledgements untrue."""
    workflow = make()

    async def end(event, ctx):
        await count(event, ctx)
        ctx.execute(text(event.data))

    workflow.register("end", end)
    workflow.register("x", count)
    async with workflow:
        sends = [workflow.send(WorkflowEvent("end", sql), correlation_id="bad")]
        sends += [workflow.send(WorkflowEvent("x"), correlation_id=f"r{n}") for n in range(9)]
        for receipt in await asyncio.gather(*sends):
            assert receipt.status == "accepted"
        for number in range(9):
            assert (await workflow.run(f"r{number}").wait(20)).status == "idle"
            assert await workflow.run(f"r{number}").state() == {"count": 1}
        with contextlib.suppress(StoreError):
            await workflow.run("bad").wait(20)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_state_and_sql_commit_together_at_every_crash(make: Make, path: Path, faults):
    """G2, G3: the process ends before or after each statement of three events with SQL."""
    await make(name="other").send(WorkflowEvent("unheard"), correlation_id="other")
    ledger_table(path)
    for point in range(1000):
        run = f"r{point}"
        workflow = make().register("book", book)
        await workflow.send_many(
            WorkflowEvent("book", f"{point}-{number}", correlation_id=run) for number in range(3)
        )
        faults.crash_at(point)
        has_crashed = await end_at_crash(workflow, faults)
        again = make().register("book", book)
        await again.resume()
        assert await again.run(run).state() == {"count": 3}
        booked = [key for (key,) in query(path, "SELECT event FROM booking ORDER BY rowid")]
        assert booked[-3:] == [f"{point}-{number}" for number in range(3)]
        assert len(booked) == 3 * (point + 1)
        await again.close()
        if not has_crashed:
            break
    assert point > 20


async def end_at_crash(workflow: WorkflowManager, faults: Faults) -> bool:
    """Resume until the crash or the end, whatever comes first; return whether it crashed."""
    died = asyncio.Event()
    faults.when_dead = partial(asyncio.get_running_loop().call_soon_threadsafe, died.set)
    tasks = {asyncio.ensure_future(workflow.resume()), asyncio.ensure_future(died.wait())}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    has_crashed = faults.is_dead
    await crash(workflow)
    faults.revive()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return has_crashed


# --- a database that is locked -----------------------------------------------------------


async def test_a_handler_is_repeated_when_its_commit_found_the_database_locked(make, path):
    workflow = make(f"sqlite:///{path}?busy_timeout=0.1")
    entered, go = asyncio.Event(), asyncio.Event()

    async def handle(event, ctx):
        entered.set()
        await go.wait()
        await count(event, ctx)

    workflow.register("x", handle)
    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        await entered.wait()
        with locked(path):
            go.set()
            with pytest.raises(StoreBusyError):
                await workflow.run("r").wait(20)
            with pytest.raises(StoreBusyError, match="busy_timeout"):
                await workflow.send(WorkflowEvent("x"), correlation_id="r")
        while True:
            with contextlib.suppress(StoreError):
                assert (await workflow.run("r").wait(20)).status == "idle"
                break
        assert await workflow.run("r").state() == {"count": 1}


async def test_serving_a_database_that_is_locked(make, path):
    await make().send(WorkflowEvent("x"), correlation_id="r")
    workflow = make(f"sqlite:///{path}?busy_timeout=0.05")
    workflow.register("x", count)
    await workflow.run("r").info()
    with locked(path):
        with pytest.raises(StoreBusyError):
            await workflow.resume()
        with pytest.raises(StoreBusyError):
            await workflow.__aenter__()
    assert await workflow.resume() == ["r"]


async def test_a_lease_that_cannot_be_renewed_ends_nothing(make, path, monkeypatch, caplog):
    """The writer's thread lives on for those who come later."""
    short = partial(SQLiteStore, lease_seconds=0.15)
    monkeypatch.setattr(flowstore.runtime, "SQLiteStore", short)
    workflow = make(f"sqlite:///{path}?busy_timeout=0.01")
    workflow.register("x", count)
    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        with locked(path):
            async with asyncio.timeout(20):
                while "could not be kept up" not in caplog.text:
                    with contextlib.suppress(StoreBusyError):
                        await workflow.send(WorkflowEvent("x"), correlation_id="s")
        receipt = await workflow.send(WorkflowEvent("x"), correlation_id="r")
        assert receipt.status == "accepted"
        assert (await workflow.run("r").wait(20)).status == "idle"
        assert await workflow.run("r").state() == {"count": 2}


async def test_no_one_waits_for_ever_for_a_thread_that_has_failed(
    make, faults, monkeypatch, caplog
):
    """What no one foresaw there is told to whoever waits, and to all who come later."""
    short = partial(SQLiteStore, lease_seconds=0.15)
    monkeypatch.setattr(flowstore.runtime, "SQLiteStore", short)
    workflow = make()

    async def send_for_ever() -> None:
        while True:
            await workflow.send(WorkflowEvent("x"), correlation_id="r")

    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        faults.fail_once("UPDATE worker", LookupError("odd"))
        with pytest.raises(StoreUnavailableError, match=r"LookupError: odd.* start the process"):
            await asyncio.wait_for(send_for_ever(), 20)
    assert "the store's own thread failed" in caplog.text


async def test_what_was_answered_is_not_refused_when_the_thread_fails_behind_it(path, faults):
    store = SQLiteStore(parse(path), lease_seconds=0.15)
    told: list[list[BaseException | None]] = []

    def deliver(answers: Any, answered: asyncio.Event, _: Any, error: Any) -> None:
        answers.append(error)
        answered.set()

    await store.become_worker()
    faults.fail_once("UPDATE worker", LookupError("odd"))
    try:
        async with asyncio.timeout(20):
            while not told or not any(told[-1]):
                told.append([])
                answered = asyncio.Event()
                store.submit(Load(1, 0, 1), partial(deliver, told[-1], answered))
                await answered.wait()
    finally:
        store.resign()
        await store.close()
    assert [len(answers) for answers in told] == [1] * len(told)
    assert told[0] == [None]
    assert isinstance(told[-1][0], StoreUnavailableError)
