"""A user's own SQL commits with the handler's work, or not at all (G2)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
from failing import THRICE, fail_once
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text, update
from watching import collect, names, query, transitions

from flowstore import WorkflowEvent
from flowstore.testing import VirtualClock

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

    bank.register("pay", handle, retry=THRICE)
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

    bank.register("pay", handle, retry=THRICE)
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
