"""Repeats, conflicts, closed runs and events that expire: each has a verdict that is kept."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from watching import collect, drops, log, names, query, transitions

from flowstore import WorkflowEvent
from flowstore.errors import (
    EventConflictError,
    InvalidValueError,
    StaleEventError,
    StoreError,
)


@pytest.fixture
def counting(workflow):
    async def count(event, ctx):
        ctx["n"] = ctx.get("n", 0) + 1

    async def close(event, ctx):
        ctx.complete({"n": ctx.get("n", 0)})

    return workflow.register("count", count).register("close", close)


# --- repeats (G5) ------------------------------------------------------------------------


async def test_a_repeat_gets_the_originals_receipt_and_changes_nothing(counting):
    """G5, G3."""
    async with counting:
        first = await counting.send(WorkflowEvent("count", 1), correlation_id="r", id="e")
        await counting.run("r").wait()
        again = await counting.send(WorkflowEvent("count", 1), correlation_id="r", id="e")
        await counting.run("r").wait()
        assert (first.status, first.position, first.reason) == ("accepted", 1, None)
        assert (again.status, again.position, again.id) == ("duplicate", 1, "e")
        assert "position 1" in again.reason
        assert await counting.run("r").state() == {"n": 1}
        assert await drops(counting, "r") == [("e", "duplicate")]


async def test_without_an_id_each_send_is_a_new_event(counting):
    for _ in range(2):
        assert (await counting.send(WorkflowEvent("count", 1), correlation_id="r")).status == (
            "accepted"
        )
    assert len(await log(counting, "r")) == 2


async def test_the_same_id_in_another_run_is_another_event(counting):
    for run in ("a", "b"):
        receipt = await counting.send(WorkflowEvent("count"), correlation_id=run, id="e")
        assert receipt.status == "accepted"


async def test_repeats_sent_at_once_are_appended_once(counting):
    """G5: also within one transaction."""
    receipts = await asyncio.gather(
        *(counting.send(WorkflowEvent("count", 1), correlation_id="r", id="e") for _ in range(50))
    )
    assert [receipt.status for receipt in receipts].count("accepted") == 1
    assert {receipt.position for receipt in receipts} == {1}
    assert len(await drops(counting, "r")) == 49


async def test_a_repeat_is_known_after_a_restart(counting, make):
    await counting.send(WorkflowEvent("count", {"a": 1, "b": 2}), correlation_id="r", id="e")
    await counting.close()
    other = make()
    again = await other.send(WorkflowEvent("count", {"b": 2, "a": 1}), correlation_id="r", id="e")
    assert again.status == "duplicate"


async def test_the_events_own_id_and_run_count(counting):
    event = WorkflowEvent("count", id="e", correlation_id="r")
    assert (await counting.send(event)).correlation_id == "r"
    assert (await counting.send(event)).status == "duplicate"


@pytest.mark.parametrize(
    "other",
    [
        WorkflowEvent("count", 2),
        WorkflowEvent("other", 1),
        WorkflowEvent("count", 1, {"user": "ada"}),
        WorkflowEvent("count", 1, error="odd"),
        WorkflowEvent("count", 1.0),
        WorkflowEvent("count", True),  # noqa: FBT003 - the data of the event
    ],
)
async def test_the_same_id_with_other_content_is_refused(counting, other):
    """G5, G7."""
    await counting.send(WorkflowEvent("count", 1), correlation_id="r", id="e")
    with pytest.raises(EventConflictError, match=r"'r'.*'e'.*position 1.*id of its own"):
        await counting.send(other, correlation_id="r", id="e")
    assert await drops(counting, "r") == [("e", "conflict")]
    assert await log(counting, "r") == [(1, "count")]


async def test_a_conflict_fails_alone_among_those_sent_with_it(counting):
    await counting.send(WorkflowEvent("count", 1), correlation_id="r", id="e")
    results = await asyncio.gather(
        counting.send(WorkflowEvent("count", 5), correlation_id="r"),
        counting.send(WorkflowEvent("count", 2), correlation_id="r", id="e"),
        counting.send(WorkflowEvent("count", 6), correlation_id="r"),
        return_exceptions=True,
    )
    assert isinstance(results[1], EventConflictError)
    assert [results[0].position, results[2].position] == [2, 3]


async def test_process_with_a_known_id_attaches_to_what_became_of_it(counting):
    first = await names(counting.process(WorkflowEvent("count"), correlation_id="r", id="e"))
    await counting.send(WorkflowEvent("nobody's"), correlation_id="r")
    again = await names(counting.process(WorkflowEvent("count"), correlation_id="r", id="e"))
    assert first == ["count"]
    assert again == ["count", "nobody's"]
    assert await counting.run("r").state() == {"n": 1}


async def test_process_with_a_known_id_goes_on_with_what_was_interrupted(counting, make):
    await counting.send(WorkflowEvent("count"), correlation_id="r", id="e")
    await counting.close()
    assert await counting.run("r").status() == "running"
    assert await names(counting.process(WorkflowEvent("count"), correlation_id="r", id="e")) == [
        "count"
    ]
    assert await counting.run("r").state() == {"n": 1}


async def test_process_with_a_known_id_of_a_closed_run_shows_it_again(counting):
    await collect(counting.process(WorkflowEvent("count"), correlation_id="r", id="e"))
    await collect(counting.process(WorkflowEvent("close"), correlation_id="r"))
    assert await names(counting.process(WorkflowEvent("count"), correlation_id="r", id="e")) == [
        "count",
        "close",
    ]


async def test_send_many_gives_a_receipt_for_each_in_order(counting):
    events = [WorkflowEvent("count", n, id=f"e{n}", correlation_id="r") for n in (1, 2, 1, 3)]
    receipts = await counting.send_many(events)
    assert [(receipt.status, receipt.position) for receipt in receipts] == [
        ("accepted", 1),
        ("accepted", 2),
        ("duplicate", 1),
        ("accepted", 3),
    ]
    assert await counting.send_many([]) == []


async def test_send_many_writes_nothing_if_one_cannot_be_stored(counting):
    """G10."""
    bad = WorkflowEvent("count", {"n": float("nan")}, correlation_id="r")
    with pytest.raises(InvalidValueError, match=r"data\.n"):
        await counting.send_many([WorkflowEvent("count", correlation_id="r"), bad])
    assert await counting.runs() == []


# --- repeats that handlers make ------------------------------------------------------------


async def test_an_emitted_event_with_an_id_of_the_users_is_appended_once(workflow):
    async def handle(event):
        return WorkflowEvent("paid", {"n": 1}, id="payment-7")

    workflow.register("go", handle)
    for _ in range(2):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [name for _, name in await log(workflow, "r")] == ["go", "paid", "go"]
    assert await drops(workflow, "r") == [("payment-7", "duplicate")]


async def test_one_handler_that_emits_an_id_twice_appends_it_once(workflow):
    async def handle(event):
        yield WorkflowEvent("paid", {"n": 1}, id="payment-7")
        yield WorkflowEvent("paid", {"n": 1}, id="payment-7")
        yield WorkflowEvent("done")

    workflow.register("go", handle)
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == [
        "go",
        "paid",
        "done",
    ]
    assert await drops(workflow, "r") == [("payment-7", "duplicate")]


@pytest.mark.parametrize("taken", ["2/handle/1", "2/handle/error", "1/handle/p1", "7/a b/12"])
async def test_an_id_of_the_form_of_emitted_events_is_refused(workflow, path, taken):
    """They can be guessed, and a run whose handler could not emit any more would be stuck."""
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    with pytest.raises(InvalidValueError, match=r"^id: "):
        await workflow.send(WorkflowEvent("other"), correlation_id="r", id=taken)
    assert query(path, "SELECT count(*) FROM event") == [(1,)]


@pytest.mark.parametrize("fine", ["2/handle", "a/b/c", "/2/handle/1", "order/2/handle"])
async def test_other_ids_with_slashes_are_fine(workflow, fine):
    receipt = await workflow.send(WorkflowEvent("other"), correlation_id="r", id=fine)
    assert receipt.status == "accepted"


# --- closed runs (G6) ----------------------------------------------------------------------


async def test_an_event_for_a_closed_run_is_stale_and_recorded(counting):
    """G6, G7."""
    await collect(counting.process(WorkflowEvent("close"), correlation_id="r"))
    receipt = await counting.send(WorkflowEvent("count"), correlation_id="r", id="late")
    assert (receipt.status, receipt.position) == ("stale", None)
    assert "completed" in receipt.reason
    assert await drops(counting, "r") == [("late", "stale")]
    with pytest.raises(StaleEventError, match=r"'count'.*'r'.*completed"):
        await collect(counting.process(WorkflowEvent("count"), correlation_id="r"))


async def test_what_was_pending_when_a_run_was_closed_is_dropped_with_its_reason(counting):
    """G6, G7: nothing vanishes."""
    for name in ("close", "count", "nobody's"):
        await counting.send(WorkflowEvent(name), correlation_id="r", id=name)
    assert await counting.resume() == ["r"]
    assert await counting.run("r").status() == "completed"
    assert await drops(counting, "r") == [("count", "stale"), ("nobody's", "stale")]
    assert await log(counting, "r") == [(1, "close"), (2, "count"), (3, "nobody's")]


async def test_events_before_the_closing_one_are_handled(counting):
    """The control to the one above."""
    for name in ("count", "count", "close"):
        await counting.send(WorkflowEvent(name), correlation_id="r")
    await counting.resume()
    assert await drops(counting, "r") == []
    assert (await counting.run("r").info()).result == '{"n":2}'


async def test_a_handler_can_call_an_event_stale(workflow):
    """G6."""

    async def handle(event, ctx):
        if event.data < ctx.get("latest", 0):
            ctx.drop(f"older than {ctx['latest']}")
            return
        ctx["latest"] = event.data

    workflow.register("reading", handle)
    for number in (5, 3, 9):
        await workflow.send(WorkflowEvent("reading", number), correlation_id="r", id=f"e{number}")
    await workflow.resume()
    assert await workflow.run("r").state() == {"latest": 9}
    assert await drops(workflow, "r") == [("e3", "stale")]
    (drop,) = await (await workflow._runtime.reader()).list_drops("r")
    assert (drop.detail, drop.position, drop.handler) == (
        "older than 5",
        2,
        (await transitions(workflow, "r"))[0][1],
    )
    assert [row[3] for row in await transitions(workflow, "r")] == [
        "handled",
        "dropped",
        "handled",
    ]


# --- events that expire (G6) ---------------------------------------------------------------


async def test_an_event_that_has_expired_is_refused_when_sent(make, clock):
    workflow = make(clock=clock)
    receipt = await workflow.send(
        WorkflowEvent("go"), correlation_id="r", id="e", expires_at=clock.moment
    )
    assert (receipt.status, receipt.position) == ("stale", None)
    assert "expired" in receipt.reason
    assert await drops(workflow, "r") == [("e", "expired")]


async def test_an_event_that_expires_while_pending_is_dropped_when_its_turn_comes(make, clock):
    workflow = make(clock=clock)
    handled = []

    async def handle(event):
        handled.append(event.id)

    workflow.register("go", handle)
    for name, seconds in (("soon", 10), ("later", 60)):
        receipt = await workflow.send(
            WorkflowEvent("go"),
            correlation_id="r",
            id=name,
            expires_at=clock.moment + timedelta(seconds=seconds),
        )
        assert receipt.status == "accepted"
    await clock.advance(30)
    await workflow.resume()
    assert handled == ["later"]
    assert await drops(workflow, "r") == [("soon", "expired")]
    assert await workflow.run("r").status() == "idle"
    assert await log(workflow, "r") == [(1, "go"), (2, "go")]


async def test_an_expiry_needs_a_timezone(workflow):
    with pytest.raises(InvalidValueError, match=r"expires_at.*timezone"):
        await workflow.send(WorkflowEvent("go"), expires_at=datetime(2031, 1, 1))  # noqa: DTZ001


async def test_an_expiry_far_away_is_no_matter(workflow):
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    assert (await workflow.send(WorkflowEvent("go"), expires_at=moment)).status == "accepted"


# --- early events (G6) -----------------------------------------------------------------------


async def test_events_that_come_before_anyone_serves_are_kept(workflow, path):
    for number in range(3):
        await workflow.send(WorkflowEvent("go", number), correlation_id="r")
    assert query(path, "SELECT count(*) FROM event") == [(3,)]
    seen = []

    async def handle(event):
        seen.append(event.data)

    workflow.register("go", handle)
    async with workflow:
        await workflow.run("r").wait()
    assert seen == [0, 1, 2]


async def test_an_event_can_come_before_the_one_that_starts_its_run(workflow):
    async def approve(event, ctx):
        ctx["approved"] = True

    async def start(event, ctx):
        return WorkflowEvent("go on" if ctx.get("approved") else "ask")

    workflow.register("approve", approve).register("start", start)
    await workflow.send(WorkflowEvent("approve"), correlation_id="r")
    assert (await names(workflow.process(WorkflowEvent("start"), correlation_id="r")))[-1] == (
        "go on"
    )


def test_verdicts_are_words_of_their_own():
    """What is sent wrongly is an error; what comes late is a verdict."""
    assert not issubclass(EventConflictError, StoreError)
    assert not issubclass(StaleEventError, StoreError)
