"""Forks of runs that wait: timers, tasks, waits, dead letters; and what old records do not tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from forking import archive_of, forked, shop
from watching import log

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.errors import (
    ForkError,
    InvalidTokenError,
)
from flowstore.replay import rerun
from flowstore.store.base import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.store.archive import Archive
    from flowstore.testing import VirtualClock

    Make = Callable[..., WorkflowManager]


# --- timers, tasks -----------------------------------------------------------------------------


async def test_timers_keep_their_time_or_what_was_left_of_it(make: Make, clock: VirtualClock):
    workflow = shop(make, clock=clock)
    await workflow.run("r").send(WorkflowEvent("order", {"total": 5}))
    await workflow.resume("r")
    await clock.advance(50)
    await workflow.run("r").fork(at=1, correlation_id="kept")
    await workflow.run("r").fork(at=1, correlation_id="moved", from_now=True)
    [original] = (await archive_of(workflow)).timers
    [kept] = (await archive_of(workflow, "kept")).timers
    [moved] = (await archive_of(workflow, "moved")).timers
    assert kept.due_at == original.due_at
    assert moved.due_at == original.due_at + 50_000_000


async def test_a_timer_that_was_removed_later_is_there_before(make: Make):
    workflow = make()

    @workflow.on("set")
    def set_timer(_: WorkflowEvent, ctx: Context) -> None:
        ctx.schedule(WorkflowEvent("due"), delay=3600, key="k")
        ctx.deadline(at=ctx.now() + timedelta(days=1))

    @workflow.on("unset")
    def unset(_: WorkflowEvent, ctx: Context) -> None:
        ctx.cancel("k")
        ctx.cancel_deadline()

    await workflow.send(WorkflowEvent("set"), correlation_id="r")
    await workflow.send(WorkflowEvent("unset"), correlation_id="r")
    await workflow.resume("r")
    archive = await archive_of(workflow)
    assert sorted(timer.key for timer in forked(archive, 1).timers) == ["flowstore/deadline", "k"]
    assert forked(archive, 1).run.status == "waiting"
    assert forked(archive, 2).timers == []
    assert forked(archive, 2).run.status == "idle"


async def test_a_task_that_had_not_ended_runs_again_in_the_fork(make: Make):
    workflow = make()
    began: list[str] = []

    @workflow.task
    async def charge(amount: int, *, idempotency_key: str) -> int:
        began.append(idempotency_key)
        return amount

    @workflow.on("go")
    def go(_: WorkflowEvent, ctx: Context) -> None:
        ctx.submit(charge, 5)

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait(10)
        copy = await workflow.run("r").fork(at=1)
        assert (await copy.wait(10)).status == "idle"
        assert await log(workflow, "r~1") == [(1, "go"), (2, "task.completed")]
        assert began == ["r/1/go/t1", "r~1/1/go/t1"]
        ended = await workflow.run("r").fork(at=2)
        assert (await ended.wait(10)).head == 2
    assert len(began) == 2


async def test_an_external_task_of_a_fork_is_not_ended_with_the_token_of_the_run(make: Make):
    workflow = make()
    tokens: list[str] = []

    @workflow.on("go")
    def go(_: WorkflowEvent, ctx: Context) -> None:
        tokens.append(ctx.submit_external("approval"))

    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait(10)
        copy = await workflow.run("r").fork(at=1)
        assert [task.status for task in (await archive_of(workflow, "r~1")).tasks] == [PENDING]
        await workflow.complete_task(tokens[0], {"ok": 1})
        assert await workflow.run("r").wait(10)
        assert (await workflow.run("r").status(), await copy.status()) == ("idle", "waiting")
        again = await workflow.run("r").fork(at=1, edit_event={})
        await again.wait(10)
        await workflow.complete_task(tokens[1])
        assert (await again.wait(10)).status == "idle"
    with pytest.raises(InvalidTokenError):
        await make(":memory:").complete_task(tokens[0])


async def test_a_waiting_handler_has_the_random_numbers_that_it_had(make: Make):
    """It is called again from its beginning, and must go the same way up to its wait."""
    workflow = make()

    @workflow.on("go")
    async def go(_: WorkflowEvent, ctx: Context):
        number = ctx.random.random()
        ctx.state["before"] = number
        await ctx.wait_for("on")
        ctx.state["behind"] = number

    for name in ("go", "on"):
        await workflow.send(WorkflowEvent(name), correlation_id="r")
        await workflow.resume("r")
    first = await workflow.run("r").fork(at=1)
    second = await first.fork(at=1)
    anew = await workflow.run("r").fork(at=1, edit_event={})
    states = [await workflow.run("r").state()]
    for copy in (first, second, anew):
        await copy.send(WorkflowEvent("on"))
        await workflow.resume(copy.correlation_id)
        states.append(await copy.state())
        report = await rerun(workflow, copy)
        assert report.is_identical, report.divergence
    assert all(state["before"] == state["behind"] for state in states)
    assert states[0] == states[1] == states[2] != states[3]


# --- dead letters that were retried --------------------------------------------------------------


async def test_a_run_that_failed_and_was_opened_again_is_forked_as_it_was(make: Make):
    workflow = make()
    broken = [True]

    @workflow.on("go")
    async def go(_: WorkflowEvent, ctx: Context) -> None:
        ctx.schedule(WorkflowEvent("late"), delay=3600, key="k")

    @workflow.on("charge")
    async def charge(_: WorkflowEvent, ctx: Context):
        await ctx.step("look up", lambda: 1)
        if broken:
            raise ValueError("no money")
        await ctx.step("charge", lambda: 2)
        ctx.state["charged"] = True
        yield WorkflowEvent("charged")

    for name in ("go", "charge"):
        await workflow.send(WorkflowEvent(name), correlation_id="r")
    await workflow.resume("r")
    run = workflow.run("r")
    failed = await run.info()
    assert failed.status == "failed"
    broken.clear()
    await run.retry_dead(2)
    await workflow.resume("r")
    archive = await archive_of(workflow)
    names = [event.name for event in archive.events]
    assert names == ["go", "charge", "error", "dead.retried", "charged"]
    assert archive.run.status == "idle"

    before, failing, again = forked(archive, 1), forked(archive, 3), forked(archive, 4)
    assert (before.run.status, [timer.key for timer in before.timers]) == ("waiting", ["k"])
    assert (failing.run.status, failing.run.reason) == ("failed", failed.reason)
    assert [step.name for step in failing.steps] == ["look up"]
    assert (failing.timers, failing.run.waits) == ([], 0)
    assert (again.run.status, again.run.reason, again.timers) == ("running", None, [])
    assert sorted(step.name for step in again.steps) == ["charge", "look up"]
    assert [event.name for event in again.events[4:]] == ["charged"]

    copy = await run.fork(at=3)
    await copy.retry_dead(2)
    await workflow.resume(copy.correlation_id)
    assert (await copy.status(), await copy.state()) == ("idle", {"charged": True})


# --- runs of an older flowstore ----------------------------------------------------------------


def aged(archive: Archive) -> Archive:
    """Make a record what it would be without what a replay needs."""
    old = [row._replace(code=None, arranged=None) for row in archive.transitions]
    return replace(archive, transitions=old)


async def test_an_old_run_that_waited_is_refused_but_where_it_stands(make: Make):
    workflow = shop(make)
    await workflow.run("r").send(WorkflowEvent("order", {"total": 5}))
    await workflow.resume("r")
    old = aged(await archive_of(workflow))
    made = forked(old, 2)
    assert (made.timers, made.parked) == (old.timers, old.parked)
    assert made.run.status == "waiting"
    with pytest.raises(ForkError, match=r"what it waited for at position 1 is not known.* at 2"):
        forked(old, 1)


async def test_an_old_run_without_a_trace_of_waiting_can_be_forked(make: Make):
    workflow = make()
    workflow.register("go", lambda event, ctx: ctx.state.update(n=event.data), name="see")
    for number in (1, 2):
        await workflow.send(WorkflowEvent("go", number), correlation_id="r")
    await workflow.resume("r")
    made = forked(aged(await archive_of(workflow)), 1)
    assert (made.run.status, made.run.head) == ("idle", 1)
