"""Steps that a handler does not come to when its run is executed again."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from typing import Any

import pytest
from again import ONE, RUN, TWO, again, handling, record

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.clock import Clock, SystemClock
from flowstore.replay.accepted import Accepted, AcceptedChanges, Trait, paths_of
from flowstore.replay.telling import trait_text
from flowstore.testing import VirtualClock


def stepping(*names: str) -> Any:
    """Return a handler of steps whose results it does not use."""

    async def handle(event, ctx):
        for name in names:
            await ctx.step(name, str, event.data)

    return handling(handle)


async def test_a_step_that_is_left_out_is_told(path):
    archive = await record(path, stepping("pay", "send bill"), ONE, TWO)
    assert await again(archive, stepping("pay", "send bill")) is None
    found = await again(archive, stepping("pay"))
    assert (found.position, found.kind, found.handler) == (1, "step", "handle")
    (difference,) = found.differences
    assert difference.to_json() == {"path": "steps['send bill']", "expected": str(ONE.data)}
    assert "does not come to steps['send bill'], which it called then" in found.message
    assert await again(archive, stepping("pay"), ignore=["steps.send bill"]) is None
    assert (await again(archive, stepping(), ignore=["steps.pay"])).differences == (difference,)
    assert await again(archive, stepping(), ignore=["steps"]) is None


async def test_calls_of_one_name_are_counted(path):
    archive = await record(path, stepping("pay", "pay", "pay"), ONE)
    found = await again(archive, stepping("pay"))
    assert [each.path for each in found.differences] == ["steps.pay", "steps.pay"]
    assert "(and 1 more)" in found.message
    assert await again(archive, stepping("pay", "pay", "pay")) is None


async def test_a_step_with_another_name_that_really_runs_takes_its_place(path):
    archive = await record(path, stepping("pay"), ONE)
    assert await again(archive, stepping("charge"), live=["charge"]) is None
    assert (await again(archive, stepping("charge"))).actual == "charge"


async def test_a_failed_step_is_missed_as_well(path):
    def trying(*names: str) -> Any:
        async def handle(event, ctx):
            for name in names:
                try:
                    await ctx.step(name, int, "no number")
                except ValueError:
                    continue

        return handling(handle)

    archive = await record(path, trying("read"), ONE)
    assert await again(archive, trying("read")) is None
    found = await again(archive, trying())
    assert [each.path for each in found.differences] == ["steps.read"]


@pytest.mark.parametrize("clock", [SystemClock, VirtualClock])
async def test_what_only_another_attempt_has_done_is_not_missed(path, clock: type[Clock]):
    """The last attempt, which is made again, need not go the way of those before it."""

    def retrying(*, mends: bool, last: str = "pay") -> Any:
        async def handle(event, ctx):
            if ctx.attempt == 1 and not mends:
                await ctx.step("look", str, 1)
                raise ConnectionError("not yet")
            await ctx.step(last, str, 2)
            if ctx.attempt < 2:
                raise ConnectionError("not yet")

        return handling(handle, retry=Retry(attempts=3, delay=0))

    archive = await record(path, retrying(mends=False), ONE, clock=clock())
    assert {step.name for step in archive.steps} == {"look", "pay"}
    assert await again(archive, retrying(mends=False)) is None
    assert await again(archive, retrying(mends=True)) is None


@pytest.mark.parametrize("clock", [SystemClock, VirtualClock])
async def test_what_only_the_retry_of_a_dead_letter_has_done_is_not_missed(
    path, clock: type[Clock]
):
    calls: list[str] = []

    def ask() -> None:
        calls.append("ask")
        if len(calls) == 1:
            raise ConnectionError("not yet")

    def asking(*names: str) -> Any:
        async def handle(event, ctx):
            await ctx.step("ask", ask)
            for name in names:
                await ctx.step(name, str, 2)

        return handling(handle)

    workflow = WorkflowManager(path, clock=clock())
    asking("pay")(workflow)
    async for _ in workflow.process(ONE, correlation_id=RUN):
        pass
    await workflow.run(RUN).retry_dead(1)
    await workflow.resume(RUN)
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    assert [row.outcome for row in archive.transitions] == ["dead", "handled"]
    assert await again(archive, asking("pay")) is None
    assert (await again(archive, asking())).position == 3


async def test_each_part_of_a_handler_that_waited_has_its_own(path):
    def waiting(before: str | None, behind: str | None) -> Any:
        async def handle(event, ctx):
            if before is not None:
                await ctx.step(before, str, 1)
            await ctx.wait_for("paid")
            if behind is not None:
                await ctx.step(behind, str, 2)

        return handling(handle)

    archive = await record(path, waiting("ask", "thank"), ONE, WorkflowEvent("paid"))
    assert await again(archive, waiting("ask", "thank")) is None
    found = await again(archive, waiting(None, "thank"))
    assert (found.position, found.differences[0].path) == (1, "steps.ask")
    found = await again(archive, waiting("ask", None))
    assert (found.position, found.differences[0].path) == (2, "steps.thank")


async def test_it_can_be_accepted(path):
    archive = await record(path, stepping("pay", "bill"), ONE)
    found = await again(archive, stepping("pay"))
    trait, paths = Trait.of(found), paths_of(found)
    assert trait_text(trait, paths) == "in handle: -steps.bill"
    changes = AcceptedChanges([Accepted(trait=trait, paths=paths, reason="no bills any more")])
    assert changes.covering(found, "r")
    assert not changes.covering(await again(archive, stepping("bill")), "r")
