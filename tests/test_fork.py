"""Forks: what comes along, what does not, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from watching import collect, drops, log, query, transitions

from flowstore import Context, Limits, Retry, WorkflowEvent, WorkflowManager
from flowstore.codec import Codec
from flowstore.errors import (
    ForkError,
    InvalidTokenError,
    InvalidValueError,
    RunExistsError,
    RunNotFoundError,
    ValueTooLargeError,
)
from flowstore.replay import rerun
from flowstore.replay.fork import HANDLER, Edits, fork
from flowstore.replay.record import EDITED
from flowstore.store.base import PENDING, Archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.testing import VirtualClock

    Make = Callable[..., WorkflowManager]

NOW = 1_900_000_000_000_000


async def archive_of(workflow: WorkflowManager, name: str = "r") -> Archive:
    [found] = await (await workflow._runtime.reader()).read_archives([name])
    return found


def forked(archive: Archive, at: int, **edits: Any) -> Archive:
    codec = Codec()
    return fork(archive, at=at, name="f", now=NOW, codec=codec, edits=Edits(**edits))


def shop(make: Make, **options: Any) -> WorkflowManager:
    """A workflow that waits for a payment, and ends."""
    workflow = make(**options)

    @workflow.on("order")
    async def order(event: WorkflowEvent, ctx: Context):
        ctx.state["total"] = event.data["total"]
        yield WorkflowEvent("reserve", {"items": 2})
        paid = await ctx.wait_for("paid", timeout=60)
        ctx.state["paid"] = await ctx.step("book", lambda: paid.data)
        yield WorkflowEvent("ship")

    @workflow.on("reserve")
    async def reserve(event: WorkflowEvent, ctx: Context):
        ctx.state["items"] = event.data["items"]

    @workflow.on("ship")
    async def ship(_: WorkflowEvent, ctx: Context):
        ctx.complete({"shipped": True})

    return workflow


async def sold(workflow: WorkflowManager) -> None:
    """Let a run of the shop come to its end: order, reserve, paid, ship."""
    run = workflow.run("r")
    await run.send(WorkflowEvent("order", {"total": 5}))
    await workflow.resume("r")
    await run.send(WorkflowEvent("paid", 5), id="bank-1")
    await workflow.resume("r")
    assert await run.status() == "completed"


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


# --- edits ---------------------------------------------------------------------------------------


async def test_an_edited_event_is_handled_anew(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(at=3, edit_event={"data": 8, "metadata": {"by": "me"}})
    assert (await copy.info()).cursor == 2
    await workflow.resume(copy.correlation_id)
    assert await copy.state() == {"total": 5, "items": 2, "paid": 8}
    events = await collect(copy.events())
    assert (events[2].id, events[2].data, events[2].metadata) == ("bank-1", 8, {"by": "me"})
    assert [event.name for event in events] == ["order", "reserve", "paid", "ship"]


async def test_the_first_event_can_be_edited_and_the_state_with_it(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(
        at=1, edit_event={"data": {"total": 6}}, edit_state={"note": "x", "total": 1}
    )
    assert await copy.state() == {"note": "x", "total": 1}
    await workflow.resume("r~1")
    assert await copy.state() == {"note": "x", "total": 6, "items": 2}
    assert (await transitions(workflow, "r~1"))[0] == (1, HANDLER, 1, EDITED)


async def test_an_edit_of_the_state_is_a_transition_of_its_own(make: Make):
    workflow = shop(make)
    await sold(workflow)
    copy = await workflow.run("r").fork(at=2, edit_state={"total": None, "items": {"a": 1}})
    assert await copy.state() == {"items": {"a": 1}}
    assert await copy.state(at=1) == {"total": 5}
    assert await transitions(workflow, "r~2") == [
        (1, "order", 1, "parked"),
        (2, "reserve", 1, "handled"),
        (2, HANDLER, 1, EDITED),
    ]


async def test_an_edit_of_the_state_counts_where_a_snapshot_is(make: Make):
    workflow = make()

    @workflow.on("grow")
    def grow(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state[f"k{event.data}"] = "x" * (20_000 if event.data else 1)

    for number in range(3):
        await workflow.send(WorkflowEvent("grow", number), correlation_id="r")
    await workflow.resume("r")
    archive = await archive_of(workflow)
    at = archive.snapshots[-1].position
    assert at > 1
    copy = await workflow.run("r").fork(at=at, edit_state={"k0": None, "new": 1})
    state = await copy.state()
    assert ("k0" in state, state["new"], "k0" in await copy.state(at=1)) == (False, 1, True)


@pytest.mark.parametrize(
    ("edits", "where", "problem"),
    [
        ({"event": {"data": {"a": {"b": float("nan")}}}}, "edit_event.data.a.b", "nan"),
        ({"event": {"id": "x"}}, "edit_event", "has 'id', and of an event name, data"),
        ({"event": {"name": ""}}, "name", "empty"),
        ({"event": {"name": None}}, "name", "None"),
        ({"event": {"metadata": 5}}, "metadata", "must be a dict"),
        ({"event": [1]}, "edit_event", "no JSON object"),
        ({"state": {"a": [object()]}}, r"edit_state.a\[0\]", "object"),
        ({"state": "x"}, "edit_state", "no JSON object"),
    ],
)
async def test_what_cannot_be_stored_is_refused_with_its_path(
    make: Make, edits: dict[str, Any], where: str, problem: str
):
    workflow = shop(make)
    await sold(workflow)
    with pytest.raises(InvalidValueError, match=f"^{where}: .*{problem}"):
        forked(await archive_of(workflow), 1, **edits)


async def test_an_edit_keeps_to_the_limits_of_the_store(make: Make):
    workflow = shop(make, limits=Limits(data_bytes=100, state_bytes=100))
    await sold(workflow)
    run = workflow.run("r")
    with pytest.raises(ValueTooLargeError, match=r"^data: is "):
        await run.fork(at=1, edit_event={"data": {"more": "x" * 99}})
    with pytest.raises(ValueTooLargeError, match=r"^state: is "):
        await run.fork(at=1, edit_state={"more": "x" * 85})
    assert [record.correlation_id for record in await workflow.runs()] == ["r"]


async def test_an_edited_event_does_not_expire(make: Make, clock: VirtualClock):
    workflow = make(clock=clock)
    workflow.register("go", lambda event, ctx: ctx.state.update(seen=event.data), name="see")
    soon = clock.moment + timedelta(seconds=1)
    await workflow.run("r").send(WorkflowEvent("go", 1), expires_at=soon)
    await clock.advance(2)
    await workflow.resume("r")
    assert await drops(workflow, "r") != []
    copy = await workflow.run("r").fork(at=1, edit_event={})
    await workflow.resume(copy.correlation_id)
    assert (await copy.state(), await drops(workflow, "r~1")) == ({"seen": 1}, [])


# --- names, and what is refused ------------------------------------------------------------------


async def test_forks_get_names_of_their_own(make: Make):
    workflow = shop(make)
    await sold(workflow)
    run = workflow.run("r")
    made = await asyncio.gather(*(run.fork(at=2) for _ in range(4)))
    names = sorted(each.correlation_id for each in made)
    assert names == ["r~2", "r~2.2", "r~2.3", "r~2.4"]
    assert (await run.fork(at=2, correlation_id="mine")).correlation_id == "mine"
    with pytest.raises(RunExistsError, match="there is a run 'mine' already"):
        await run.fork(at=2, correlation_id="mine")
    with pytest.raises(InvalidValueError, match="correlation_id: is empty"):
        await run.fork(at=2, correlation_id="")


async def test_two_managers_that_fork_at_once_get_two_forks(make: Make):
    one, other = shop(make), shop(make)
    await sold(one)
    made = await asyncio.gather(*(each.run("r").fork(at=2) for each in (one, other, one, other)))
    assert len({run.correlation_id for run in made}) == 4


@pytest.mark.parametrize("at", [0, -1, 5, True, "2", 1.0])
async def test_a_position_that_is_not_there_is_refused(make: Make, at: Any):
    workflow = shop(make)
    await sold(workflow)
    with pytest.raises(ForkError, match=r"has no event at position .*: it has 1 to 4"):
        await workflow.run("r").fork(at=at)


async def test_a_run_that_is_not_there_is_refused(make: Make):
    with pytest.raises(RunNotFoundError):
        await make().run("nope").fork(at=1)


async def test_an_edit_behind_the_end_is_refused(make: Make):
    workflow = shop(make)
    await sold(workflow)
    with pytest.raises(ForkError, match="was completed at position 4"):
        await workflow.run("r").fork(at=4, edit_state={"a": 1})
    copy = await workflow.run("r").fork(at=4, edit_event={})
    assert await copy.status() == "running"


async def test_a_fork_changes_nothing_in_its_original(make: Make, path: Any):
    workflow = shop(make)
    await sold(workflow)
    before = await archive_of(workflow)
    await workflow.run("r").fork(at=2, edit_state={"total": 1}, edit_event={"data": {"items": 0}})
    assert await archive_of(workflow) == before
    assert query(path, "SELECT count(*) FROM run") == [(2,)]


async def test_a_fork_can_be_forked(make: Make):
    workflow = shop(make)
    await sold(workflow)
    first = await workflow.run("r").fork(at=2)
    await first.send(WorkflowEvent("paid", 7))
    await workflow.resume("r~2")
    second = await first.fork(at=2)
    assert second.correlation_id == "r~2~2"
    await second.send(WorkflowEvent("paid", 8))
    await workflow.resume("r~2~2")
    assert [await workflow.run(name).state() for name in ("r", "r~2", "r~2~2")] == [
        {"total": 5, "items": 2, "paid": paid} for paid in (5, 7, 8)
    ]


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
