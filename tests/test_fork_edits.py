"""Forks with edits, their names, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from forking import archive_of, forked, shop, sold
from pydantic import BaseModel
from watching import collect, drops, query, transitions

from flowstore import Context, Limits, WorkflowEvent, WorkflowManager
from flowstore.errors import (
    ForkError,
    InvalidStateError,
    InvalidValueError,
    RunExistsError,
    RunNotFoundError,
    ValueTooLargeError,
)
from flowstore.replay import rerun
from flowstore.replay.fork import HANDLER
from flowstore.replay.record import EDITED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flowstore.testing import VirtualClock

    Make = Callable[..., WorkflowManager]


class Basket(BaseModel):
    items: int = 0


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


async def test_an_edit_of_the_state_has_to_fit_its_class(make: Make):
    workflow = make(state=Basket)

    @workflow.on("add")
    def add(_: WorkflowEvent, ctx: Context) -> None:
        ctx.state.items += 1

    await workflow.send(WorkflowEvent("add"), correlation_id="r")
    await workflow.resume("r")
    run = workflow.run("r")
    assert await (await run.fork(at=1, edit_state={"items": 5})).state() == Basket(items=5)
    first = await run.fork(at=1, edit_event={}, edit_state={"items": 7})
    await workflow.resume(first.correlation_id)
    assert await first.state() == Basket(items=8)
    with pytest.raises(InvalidStateError, match=r"^state.items: "):
        await run.fork(at=1, edit_state={"items": "many"})


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


async def test_an_edited_event_that_a_handler_had_emitted_replays(make: Make):
    """Nor is what the fork edits of it held against its author, by a fork of the fork either."""
    workflow = make()
    price = 2

    @workflow.on("order")
    async def order(event: WorkflowEvent, _ctx: Context) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent("priced", price * event.data)
        yield WorkflowEvent("noted", price)

    @workflow.on("priced")
    async def bill(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["bill"] = event.data

    await collect(workflow.process(WorkflowEvent("order", 3), correlation_id="r"))
    copy = await workflow.run("r").fork(at=2, edit_event={"data": 5})
    await workflow.resume(copy.correlation_id)
    again = await copy.fork(at=3)
    sooner = await copy.fork(at=2, edit_event={"name": "noted"})
    await workflow.resume()
    for run in (copy, again, sooner):
        assert (await rerun(workflow, run)).divergence is None
    assert await again.state() == {"bill": 5}
    before = await copy.fork(at=1, edit_event={})
    await workflow.resume(before.correlation_id)
    assert await before.state() == {"bill": 6}
    # Everything else that its author emits counts.
    price = 4
    found = (await rerun(workflow, again)).divergence
    assert found is not None
    assert [each.path for each in found.differences] == ["emitted.noted.data"]
    assert (await rerun(workflow, before)).divergence is not None


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


async def test_a_fork_of_a_run_with_a_long_name_needs_one_of_its_own(make: Make):
    workflow, name = shop(make), "n" * 254
    await workflow.run(name).send(WorkflowEvent("reserve", {"items": 1}))
    await workflow.resume()
    with pytest.raises(ForkError, match="n~1' is too long for a correlation_id; give the fork a"):
        await workflow.run(name).fork(at=1)
    assert await (await workflow.run(name).fork(at=1, correlation_id="f")).status() == "idle"


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
