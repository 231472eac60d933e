"""Dead letters that are retried or discarded."""

# ruff: noqa: ARG001, ARG002, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3

import pytest
from command_line import Called, settle
from watching import collect, drops, log, query, transitions

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import DeadLetterError, RunNotFoundError, WaitExpiredError
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


# --- handlers that waited ------------------------------------------------------------------------


class Waiter:
    """Counts when it begins and when it goes on; fails behind its wait."""

    def __init__(self, workflow, *, is_late=False):
        self.workflow = workflow
        self.is_fixed = False
        self.is_late = is_late
        workflow.register("go", self.work, name="work")
        workflow.register("error", self.repair)

    async def repair(self, event):
        """So that the run is not closed."""

    async def work(self, event, ctx):
        ctx.state["begun"] = ctx.state.get("begun", 0) + 1
        first = await ctx.wait_for("first")
        ctx.state["first"] = first.data
        second = await ctx.wait_for("second")
        if not self.is_fixed:
            raise ValueError("broken")
        ctx.state["second"] = second.data
        if self.is_late:
            third = await ctx.wait_for("third")
            ctx.state["third"] = third.data


async def test_a_handler_that_waited_goes_on_where_it_failed(workflow):
    """G3: what it did before its waits is committed and not done twice."""
    waiter = Waiter(workflow, is_late=True)
    for number, name in enumerate(("go", "first", "second", "third"), 1):
        await workflow.send(WorkflowEvent(name, number), correlation_id="r")
        await workflow.resume()
    assert await dead(workflow) == [("r", 3, "work@1")]
    assert await workflow.run("r").state() == {"begun": 1, "first": 2}
    await workflow.run("r").retry_dead(3)
    await workflow.resume()
    assert [row[-1] for row in await transitions(workflow, "r")].count("dead") == 2
    waiter.is_fixed = True
    (last,) = await dead(workflow)
    await workflow.run("r").retry_dead(last[1])
    await workflow.resume()
    assert await dead(workflow) == []
    state = await workflow.run("r").state()
    assert state == {"begun": 1, "first": 2, "second": 3, "third": 4}
    assert await workflow.run("r").status() == "idle"


async def test_a_handler_whose_time_was_over_is_told_so_again(make):
    clock = VirtualClock()
    workflow = make(clock=clock)
    seen = []

    async def work(event, ctx):
        try:
            await ctx.wait_for("never", timeout=60)
        except WaitExpiredError:
            seen.append("late")
            if len(seen) == 1:
                raise ValueError("broken") from None

    workflow.register("go", work, name="work").register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id="r")
        await workflow.run("r").wait(30)
        await after(workflow, clock, 60)
        await workflow.run("r").retry_dead(2)
        await workflow.run("r").wait(30)
    assert seen == ["late", "late"]
    assert await dead(workflow) == []


async def test_a_handler_that_had_put_its_event_off_can_do_so_again(make):
    """The events that end its delays have ids of their own."""
    clock = VirtualClock()
    workflow = make(clock=clock)
    calls = []

    async def work(event, ctx):
        calls.append(len(calls))
        if len(calls) in {1, 3}:
            ctx.postpone(60)
        elif len(calls) == 2:
            raise ValueError("broken")
        else:
            ctx.state["done"] = event.data

    workflow.register("go", work, name="work").register("error", lambda event: None)
    async with workflow:
        await workflow.send(WorkflowEvent("go", 7), correlation_id="r")
        await workflow.run("r").wait(30)
        await after(workflow, clock, 60)
        ((_, position, _),) = await dead(workflow)
        await workflow.run("r").retry_dead(position)
        assert (await workflow.run("r").wait(30)).status == "waiting"
        await after(workflow, clock, 60)
    assert await workflow.run("r").state() == {"done": 7}
    assert len(calls) == 4


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


async def test_a_retry_of_a_handler_that_waited_is_replayed_identically(workflow):
    Waiter(workflow)
    for number, name in enumerate(("go", "first", "second"), 1):
        await workflow.send(WorkflowEvent(name, number), correlation_id="r")
        await workflow.resume()
    await workflow.run("r").retry_dead(3)
    await workflow.resume()
    assert len(await dead(workflow)) == 1
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


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Three runs: two with a dead letter of ``pay``, one of ``ship``, which is completed."""
    settle(tmp_path, monkeypatch)
    asyncio.run(_shop())
    return tmp_path / "flowstore.db"


async def _shop():
    workflow = WorkflowManager("flowstore.db")
    till = Till(workflow)
    for name in ("order-1", "order-2"):
        await till.order(name)

    async def ship(event):
        raise OSError("no truck")

    async def end(event, ctx):
        ctx.complete()

    workflow.register("parcel", ship, name="ship").register("parcel", end)
    await collect(workflow.process(WorkflowEvent("parcel"), correlation_id="parcel-1"))
    await workflow.close()


@pytest.mark.usefixtures("shop")
def test_show(capfd):
    called = Called(capfd, "dead", "show", "order-1", "1")
    assert called.code == 0
    for text in ("the bank is closed", "ConnectionError", "Traceback", '"notes": 1', "ask"):
        assert text in called.out
    shown = Called(capfd, "dead", "show", "order-1", "1", "pay", "--json").json
    assert (shown["became"], shown["run_status"], shown["handler"]) == ("dead", "failed", "pay")
    assert shown["event"]["id"] == "order-1-1"
    assert shown["state"] == {"notes": 1}
    assert [step["result"] for step in shown["steps"]] == ["12"]
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["dead"]
    Called(capfd, "dead", "retry", "order-1", "1")
    assert Called(capfd, "dead", "show", "order-1", "1", "--json").json["became"] == (
        "retried at position 3"
    )
    Called(capfd, "dead", "discard", "order-2", "1", "--reason", "by hand")
    assert Called(capfd, "dead", "show", "order-2", "1", "--json").json["became"] == (
        "discarded: by hand"
    )


@pytest.mark.usefixtures("shop")
def test_one_is_retried_at_once(capfd):
    (row,) = Called(capfd, "dead", "retry", "order-1", "1", "--json").json
    assert (row["handler"], row["status"], row["at"]) == ("pay", "retried", 3)
    again = Called(capfd, "dead", "retry", "order-1", "1")
    assert (again.code, again.out) == (1, "")
    assert "has been retried already" in again.err
    assert len(Called(capfd, "dead", "--json").json) == 2


def test_all_of_them_are_shown_first_and_done_with_yes(shop, capfd):
    before = query(shop, "SELECT count(*) FROM event")
    called = Called(capfd, "dead", "retry", "--all")
    assert called.code == 0
    assert called.out.count("to be retried") == 3
    assert "--yes" in called.err
    assert query(shop, "SELECT count(*) FROM event") == before
    called = Called(capfd, "dead", "retry", "--all", "--yes")
    assert called.code == 1  # the completed run is not opened
    assert (called.out.count("retried"), called.out.count("refused")) == (2, 1)
    called = Called(capfd, "dead", "discard", "--all", "--yes", "--reason", "no truck")
    assert called.code == 0
    assert called.out.count("discarded") == 1
    assert Called(capfd, "dead", "--json").json == []
    assert Called(capfd, "dead", "retry", "--all", "--yes").err == "(no dead letters)\n"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (("--handler", "pay"), ["order-1", "order-2"]),
        (("--error", "truck"), ["parcel-1"]),
        (("--handler", "pay", "--error", "truck"), []),
        (("--handler", "ay"), []),
    ],
)
def test_all_with_filters(options, runs, capfd):
    rows = Called(capfd, "dead", "retry", "--all", *options, "--json")
    assert [row["correlation_id"] for row in _json(rows)] == runs


def _json(called):
    assert called.code == 0
    return json.loads(called.out)


@pytest.mark.usefixtures("shop")
def test_the_only_one_of_a_run_needs_no_place(capfd):
    assert Called(capfd, "dead", "show", "order-1", "--json").json["position"] == 1
    called = Called(capfd, "dead", "retry", "order-1")
    assert called.code == 0
    assert "by whoever serves the workflow" in called.err
    for doing in ("show", "retry", "discard"):
        again = Called(capfd, "dead", doing, "order-1")
        assert (again.code, again.out) == (1, "")
        assert "has no dead letter" in again.err


def test_of_several_the_places_are_listed(path, tmp_path, monkeypatch, capfd):
    settle(tmp_path, monkeypatch)

    async def fill():
        workflow = WorkflowManager(path)

        async def fail(event):
            raise ValueError("broken")

        for name in ("one", "two"):
            workflow.register("go", fail, name=name)
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
        await workflow.close()

    asyncio.run(fill())
    for doing in ("show", "retry", "discard"):
        called = Called(capfd, "dead", doing, "r", "--store", str(path))
        assert (called.code, called.out) == (1, "")
        assert "say which of: 1 one, 1 two" in called.err


@pytest.mark.usefixtures("shop")
def test_all_of_one_run(capfd):
    rows = Called(capfd, "dead", "discard", "order-2", "--all", "--json")
    assert [row["correlation_id"] for row in _json(rows)] == ["order-2"]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("retry",), 2, "--all"),
        (("retry", "--handler", "pay"), 2, "--all"),
        (("retry", "nobody"), 1, "there is no run 'nobody'"),
        (("show", "nobody"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "--all"), 2, "--all"),
        (("retry", "order-1", "1", "--error", "x"), 2, "--error"),
        (("retry", "order-1", "0"), 2, "POSITION"),
        (("retry", "order-1", "2"), 1, "no handler has failed for good"),
        (("retry", "nobody", "2"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "note"), 1, "'note' has not failed"),
        (("retry", "parcel-1", "1"), 1, "is completed"),
        (("show", "order-1", "2"), 1, "no handler has failed for good"),
        (("show", "order-1", "1", "note"), 1, "'note' has not failed"),
        (("show", "nobody", "1"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "--store", "none.db"), 1, "there is no database"),
    ],
)
def test_mistakes(words, code, says, capfd, tmp_path):
    called = Called(capfd, "dead", *words)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert called.err.count("\n") == 1
    assert not (tmp_path / "none.db").exists()
