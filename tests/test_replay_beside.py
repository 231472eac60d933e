"""Steps that a handler runs beside one another, executed again (G12)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from again import ONE, RUN, again, handling, record

from flowstore import WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from again import Setup


class Race:
    """Two steps, of which the first that is called ends only when it is let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def slow(self) -> str:
        await self.gate.wait()
        return "slow"

    async def fast(self) -> str:
        return "fast"

    async def fail(self) -> str:
        message = "no answer"
        raise ConnectionError(message)


def as_completed(race: Race) -> Callable[..., Any]:
    async def handle(_, ctx):
        steps = [ctx.step(each.__name__, each) for each in (race.slow, race.fast)]
        order = []
        for each in asyncio.as_completed(steps):
            order.append(await each)
            race.gate.set()
        ctx.state["order"] = order

    return handle


def by_callbacks(race: Race) -> Callable[..., Any]:
    async def handle(_, ctx):
        async def call(function: Any) -> None:
            for each in (function, race.fast):
                answer = await ctx.step("ask", each)
                ctx.state["order"] = [*ctx.state.get("order", ()), answer]
                race.gate.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(call(race.slow))
            group.create_task(call(race.fast))

    return handle


def first_only(race: Race) -> Callable[..., Any]:
    async def handle(_, ctx):
        steps = [
            asyncio.ensure_future(ctx.step(each.__name__, each)) for each in (race.slow, race.fast)
        ]
        done, others = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        ctx.state["first"] = [each.result() for each in done]

    return handle


def until_one_fails(race: Race) -> Callable[..., Any]:
    async def handle(_, ctx):
        try:
            async with asyncio.TaskGroup() as group:
                for each in (race.slow, race.fast, race.fail):
                    group.create_task(ctx.step(each.__name__, each))
        except* ConnectionError as errors:
            ctx.state["failed"] = [str(each) for each in errors.exceptions]

    return handle


def left_behind(race: Race) -> Callable[..., Any]:
    async def handle(_, ctx):
        race.task = asyncio.ensure_future(ctx.step("slow", race.slow))  # type: ignore[attr-defined]
        ctx.state["first"] = await ctx.step("fast", race.fast)

    return handle


async def retried(path: Path, setup: Setup) -> Any:
    """Retry the dead letter at the first event; return all that the store has of its run."""
    workflow = WorkflowManager(path)
    setup(workflow)
    await workflow.run(RUN).retry_dead(1)
    await workflow.resume()
    await workflow.close()
    return await record(path, setup)


@pytest.mark.parametrize(
    ("program", "state"),
    [
        (as_completed, {"order": ["fast", "slow"]}),
        (by_callbacks, {"order": ["fast", "fast", "slow", "fast"]}),
        (first_only, {"first": ["fast"]}),
        (until_one_fails, {"failed": ["no answer"]}),
    ],
)
async def test_they_end_as_they_ended_then(path, program, state):
    archive = await record(path, handling(program(Race())), ONE)
    assert await again(archive, handling(program(Race()))) is None
    [change] = [json.loads(row.change) for row in archive.transitions]
    assert {key: value for _, (key,), value in change} == state


async def test_a_step_that_is_left_behind_ends_with_its_handler(path):
    race = Race()
    archive = await record(path, handling(left_behind(race)), ONE)
    race.task.cancel()  # type: ignore[attr-defined]
    again_race = Race()
    assert await again(archive, handling(left_behind(again_race))) is None
    await asyncio.wait({again_race.task}, timeout=20)  # type: ignore[attr-defined]
    assert again_race.task.cancelled() or again_race.task.exception()  # type: ignore[attr-defined]


async def test_code_that_takes_them_in_another_order_diverges(path):
    async def in_order(_, ctx):
        steps = [ctx.step(each.__name__, each) for each in (race.slow, race.fast)]
        ctx.state["order"] = list(await asyncio.gather(*steps))

    race = Race()
    archive = await record(path, handling(as_completed(race)), ONE)
    divergence = await again(archive, handling(in_order))
    assert (divergence.kind, divergence.differences[0].path) == ("state", "state.order[0]")


async def test_code_that_no_longer_calls_the_first_is_not_waited_for_for_ever(path):
    async def slow_only(_, ctx):
        ctx.state["order"] = ["fast", await ctx.step("slow", race.slow)]

    race = Race()
    archive = await record(path, handling(as_completed(race)), ONE)
    divergence = await again(archive, handling(slow_only))
    assert (divergence.kind, divergence.differences[0].path) == ("step", "steps.fast")


async def test_a_finished_step_that_is_live_waits_for_its_turn_and_does_not_run(path):
    """G3, G12."""
    ran: list[str] = []

    async def slow() -> None:
        ran.append("slow")
        await asyncio.sleep(0.02)

    async def both(_event, ctx):
        await asyncio.gather(ctx.step("slow", slow), ctx.step("fast", str))

    archive = await record(path, handling(both), ONE)
    assert ran == ["slow"]
    assert await again(archive, handling(both), live=["slow"]) is None
    assert ran == ["slow"]


async def test_failures_beside_one_another_come_in_their_order_also_after_a_retry(path):
    """The retry of the dead letter has put its steps in the place of those that failed."""
    is_mended: list[bool] = []

    async def ask(number: int, gate: asyncio.Event) -> None:
        if number == 1:
            await gate.wait()
        if not is_mended:
            raise ConnectionError(str(number))

    async def handle(_, ctx):
        gate, order = asyncio.Event(), []

        async def call(number: int) -> None:
            try:
                await ctx.step("ask", ask, number, gate)
            except ConnectionError:
                order.append(number)
            gate.set()

        await asyncio.gather(call(1), call(2))
        if order:
            raise ValueError(str(order))

    archive = await record(path, handling(handle), ONE)
    assert [row.error for row in archive.transitions] == ["[2, 1]"]
    is_mended.append(True)
    archive = await retried(path, handling(handle))
    assert [row.outcome for row in archive.transitions] == ["dead", "handled"]
    assert await again(archive, handling(handle)) is None


async def test_a_dead_letter_does_not_meet_what_failed_in_its_retry(path):
    is_retried: list[bool] = []

    async def slow() -> None:
        if is_retried:
            message = "gone"
            raise ConnectionError(message)
        await asyncio.Event().wait()

    async def handle(_, ctx):
        calls = [asyncio.ensure_future(ctx.step(each.__name__, each)) for each in (slow, fast)]
        done, others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        failed = [str(each.exception()) for each in done if each.exception()]
        raise ValueError(f"{failed}, {len(others)} cut off")

    async def fast() -> str:
        return "fast"

    await record(path, handling(handle), ONE)
    is_retried.append(True)
    archive = await retried(path, handling(handle))
    assert [row.error for row in archive.transitions] == ["[], 1 cut off", "['gone'], 0 cut off"]
    assert await again(archive, handling(handle)) is None
