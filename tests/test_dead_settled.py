"""Dead letters that are retried or discarded."""

# ruff: noqa: ARG001, ARG002 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3

import pytest
from watching import collect, drops, log, query, transitions

from flowstore import Retry, WorkflowEvent
from flowstore.errors import DeadLetterError, RunNotFoundError
from flowstore.replay import rerun
from flowstore.store.verify import verify
from flowstore.testing import VirtualClock


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


class Till:
    """Handlers of an order; ``pay`` fails as long as the bank is closed."""

    def __init__(self, workflow, **options):
        self.workflow = workflow
        self.is_open = False
        self.calls = []
        workflow.register("order", self.note, name="note")
        workflow.register("order", self.pay, name="pay", **options)

    async def note(self, event, ctx):
        self.calls.append("note")
        ctx.state["notes"] = ctx.state.get("notes", 0) + 1

    async def pay(self, event, ctx):
        self.calls.append("pay")
        amount = await ctx.step("ask", self.ask)
        ctx.state["paid"] = ctx.state.get("paid", 0) + amount
        yield WorkflowEvent("paid", {"amount": amount})
        if not self.is_open:
            raise ConnectionError("the bank is closed")

    async def ask(self):
        self.calls.append("ask")
        return 12

    async def order(self, name="r"):
        return await collect(
            self.workflow.process(WorkflowEvent("order"), correlation_id=name, id=f"{name}-1")
        )


async def dead(workflow, name=None):
    found = await (await workflow._runtime.reader()).list_dead(name)
    return [(each.correlation_id, each.position, each.handler) for each in found]


async def after(workflow, clock, seconds):
    """Move the clock on, and return what the run is when it has nothing more to handle."""
    await clock.advance(seconds)
    await workflow.send(WorkflowEvent("flush"), correlation_id="flush")  # behind what was fired
    return await workflow.run("r").wait(30)


@pytest.fixture
def till(workflow):
    return Till(workflow)


async def test_a_retry_calls_this_handler_alone_and_opens_the_failed_run(till, workflow):
    """G3: what was committed of the event's other handlers is not done again, nor are steps."""
    await till.order()
    assert await workflow.run("r").status() == "failed"
    assert await dead(workflow) == [("r", 1, "pay")]
    till.is_open = True
    receipt = await workflow.run("r").retry_dead(1)
    assert (receipt.status, receipt.position, receipt.id) == ("accepted", 3, "1/pay/r2")
    assert await workflow.resume() == ["r"]
    assert till.calls == ["note", "pay", "ask", "pay"]
    info = await workflow.run("r").info()
    assert (info.status, info.reason) == ("idle", None)
    assert await workflow.run("r").state() == {"notes": 1, "paid": 12}
    assert await log(workflow, "r") == [
        (1, "order"),
        (2, "error"),
        (3, "dead.retried"),
        (4, "paid"),
    ]
    assert await transitions(workflow, "r") == [
        (1, "note", 1, "handled"),
        (1, "pay", 1, "dead"),
        (3, "pay@1", 1, "handled"),
    ]
    assert await dead(workflow) == []
    assert (await workflow.run("r").send(WorkflowEvent("more"))).status == "accepted"


async def test_a_retry_that_fails_is_a_dead_letter_that_can_be_retried(till, workflow):
    await till.order()
    for position in (1, 3, 5):
        await workflow.run("r").retry_dead(position)
        assert await dead(workflow) == []
        await workflow.resume()
        assert await workflow.run("r").status() == "failed"
        assert await dead(workflow) == [("r", position + 2, "pay@1")]
    till.is_open = True
    await workflow.run("r").retry_dead(7, "pay@1")
    await workflow.resume()
    assert await workflow.run("r").state() == {"notes": 1, "paid": 12}
    assert [row[-1] for row in await transitions(workflow, "r")] == [
        "handled", "dead", "dead", "dead", "dead", "handled",
    ]  # fmt: skip


async def test_the_retries_of_the_handler_count_anew(make):
    workflow = make(clock=VirtualClock(is_automatic=True))
    till = Till(workflow, retry=Retry(attempts=3))
    await till.order()
    await workflow.run("r").retry_dead(1)
    await workflow.resume()
    assert [row[1:] for row in await transitions(workflow, "r")] == [
        ("note", 1, "handled"),
        ("pay", 1, "retried"),
        ("pay", 2, "retried"),
        ("pay", 3, "dead"),
        ("pay@1", 1, "retried"),
        ("pay@1", 2, "retried"),
        ("pay@1", 3, "dead"),
    ]


async def test_a_served_workflow_does_it_at_once(till, workflow):
    await till.order()
    till.is_open = True
    async with workflow:
        await workflow.run("r").retry_dead(1)
        assert (await workflow.run("r").wait(30)).status == "idle"
    assert till.calls.count("pay") == 2


async def test_a_handler_that_was_renamed_is_told_clearly_and_holds_nothing_up(make, path):
    first = make()
    till = Till(first)
    await till.order()
    await first.run("r").retry_dead(1)
    await first.close()
    second = make()
    second.register("order", till.pay, name="pay_invoice")
    await second.resume()
    assert await second.run("r").status() == "failed"
    assert await dead(second) == [("r", 3, "pay@1")]
    ((error,),) = query(path, "SELECT error FROM transition WHERE position = 3")
    assert "no handler 'pay' is registered for 'order'" in error
    await second.close()
    third = make()
    till.is_open = True
    third.register("order", till.pay, name="pay")
    await third.run("r").retry_dead(3)
    await third.resume()
    assert await third.run("r").state() == {"notes": 1, "paid": 12}


async def test_what_cannot_be_retried_is_told_clearly(till, workflow):
    await till.order()
    run = workflow.run("r")
    for position, handler, says in (
        (2, None, "no handler has failed for good there"),
        (9, None, "no handler has failed for good there"),
        (1, "note", "'note' has not failed for good there"),
    ):
        with pytest.raises(DeadLetterError, match=says):
            await run.retry_dead(position, handler)
    await run.retry_dead(1)
    with pytest.raises(DeadLetterError, match="has been retried already, at position 3"):
        await run.retry_dead(1)
    with pytest.raises(DeadLetterError, match="has been retried already, at position 3"):
        await run.discard_dead(1)
    with pytest.raises(RunNotFoundError):
        await workflow.run("nobody").retry_dead(1)
    assert await log(workflow, "r") == [(1, "order"), (2, "error"), (3, "dead.retried")]


async def test_two_retries_at_the_same_time_are_one(till, workflow):
    await till.order()
    run = workflow.run("r")
    outcomes = await asyncio.gather(run.retry_dead(1), run.retry_dead(1), return_exceptions=True)
    assert outcomes[0].position == 3
    assert isinstance(outcomes[1], DeadLetterError)


@pytest.mark.parametrize("closing", ["completed", "cancelled"])
async def test_a_closed_run_is_not_opened(workflow, closing):
    async def fail(event):
        raise ValueError("broken")

    async def repair(event, ctx):
        if closing == "completed":
            ctx.complete()

    workflow.register("go", fail, name="fail").register("error", repair)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    if closing == "cancelled":
        await workflow.run("r").cancel("enough")
    with pytest.raises(DeadLetterError, match=f"is {closing}.*can be discarded, not retried"):
        await workflow.run("r").retry_dead(1)
    assert await dead(workflow) == [("r", 1, "fail")]
    await workflow.run("r").discard_dead(1, reason="never mind")
    assert await dead(workflow) == []
    assert await workflow.run("r").status() == closing


async def test_a_run_whose_deadline_passed_is_not_opened(make):
    clock = VirtualClock()
    workflow = make(clock=clock)

    async def begin(event, ctx):
        ctx.deadline(delay=60)

    async def fail(event):
        raise ValueError("broken")

    async def repair(event):
        """The failure alone does not close the run."""

    workflow.register("go", begin).register("go", fail, name="fail").register("error", repair)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        assert (await workflow.run("r").wait(30)).status == "waiting"
        assert (await after(workflow, clock, 60)).status == "failed"
    with pytest.raises(DeadLetterError, match="its deadline passed"):
        await workflow.run("r").retry_dead(1)


async def test_of_two_failures_the_other_one_still_fails_the_run(workflow):
    broken = {"one", "two"}

    def handler(name):
        async def work(event):
            if name in broken:
                raise ValueError(name)

        return work

    for name in ("one", "two"):
        workflow.register("go", handler(name), name=name)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    run = workflow.run("r")
    with pytest.raises(DeadLetterError, match="say which of 'one', 'two'"):
        await run.retry_dead(1)
    broken.clear()
    await run.retry_dead(1, "two")
    await workflow.resume()
    assert (await run.info()).status == "failed"
    assert "'one'" in (await run.info()).reason
    await run.retry_dead(1, "one")
    await workflow.resume()
    assert (await run.info()).status == "idle"


async def test_a_worker_at_the_run_takes_it_in_its_turn(make):
    """Its memory of the failure is no reason any more to fail the run."""
    workflow = make()
    till = Till(workflow)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(event):
        reached.set()
        await go_on.wait()

    workflow.register("hold", hold)
    await workflow.send(WorkflowEvent("order"), correlation_id="r")
    await workflow.send(WorkflowEvent("hold"), correlation_id="r")
    going = asyncio.create_task(workflow.resume())
    await reached.wait()
    till.is_open = True
    other = make()
    await other.run("r").retry_dead(1)
    go_on.set()
    await going
    info = await workflow.run("r").info()
    assert (info.status, info.reason) == ("idle", None)
    assert await workflow.run("r").state() == {"notes": 1, "paid": 12}
    assert till.calls.count("pay") == 2


async def test_a_crash_between_the_retry_and_the_handler_loses_nothing(make):
    """The retry is an event like any other: G1, G9."""
    first = make()
    till = Till(first)
    await till.order()
    await first.run("r").retry_dead(1)
    await first.close()
    second = make()
    again = Till(second)
    again.is_open = True
    assert await second.resume() == ["r"]
    assert again.calls == ["pay"]


# --- what others make of it ----------------------------------------------------------------------


async def test_it_is_replayed_as_it_was(till, workflow, path):
    await till.order()
    till.is_open = True
    await workflow.run("r").retry_dead(1)
    await workflow.resume()
    # As the bank is now, the first attempt would not have failed: so says the replay.
    report = await rerun(workflow, "r")
    assert (report.divergence.position, report.divergence.handler) == (1, "pay")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert verify(connection).flaws == []


async def test_a_retry_that_fails_in_the_same_way_is_replayed_identically(till, workflow):
    await till.order()
    await workflow.run("r").retry_dead(1)
    await workflow.resume()
    report = await rerun(workflow, "r")
    assert report.is_identical, report.divergence


async def test_nobody_can_send_a_retry(till, workflow):
    """An event of that name is one like any other."""
    await till.order("s")
    receipt = await workflow.send(
        WorkflowEvent("dead.retried", {"position": 1, "handler": "pay", "row": []}),
        correlation_id="q",
    )
    await workflow.resume()
    assert receipt.status == "accepted"
    assert await workflow.run("q").status() == "idle"
    assert await transitions(workflow, "q") == []


async def test_a_discarded_letter_is_kept_in_the_record(till, workflow):
    await till.order()
    await workflow.run("r").discard_dead(1, "pay", "paid by hand")
    assert await dead(workflow) == []
    assert await drops(workflow, "r") == [("r-1", "discarded")]
    assert [row[-1] for row in await transitions(workflow, "r")] == ["handled", "dead"]
    assert await workflow.run("r").status() == "failed"
    for again in (workflow.run("r").discard_dead(1), workflow.run("r").retry_dead(1)):
        with pytest.raises(DeadLetterError, match="it has been discarded"):
            await again
