"""What a handler can do through ctx: steps, statements of its own, and the end of the run."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sqlite3
import threading
from datetime import timedelta

import pytest
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text, update
from watching import collect, drops, log, names, query, transitions

from flowstore import Context, Retry, WorkflowEvent
from flowstore.testing import VirtualClock

RETRY = Retry(attempts=3, delay=1, jitter=0)


@pytest.fixture
def patient(make):
    """A manager whose retries wait for no one."""
    return make(clock=VirtualClock(is_automatic=True))


def fail_once(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ConnectionError("no answer")


# --- steps (G3) ----------------------------------------------------------------------------


async def test_a_finished_step_is_not_run_again_when_its_handler_is(patient):
    """G3."""
    calls = []

    async def pay(amount, *, currency):
        calls.append((amount, currency))
        return {"receipt": len(calls)}

    async def handle(event, ctx):
        receipt = await ctx.step("pay", pay, 12, currency="EUR")
        fail_once(ctx)
        return WorkflowEvent("paid", receipt)

    patient.register("go", handle, retry=RETRY)
    events = await collect(patient.process(WorkflowEvent("go")))
    assert events[-1].data == {"receipt": 1}
    assert calls == [(12, "EUR")]


async def test_a_step_that_failed_is_run_again(patient):
    """The control to the one above."""
    calls = []

    def pay():
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no answer")
        return "paid"

    async def handle(event, ctx):
        return WorkflowEvent("done", await ctx.step("pay", pay))

    patient.register("go", handle, retry=RETRY)
    assert (await collect(patient.process(WorkflowEvent("go"))))[-1].data == "paid"
    assert len(calls) == 2


async def test_a_finished_step_is_not_run_again_by_another_process(make, clock):
    """G3: the result is on disk when the step returns."""
    calls, reached = [], asyncio.Event()

    async def ask():
        calls.append(1)
        return 42

    async def stuck(event, ctx):
        await ctx.step("ask", ask)
        reached.set()
        await asyncio.Event().wait()

    async def quick(event, ctx):
        return WorkflowEvent("answer", await ctx.step("ask", ask))

    first = make(grace=0).register("go", stuck, name="asker")
    async with first:
        await first.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
    second = make().register("go", quick, name="asker")
    assert await second.resume() == ["r"]
    assert calls == [1]
    assert await log(second, "r") == [(1, "go"), (2, "answer")]


async def test_a_name_used_again_stands_for_the_next_call(patient):
    calls = []

    async def ask(question):
        calls.append(question)
        return question.upper()

    async def handle(event, ctx):
        answers = [await ctx.step("ask", ask, question) for question in ("a", "b", "c")]
        fail_once(ctx)
        return WorkflowEvent("done", answers)

    patient.register("go", handle, retry=RETRY)
    assert (await collect(patient.process(WorkflowEvent("go"))))[-1].data == ["A", "B", "C"]
    assert calls == ["a", "b", "c"]


async def test_a_step_of_another_event_or_handler_is_another_step(workflow):
    calls = []

    def ask(who):
        calls.append(who)
        return len(calls)

    async def one(event, ctx):
        ctx["one"] = await ctx.step("ask", ask, "one")

    async def two(event, ctx):
        ctx["two"] = await ctx.step("ask", ask, "two")

    workflow.register("go", one).register("go", two)
    for _ in range(2):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == ["one", "two", "one", "two"]
    assert await workflow.run("r").state() == {"one": 3, "two": 4}


async def test_steps_can_run_side_by_side(patient):
    calls = []

    async def ask(number):
        calls.append(number)
        await asyncio.sleep(0)
        return number * 2

    async def handle(event, ctx):
        results = await asyncio.gather(*(ctx.step(f"ask {n}", ask, n) for n in range(20)))
        fail_once(ctx)
        return WorkflowEvent("done", results)

    patient.register("go", handle, retry=RETRY)
    events = await collect(patient.process(WorkflowEvent("go")))
    assert events[-1].data == [n * 2 for n in range(20)]
    assert sorted(calls) == list(range(20))


async def test_a_step_gets_a_key_that_is_the_same_each_time_it_is_tried(patient):
    keys = []

    async def pay(amount, idempotency_key):
        keys.append(idempotency_key)
        if len(keys) == 1:
            raise ConnectionError("no answer")
        return amount

    async def handle(event, ctx):
        await ctx.step("pay", pay, 12)
        await ctx.step("pay", pay, 13)

    patient.register("go", handle, retry=RETRY)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert keys[0] == keys[1] != keys[2]
    assert "r" in keys[0]


class Answer(BaseModel):
    text: str


@dataclasses.dataclass
class Page:
    number: int


async def test_the_result_of_a_step_keeps_its_type(patient):
    """The same type the first time and when it is read back."""

    async def ask() -> Answer:
        return Answer(text="why not")

    def find() -> list[Page]:
        return [Page(1), Page(2)]

    seen = []

    async def handle(event, ctx):
        seen.append((await ctx.step("ask", ask), await ctx.step("find", find)))
        fail_once(ctx)

    patient.register("go", handle, retry=RETRY)
    await collect(patient.process(WorkflowEvent("go")))
    assert seen == [(Answer(text="why not"), [Page(1), Page(2)])] * 2


async def test_a_step_without_a_result_is_recorded_too(patient):
    calls = []

    def send_mail():
        calls.append(1)

    async def handle(event, ctx):
        assert await ctx.step("mail", send_mail) is None
        fail_once(ctx)

    patient.register("go", handle, retry=RETRY)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == [1]
    assert await patient.run("r").status() == "idle"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (object(), "step['ask']"),
        ({"a": {1, 2}}, "step['ask'].a"),
        (float("inf"), "step['ask']"),
        ("\ud800", "step['ask']"),
    ],
)
async def test_a_result_that_cannot_be_stored_fails_its_handler(workflow, result, words, caplog):
    async def handle(event, ctx):
        await ctx.step("ask", lambda: result)

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert words in events[-1].error


@pytest.mark.parametrize("name", ["", 7, None, "x" * 1000, "a\0b", "\ud800"])
async def test_a_step_needs_a_proper_name(workflow, name, caplog):
    calls = []

    async def handle(event, ctx):
        await ctx.step(name, calls.append, 1)

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]
    assert "step" in events[-1].error
    assert calls == []
    assert await workflow.run("r").status() == "failed"


async def test_a_plain_function_of_a_step_runs_in_a_thread(workflow):
    here = threading.current_thread()

    async def handle(event, ctx):
        ctx["in thread"] = await ctx.step("where", lambda: threading.current_thread() is not here)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert await workflow.run("r").state() == {"in thread": True}


# --- the user's own SQL (G2) ---------------------------------------------------------------

_tables = MetaData()
account = Table(
    "account",
    _tables,
    Column("name", Text, primary_key=True),
    Column("balance", Integer, nullable=False),
)


@pytest.fixture
async def bank(make, path):
    workflow = make(clock=VirtualClock(is_automatic=True))
    await workflow.send(WorkflowEvent("hello"), correlation_id="first")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)")
        connection.execute("INSERT INTO account VALUES ('ada', 100)")
        connection.commit()
    return workflow


def balances(path):
    return dict(query(path, "SELECT name, balance FROM account"))


async def test_a_statement_commits_with_the_state(bank, path):
    """G2."""

    async def handle(event, ctx):
        ctx.execute(
            update(account)
            .where(account.c.name == "ada")
            .values(balance=account.c.balance - event.data)
        )
        ctx.execute(insert(account), [{"name": "bob", "balance": 1}, {"name": "eve", "balance": 2}])
        ctx.execute(text("INSERT INTO account VALUES (:name, 3)"), {"name": "kim"})
        ctx["paid"] = event.data
        assert balances(path) == {"ada": 100}
        return WorkflowEvent("paid")

    bank.register("pay", handle)
    assert await names(bank.process(WorkflowEvent("pay", 30), correlation_id="r")) == [
        "pay",
        "paid",
    ]
    assert balances(path) == {"ada": 70, "bob": 1, "eve": 2, "kim": 3}
    assert await bank.run("r").state() == {"paid": 30}


async def test_a_handler_that_fails_after_its_statement_changes_nothing(bank, path, caplog):
    """G2."""

    async def handle(event, ctx):
        ctx.execute(update(account).values(balance=0))
        ctx["paid"] = True
        raise ValueError("broken")

    bank.register("pay", handle)
    await collect(bank.process(WorkflowEvent("pay"), correlation_id="r"))
    assert balances(path) == {"ada": 100}
    assert await bank.run("r").state() == {}


async def test_a_statement_runs_once_though_its_handler_ran_twice(bank, path):
    """G2, G3."""

    async def handle(event, ctx):
        ctx.execute(update(account).values(balance=account.c.balance - 1))
        fail_once(ctx)

    bank.register("pay", handle, retry=RETRY)
    await collect(bank.process(WorkflowEvent("pay")))
    assert balances(path) == {"ada": 99}


@pytest.mark.parametrize(
    "statement",
    [
        insert(account).values(name="ada", balance=1),
        text("INSERT INTO nowhere VALUES (1)"),
        text("not SQL at all"),
        text("UPDATE account SET balance = :missing"),
        insert(account).values(name="zoe", balance=None),
    ],
)
async def test_a_statement_that_fails_fails_its_handler_and_nothing_else(
    bank, path, statement, caplog
):
    """G2: neither its state nor its other statements are kept, and no other run notices."""

    async def handle(event, ctx):
        ctx["paid"] = True
        ctx.execute(insert(account).values(name="bob", balance=1))
        ctx.execute(statement)
        yield WorkflowEvent("paid")

    async def fine(event, ctx):
        ctx["fine"] = True

    bank.register("pay", handle, name="payer").register("fine", fine)
    results = await asyncio.gather(
        collect(bank.process(WorkflowEvent("pay"), correlation_id="r")),
        *(
            collect(bank.process(WorkflowEvent("fine"), correlation_id=f"other {n}"))
            for n in range(5)
        ),
    )
    assert [event.name for event in results[0]] == ["pay", "error"]
    assert results[0][1].data["handler"] == "payer"
    assert results[0][1].data["exception"] == "StatementError"
    assert balances(path) == {"ada": 100}
    assert await bank.run("r").state() == {}
    assert await bank.run("r").status() == "failed"
    assert [row[1:] for row in await transitions(bank, "r")] == [("payer", 1, "dead")]
    for number in range(5):
        assert await bank.run(f"other {number}").state() == {"fine": True}


async def test_a_statement_that_fails_is_tried_again_with_its_handler(bank, path):
    async def handle(event, ctx):
        name = "ada" if ctx.attempt == 1 else "bob"
        ctx.execute(insert(account).values(name=name, balance=ctx.attempt))
        ctx["attempt"] = ctx.attempt

    bank.register("pay", handle, retry=RETRY)
    assert await names(bank.process(WorkflowEvent("pay"), correlation_id="r")) == ["pay"]
    assert balances(path) == {"ada": 100, "bob": 2}
    assert await bank.run("r").state() == {"attempt": 2}


@pytest.mark.parametrize("statement", ["UPDATE account SET balance = 0", None, 7, account])
async def test_what_is_no_statement_is_refused_where_it_is_given(bank, path, statement, caplog):
    async def handle(event, ctx):
        ctx.execute(statement)

    bank.register("pay", handle)
    events = await collect(bank.process(WorkflowEvent("pay")))
    assert "ctx.execute takes" in events[-1].error
    assert balances(path) == {"ada": 100}


async def test_a_statement_that_only_reads_does_no_harm(bank, path):
    async def handle(event, ctx):
        ctx.execute(select(account))
        ctx["done"] = True

    bank.register("pay", handle)
    await collect(bank.process(WorkflowEvent("pay"), correlation_id="r"))
    assert await bank.run("r").state() == {"done": True}


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK", "END"])
async def test_a_statement_cannot_end_the_transaction(bank, path, sql, caplog):
    """G2: or half of a commit would be on disk."""

    async def handle(event, ctx):
        ctx["paid"] = True
        ctx.execute(text("UPDATE account SET balance = 1"))
        ctx.execute(text(sql))
        ctx.execute(text("not SQL at all"))

    async def fine(event, ctx):
        ctx["fine"] = True

    bank.register("pay", handle).register("fine", fine)
    events = await collect(bank.process(WorkflowEvent("pay"), correlation_id="r"))
    assert [event.name for event in events] == ["pay", "error"]
    assert balances(path) == {"ada": 100}
    assert await bank.run("r").state() == {}
    await collect(bank.process(WorkflowEvent("fine"), correlation_id="s"))
    assert await bank.run("s").state() == {"fine": True}


# --- the end of a run ------------------------------------------------------------------------


async def test_complete_closes_the_run_with_its_result(workflow):
    async def handle(event, ctx):
        ctx["n"] = 1
        ctx.emit(WorkflowEvent("note"))
        ctx.complete({"answer": [1, 2]})
        ctx["n"] = 2

    workflow.register("go", handle)
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go", "note"]
    info = await workflow.run("r").info()
    assert (info.status, info.result, info.cursor) == ("completed", '{"answer":[1,2]}', info.head)
    assert await workflow.run("r").state() == {"n": 2}


async def test_complete_of_a_handler_that_fails_does_not_count(patient):
    async def handle(event, ctx):
        ctx.complete("early")
        fail_once(ctx)
        ctx.complete("late")

    patient.register("go", handle, retry=RETRY)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert (await patient.run("r").info()).result == '"late"'


async def test_what_the_closing_handler_emits_for_others_is_recorded_as_stale(workflow):
    """G7."""
    seen = []

    async def handle(event, ctx):
        ctx.emit(WorkflowEvent("next", id="next-1"))
        ctx.complete()

    async def after(event):
        seen.append(event)

    workflow.register("go", handle).register("next", after)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert seen == []
    assert await drops(workflow, "r") == [("next-1", "stale")]


# --- everything else ----------------------------------------------------------------------


async def test_now_and_random_are_those_of_the_event(patient):
    """Repeatable: the numbers are the same in the next attempt."""
    clock, seen = patient._runtime.clock, []

    async def handle(event, ctx):
        seen.append((ctx.now(), [ctx.random.random() for _ in range(3)]))
        assert ctx.now() == clock.moment
        fail_once(ctx)

    patient.register("go", handle, retry=RETRY)
    for run in ("r", "s"):
        await collect(patient.process(WorkflowEvent("go"), correlation_id=run))
    (t1, first), (t2, again), (_, other), _ = seen
    assert t2 - t1 == timedelta(seconds=1)
    assert first == again != other
    assert len(set(first)) == 3


async def test_the_logger_knows_the_run(workflow, caplog):
    caplog.set_level(logging.INFO, "flowstore.handler")

    async def handle(event, ctx):
        ctx.logger.info("at work on %s", event.data)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go", 7), correlation_id="r"))
    (record,) = [each for each in caplog.records if each.name == "flowstore.handler"]
    assert record.getMessage() == "at work on 7"
    assert (record.correlation_id, record.position, record.event_name) == ("r", 1, "go")


async def test_ctx_is_a_mapping_of_the_state_over_the_shared_resources(make):
    workflow = make(ctx={"client": "shared", "units": "metric"})
    seen = {}

    async def handle(event, ctx):
        ctx["units"] = "imperial"
        ctx.update(a=1, b=2)
        del ctx["b"]
        seen.update(ctx)
        seen["length"] = len(ctx)
        seen["popped"] = ctx.pop("a")
        with pytest.raises(KeyError, match="shared resource"):
            del ctx["client"]
        with pytest.raises(KeyError):
            ctx["missing"]

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert seen == {"units": "imperial", "a": 1, "client": "shared", "length": 3, "popped": 1}
    assert await workflow.run("r").state() == {"units": "imperial"}
    assert workflow.ctx == {"client": "shared", "units": "metric"}


async def test_a_context_that_outlives_its_handler_is_of_no_use(workflow):
    kept = []

    async def handle(event, ctx):
        kept.append(ctx)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    (ctx,) = kept
    for action in (
        lambda: ctx.emit(WorkflowEvent("late")),
        lambda: ctx.drop("late"),
        ctx.complete,
        lambda: ctx.execute(select(account)),
    ):
        with pytest.raises(Exception, match=r"handle.*has ended"):
            action()
    with pytest.raises(Exception, match="has ended"):
        await ctx.step("late", lambda: 1)
    assert await log(workflow, "r") == [(1, "go")]


async def test_a_handler_can_send_to_another_run_and_to_its_own(workflow):
    receipts = []

    async def handle(event, ctx):
        receipts.append(await workflow.send(WorkflowEvent("hello"), correlation_id="other"))
        receipts.append(await workflow.send(WorkflowEvent("hello"), correlation_id="r"))
        ctx["sent"] = True

    async def hello(event, ctx):
        ctx["hello"] = True

    workflow.register("go", handle).register("hello", hello)
    async with workflow:
        await workflow.run("r").send(WorkflowEvent("go"))
        await workflow.run("r").wait()
        await workflow.run("other").wait()
    assert [(receipt.status, receipt.position) for receipt in receipts] == [
        ("accepted", 1),
        ("accepted", 2),
    ]
    assert await workflow.run("r").state() == {"sent": True, "hello": True}
    assert await workflow.run("other").state() == {"hello": True}


async def test_a_handler_can_process_another_run_to_its_end(workflow):
    async def outer(event, ctx):
        inner = await collect(workflow.process(WorkflowEvent("inner"), correlation_id="inner"))
        return WorkflowEvent("done", [each.name for each in inner])

    async def inner(event):
        return WorkflowEvent("result")

    workflow.register("outer", outer).register("inner", inner)
    events = await collect(workflow.process(WorkflowEvent("outer")))
    assert events[-1].data == ["inner", "result"]


async def test_an_error_of_the_store_that_a_handler_meets_is_its_own_failure(
    workflow, tmp_path, make, caplog
):
    """A handler may use a store that is broken; its own run is not to suffer for it."""
    (tmp_path / "letter.db").write_text("Dear database, " * 100)
    other = make(tmp_path / "letter.db")

    async def handle(event):
        await other.send(WorkflowEvent("hello"))

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]
    assert events[1].data["exception"] == "StoreCorruptError"
    assert await workflow.run("r").status() == "failed"
