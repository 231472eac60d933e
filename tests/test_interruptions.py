"""Senders, loops, stores and processes that go away in the middle (G1, G3, G5)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from programs import environment

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import StoreClosedError
from flowstore.testing import crash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., WorkflowManager]


def query(path: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


async def count(_: WorkflowEvent, ctx: Any) -> None:
    ctx["count"] = ctx.get("count", 0) + 1


# --- senders and loops that go away ------------------------------------------------------


async def test_a_sender_that_is_cancelled_can_send_again(workflow, path):
    """G5: cancelled at any moment, the event is in the log or not; never twice."""
    workflow.register("x", count)
    statuses = set()
    async with workflow:
        for number in range(60):
            event = WorkflowEvent("x", correlation_id="r", id=f"e{number}")
            sending = asyncio.ensure_future(workflow.send(event))
            for _ in range(random.Random(number).randrange(8)):
                await asyncio.sleep(0)
            if number % 3 == 0:
                # As long as an append takes, so that some are on disk by then.
                await workflow.send(WorkflowEvent("unheard"), correlation_id="other")
            sending.cancel()
            await asyncio.wait({sending})
            statuses.add((await workflow.send(event)).status)
        await workflow.run("r").wait(20)
        assert await workflow.run("r").state() == {"count": 60}
    assert statuses <= {"accepted", "duplicate"}
    assert query(path, "SELECT count(*), count(DISTINCT id), max(position) FROM event "
                       "WHERE name = 'x'") == [(60, 60, 60)]  # fmt: skip


def test_a_loop_that_is_closed_while_the_writer_is_at_work(path: Path):
    """G1: what was acknowledged is there, and the manager can be used on another loop."""
    workflow = WorkflowManager(path)
    workflow.register("x", count)
    acknowledged: list[str] = []

    async def send(name: str) -> None:
        acknowledged.append((await workflow.send(WorkflowEvent("x", id=name))).id)

    async def leave_early(number: int) -> None:
        sends = [asyncio.ensure_future(send(f"{number}-{n}")) for n in range(50)]
        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        sends += [asyncio.ensure_future(send(f"{number}-more-{n}")) for n in range(50)]
        for _ in range(number):
            await asyncio.sleep(0)

    async def finish() -> None:
        await workflow.resume()
        assert {run.status for run in await workflow.runs()} == {"idle"}
        await workflow.close()

    for number in range(5):
        asyncio.run(leave_early(number))
    asyncio.run(finish())
    found = {event_id for (event_id,) in query(path, "SELECT id FROM event")}
    assert set(acknowledged) <= found
    assert len(acknowledged) >= 5


async def test_whoever_waits_for_a_store_that_crashes_is_told(make: Make):
    workflow = make()
    workflow.register("x", lambda _: threading.Event().wait(0.01))
    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        waiting = asyncio.ensure_future(workflow.run("r").wait())
        sends = [asyncio.ensure_future(workflow.send(WorkflowEvent("x"))) for _ in range(20)]
        await asyncio.sleep(0)
        await crash(workflow)
        for result in await asyncio.gather(*sends, return_exceptions=True):
            assert isinstance(result, StoreClosedError) or result.status == "accepted"
        await asyncio.wait({waiting}, timeout=20)
        assert waiting.done()
        waiting.exception()


async def test_an_event_that_comes_while_progress_is_repeated_is_handled(make: Make, path: Path):
    """G4: what a handler sends off a second time takes no place, so it stands for no other."""
    crashed = make(name="orders")

    async def begin(_, ctx):
        yield WorkflowEvent.progress("order", "begun")
        await ctx.step("look", str)
        looked.set()
        await asyncio.Event().wait()

    looked = asyncio.Event()
    crashed.register("order", begin, name="order")
    async with crashed:
        await crashed.send(WorkflowEvent("order", id="one"), correlation_id="r")
        await looked.wait()
        await crash(crashed)

    workflow = make(name="orders")
    handled: list[str] = []
    other = sqlite3.connect(path, isolation_level=None)
    later: list[asyncio.Future[Any]] = []

    async def let_go() -> None:
        for _ in range(50):  # until the first event's commit is on its way
            await asyncio.sleep(0)
        other.close()

    async def go_on(event, ctx):
        handled.append(event.id)
        if event.id == "one":
            other.execute("BEGIN IMMEDIATE")
            yield WorkflowEvent.progress("order", "begun")
            await ctx.step("look", str)
            second = WorkflowEvent("order", id="two", correlation_id="r")
            later.append(asyncio.ensure_future(workflow.send(second)))
            for _ in range(10):  # until the second event is on its way
                await asyncio.sleep(0)
            later.append(asyncio.ensure_future(let_go()))

    workflow.register("order", go_on, name="order")
    async with workflow:
        await workflow.run("r").wait(20)
        await asyncio.gather(*later)
        await workflow.run("r").wait(20)
    assert handled == ["one", "two"]
    assert query(path, "SELECT id FROM event ORDER BY position") == [
        ("one",), ("1/order/p1",), ("two",)
    ]  # fmt: skip


# --- forks -------------------------------------------------------------------------------

FORK = """
import asyncio, os, sys, warnings
from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import FlowstoreError

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
workflow = WorkflowManager(sys.argv[1])

@workflow.on("x")
async def count(event, ctx):
    ctx["count"] = ctx.get("count", 0) + 1

async def handle():
    async for event in workflow.process(WorkflowEvent("x"), correlation_id="r"):
        last = event.position
    return await workflow.run("r").state()

async def fork_inside():
    print(await handle())
    fork(os._exit)
    print(await handle())

def fork(leave):
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(handle())
        except FlowstoreError as error:
            leave(7 if "make" in str(error) else 8)
        leave(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

if sys.argv[2] == "inside":
    asyncio.run(fork_inside())
else:
    print(asyncio.run(handle()))
    fork(sys.exit)
    print(asyncio.run(handle()))
"""


@pytest.mark.parametrize("moment", ["inside", "between"])
def test_a_forked_child_cannot_use_the_store_and_does_it_no_harm(path: Path, moment: str):
    """Forked while the loop runs, and ended abruptly; or between two loops, and ended in order."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, path, moment],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'count': 1}", "{'count': 2}"]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert list(path.parent.glob("*-worker-*")) == []


# --- what a crash leaves behind ----------------------------------------------------------


async def test_a_step_of_another_event_is_never_taken_for_ones_own(make: Make):
    """G3: new code handles an event that was passed over when the process crashed."""
    old = make()
    paid = asyncio.Event()

    async def pay(event, ctx):
        await ctx.step("pay", lambda: f"of {event.name}")
        paid.set()
        await asyncio.Event().wait()

    old.register("late", pay, name="pay")
    await old.send(WorkflowEvent("early"), correlation_id="r")
    await old.send(WorkflowEvent("late"), correlation_id="r")
    async with old:
        await paid.wait()
        await crash(old)
    new = make()
    results = []

    async def pay_all(event, ctx):
        results.append((event.name, await ctx.step("pay", lambda: f"again of {event.name}")))

    new.register("*", pay_all, name="pay")
    await new.resume("r")
    assert results == [("early", "again of early"), ("late", "of late")]


async def test_a_thread_that_outlives_its_timeout_changes_nothing(make: Make):
    """G3: the state belongs to the attempt that is under way."""
    workflow = make()
    first, second, told = threading.Event(), threading.Event(), []

    def handle(_, ctx):
        if ctx.attempt > 1:
            first.set()
            assert second.wait(20)
            ctx["count"] = ctx.get("count", 0) + 1
            return
        assert first.wait(20)
        for change in (lambda: ctx.__setitem__("late", 1), lambda: ctx.state.update(late=1)):
            try:
                change()
            except Exception as error:  # noqa: BLE001 - what it is does not matter
                told.append(error)
        second.set()

    workflow.register("x", handle, timeout=0.05, retry=Retry(delay=0.01))
    async with workflow:
        await workflow.send(WorkflowEvent("x"), correlation_id="r")
        await workflow.run("r").wait(20)
        assert await workflow.run("r").state() == {"count": 1}
    assert len(told) == 2
