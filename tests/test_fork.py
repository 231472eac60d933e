"""Forks: what comes along and what does not, and who goes on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from forking import archive_of, forked, shop, sold
from watching import collect, log

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import (
    ForkError,
)
from flowstore.replay import rerun

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.testing import VirtualClock

    Make = Callable[..., WorkflowManager]


# --- what comes along ----------------------------------------------------------------------


async def test_what_was_emitted_by_then_is_pending_and_what_was_sent_later_is_not(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(at=1)
    record = await copy.info()
    assert (record.correlation_id, record.status) == ("r~1", "running")
    assert (record.cursor, record.head, record.result) == (1, 2, None)
    assert await log(workflow, "r~1") == [(1, "order"), (2, "reserve")]
    assert await copy.state() == {"total": 5}
    original = await collect(workflow.run("r").events())
    assert [event.id for event in await collect(copy.events())] == [e.id for e in original[:2]]


async def test_a_fork_goes_on_with_what_is_sent_to_it(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(at=2)
    assert await copy.status() == "waiting"
    await copy.send(WorkflowEvent("paid", 7), id="bank-1")
    await workflow.resume("r~2")
    assert (await copy.info()).result == '{"shipped":true}'
    assert await copy.state() == {"total": 5, "items": 2, "paid": 7}
    assert await workflow.run("r").state() == {"total": 5, "items": 2, "paid": 5}


async def test_what_a_handler_did_behind_its_wait_comes_only_behind_that(make: Make):
    workflow = shop(make)
    await sold(workflow)
    archive = await archive_of(workflow)
    assert [event.name for event in archive.events] == ["order", "reserve", "paid", "ship"]
    waiting, gone_on = forked(archive, 2), forked(archive, 3)
    assert (len(waiting.steps), len(waiting.parked), len(waiting.timers)) == (0, 1, 1)
    assert [event.name for event in waiting.events] == ["order", "reserve"]
    assert (len(gone_on.steps), len(gone_on.parked), len(gone_on.timers)) == (1, 0, 0)
    assert [event.name for event in gone_on.events] == ["order", "reserve", "paid", "ship"]
    assert (gone_on.run.status, gone_on.run.cursor) == ("running", 3)


async def test_the_lineage_names_the_event(make: Make):
    workflow = shop(make)
    await sold(workflow)
    archive = await archive_of(workflow)
    copy = await workflow.run("r").fork(at=2, edit_state={"total": 9})
    lineage = orjson.loads((await copy.info()).lineage or "")
    assert lineage == {
        "forked_from": {
            "correlation_id": "r",
            "position": 2,
            "hash": (archive.hashes[1] or b"").hex(),
            "edits": {"state": {"total": 9}},
        }
    }


async def test_a_fork_behind_the_end_is_closed_and_one_before_is_open(make: Make):
    workflow = shop(make)
    await sold(workflow)
    end, before = await workflow.run("r").fork(at=4), await workflow.run("r").fork(at=3)
    record = await end.info()
    assert (record.status, record.result, record.cursor) == ("completed", '{"shipped":true}', 4)
    assert await before.status() == "running"


async def test_what_the_closing_handler_dropped_stays_dropped(make: Make):
    workflow = make()
    workflow.register("late", lambda _: None, name="late")

    @workflow.on("go")
    async def go(_: WorkflowEvent, ctx: Context):
        yield WorkflowEvent("late", 1)
        ctx.complete()

    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    await workflow.send(WorkflowEvent("late", 2), correlation_id="r", id="x")
    await workflow.resume("r")
    archive = await archive_of(workflow)
    assert [(drop.event_id, drop.position) for drop in archive.drops] == [
        ("x", 2),
        ("1/go/1", None),
    ]
    made = forked(archive, 1)
    assert (made.run.status, made.run.cursor, made.run.head) == ("completed", 2, 2)
    assert [event.id for event in made.events[1:]] == ["1/go/1"]
    assert [drop.event_id for drop in made.drops] == ["1/go/1"]


async def test_a_run_that_was_cancelled_is_open_up_to_what_it_had_handled(make: Make):
    workflow = shop(make)
    run = workflow.run("r")
    await run.send(WorkflowEvent("order", {"total": 5}))
    await workflow.resume("r")
    await run.send(WorkflowEvent("paid", 5))
    await run.cancel("no longer wanted")
    archive = await archive_of(workflow)
    assert forked(archive, 2).run.status == "waiting"
    assert forked(archive, 3).run.status == "cancelled"
    assert forked(archive, 3).run.reason == "no longer wanted"
    assert [drop.position for drop in forked(archive, 3).drops] == [3]
    assert forked(archive, 2).drops == []
    again = forked(archive, 3, event={})
    assert (again.run.status, again.run.cursor, again.run.head) == ("running", 2, 3)


async def test_a_dead_letter_fails_the_fork_that_has_it(make: Make):
    workflow = make()

    @workflow.on("go")
    def go(event: WorkflowEvent) -> Any:
        if event.data == 2:
            raise ValueError("bad")
        return WorkflowEvent("more") if event.data == 3 else None

    for number in (1, 2, 3):
        await workflow.send(WorkflowEvent("go", number), correlation_id="r")
    await workflow.resume("r")
    archive = await archive_of(workflow)
    assert archive.run.status == "failed"
    assert (forked(archive, 1).run.status, forked(archive, 1).run.reason) == ("idle", None)
    dead = forked(archive, 2).run
    assert (dead.status, dead.reason) == ("running", archive.run.reason)
    again = forked(archive, 2, event={"data": 1}).run
    assert (again.status, again.reason) == ("running", None)


async def test_a_dead_letter_that_someone_heard_of_fails_no_fork(make: Make):
    workflow = make()
    workflow.register("error", lambda _: None, name="hear")

    @workflow.on("go")
    def go(_: WorkflowEvent) -> None:
        raise ValueError("bad")

    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    await workflow.resume("r")
    made = forked(await archive_of(workflow), 2)
    assert (made.run.status, made.run.reason) == ("idle", None)


async def test_what_is_being_tried_again_begins_anew_in_a_fork(make: Make, clock: VirtualClock):
    workflow = make(clock=clock)
    workflow.register("go", lambda _: WorkflowEvent("more"), name="first")

    async def second(_: WorkflowEvent, ctx: Context) -> None:
        await ctx.step("once", lambda: 1)
        raise ConnectionError

    workflow.register("go", second, name="second", retry=Retry(attempts=9, delay=60))
    async with workflow:
        await workflow.send(WorkflowEvent("start"), correlation_id="r")
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await clock.until_asleep(30)
        archive = await archive_of(workflow)
    assert (archive.run.cursor, archive.run.head, len(archive.steps)) == (1, 3, 1)
    made = forked(archive, 1)
    assert (made.run.head, made.run.ready_at, made.transitions, made.steps) == (1, None, [], [])
    again = forked(archive, 2, event={})
    assert (again.run.head, again.run.cursor, again.transitions) == (2, 1, [])
    with pytest.raises(ForkError, match="has not handled its event at position 2 yet, only those"):
        forked(archive, 2)


async def test_streams_come_along_with_their_chunks(make: Make):
    workflow = make()

    async def letters():
        for letter in "abc":
            yield letter

    @workflow.on("go")
    async def go(_: WorkflowEvent):
        yield WorkflowEvent("text", {"body": letters()})

    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    await workflow.resume("r")
    copy = await workflow.run("r").fork(at=1)
    [_, text] = await collect(copy.events())
    assert [chunk async for chunk in text.data["body"]] == ["a", "b", "c"]


async def test_refused_events_come_along_if_they_were_refused_by_then(make: Make):
    workflow = shop(make)
    run = workflow.run("r")
    await run.send(WorkflowEvent("order", {"total": 5}), id="o")
    await run.send(WorkflowEvent("order", {"total": 5}), id="o")
    await workflow.resume("r")
    await run.send(WorkflowEvent("paid", 5), id="p")
    await run.send(WorkflowEvent("paid", 5), id="p")
    await workflow.resume("r")
    archive = await archive_of(workflow)
    assert [drop.event_id for drop in archive.drops] == ["o", "p"]
    assert [drop.event_id for drop in forked(archive, 2).drops] == ["o"]


# --- among others ------------------------------------------------------------------------------


async def test_whoever_serves_the_workflow_goes_on_with_a_fork(make: Make):
    serving, other = shop(make), shop(make)
    async with serving:
        await other.run("r").send(WorkflowEvent("order", {"total": 5}))
        await other.run("r").wait(10)
        copy = await other.run("r").fork(at=1)
        assert (await copy.wait(10)).status == "waiting"
        assert await copy.state() == {"total": 5, "items": 2}


async def test_a_run_in_memory_can_be_forked(make: Make):
    workflow = shop(make, store=":memory:")
    await sold(workflow)
    async with workflow:
        copy = await workflow.run("r").fork(at=3)
        assert (await copy.wait(10)).status == "completed"


async def test_a_fork_is_identical_when_it_is_executed_again(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(at=3, edit_event={"data": 9}, edit_state={"total": 1})
    await workflow.resume(copy.correlation_id)
    report = await rerun(workflow, copy)
    assert (report.is_identical, report.events) == (True, 4), report.divergence
