"""Steps of a run that is executed again."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import sqlalchemy
from again import ONE, TWO, again, handling, record
from watching import query

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import InvalidValueError
from flowstore.testing.recorded import assert_replays

# --- steps ---------------------------------------------------------------------------------


class Bank:
    """Steps that count how often they really run."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def pay(self, amount: int, idempotency_key: str) -> str:
        self.keys.append(idempotency_key)
        return f"paid {amount}"

    def refuse(self) -> None:
        self.keys.append("refused")
        raise PermissionError("no money", 7)


def paying(bank: Bank, *steps: str) -> Any:
    async def handle(event, ctx):
        try:
            for name in steps:
                ctx.state[name] = await ctx.step(name, bank.pay, event.data)
        except Exception as error:  # noqa: BLE001 - as a handler might
            ctx.state["error"] = str(error)

    return handling(handle)


async def test_steps_give_what_is_recorded(path):
    bank = Bank()
    archive = await record(path, paying(bank, "pay", "pay"), ONE)
    assert len(bank.keys) == 2
    assert await again(archive, paying(bank, "pay", "pay")) is None
    assert await again(archive, paying(bank, "pay", "pay"), live=["pay"]) is None
    assert len(bank.keys) == 2  # a finished step is never run again


async def test_a_step_that_is_not_recorded_ends_the_replay(path):
    bank = Bank()
    archive = await record(path, paying(bank, "pay"), ONE, TWO)
    found = await again(archive, paying(bank, "pay", "thank"))
    assert (found.position, found.kind, found.handler) == (1, "step", "handle")
    assert found.actual == "thank"
    for said in ("'thank'", "'handle'", "position 1", "--live 'thank'"):
        assert said in found.message
    assert len(bank.keys) == 2
    found = await again(archive, paying(bank, "pay", "thank"), live={"thank"})
    assert (found.position, found.kind, found.differences[0].path) == (1, "state", "state.thank")
    assert bank.keys[2:] == ["r/1/handle/thank/1"]
    ignore = ["state.thank"]
    assert await again(archive, paying(bank, "pay", "thank"), live={"thank"}, ignore=ignore) is None
    assert bank.keys[3:] == ["r/1/handle/thank/1", "r/2/handle/thank/1"]


async def test_a_step_that_was_cut_off_has_no_result(path):
    """It was reached then, but not done; inside the step, the time-out is part of the result."""
    never = asyncio.Event()

    async def ask():
        try:
            async with asyncio.timeout(0.01):
                await never.wait()
        except TimeoutError:
            return "no answer"

    async def cutting(event, ctx):
        try:
            async with asyncio.timeout(0.01):
                await ctx.step("ask", never.wait)
        except TimeoutError:
            ctx.state["answer"] = "no answer"

    async def asking(event, ctx):
        ctx.state["answer"] = await ctx.step("ask", ask)

    found = await again(await record(path, handling(cutting), ONE), handling(cutting))
    assert (found.kind, found.actual) == ("step", "ask")
    assert "why it was not done then" in found.message
    archive = await record(path.with_name("inside.db"), handling(asking), ONE)
    assert await again(archive, handling(asking)) is None


async def test_a_text_is_no_list_of_its_letters(path):
    bank = Bank()
    archive = await record(path, paying(bank, "p"), ONE)
    with pytest.raises(InvalidValueError, match=re.escape("live: is 'pay'; it takes several")):
        await again(archive, paying(bank, "pay"), live="pay")
    with pytest.raises(InvalidValueError, match="live: is 'pay'"):
        await assert_replays(WorkflowManager(":memory:"), archive, live="pay")
    assert await again(archive, paying(bank, "p"), live=("pay",)) is None


async def test_even_a_handler_that_catches_everything_does_not_hide_it(path):
    bank = Bank()

    def setup(steps: list[str]) -> Any:
        async def handle(event, ctx):
            for name in steps:
                try:
                    await ctx.step(name, bank.pay, 1)
                except BaseException:  # noqa: BLE001 - as a handler might
                    ctx.state["hidden"] = True

        return handling(handle, timeout=60)

    archive = await record(path, setup(["pay"]), ONE)
    assert (await again(archive, setup(["pay", "other", "another"]))).actual == "other"
    assert len(bank.keys) == 1


async def test_a_step_that_failed_fails_again(path):
    bank = Bank()

    async def handle(event, ctx):
        try:
            await ctx.step("pay", bank.refuse)
        except PermissionError as error:
            ctx.state["error"] = [str(error), *error.args]

    archive = await record(path, handling(handle), ONE)
    assert await again(archive, handling(handle)) is None
    assert bank.keys == ["refused"]
    await again(archive, handling(handle), live=["pay"])
    assert bank.keys == ["refused"] * 2  # it has not finished, so it can really run


async def test_a_dead_letter_dies_of_the_same(path):
    bank = Bank()

    async def handle(event, ctx):
        await ctx.step("pay", bank.refuse)

    archive = await record(path, handling(handle), ONE)
    assert archive.transitions[0].outcome == "dead"
    assert await again(archive, handling(handle)) is None
    assert bank.keys == ["refused"]


async def test_statements_are_left_out(path):
    async def handle(event, ctx):
        ctx.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS mine (x)"))
        ctx.execute(sqlalchemy.text("INSERT INTO mine VALUES (1)"))

    archive = await record(path, handling(handle), ONE)
    assert await again(archive, handling(handle)) is None
    assert query(path, "SELECT count(*) FROM mine") == [(1,)]


async def test_what_a_step_has_shown_is_not_missed(path):
    async def handle(event, ctx):
        async def work():
            ctx.emit(WorkflowEvent.progress("in the step", "half"))
            return 1

        ctx.emit(WorkflowEvent.progress("before", "it"))
        ctx.state["one"] = await ctx.step("work", work)
        ctx.emit(WorkflowEvent.progress("behind", "it"))

    archive = await record(path, handling(handle), ONE)
    assert [each.name for each in archive.events] == ["a", *["progress"] * 3]
    assert await again(archive, handling(handle)) is None
