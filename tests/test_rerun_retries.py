"""Executing runs again in which dead letters were retried."""

from __future__ import annotations

from typing import Any

import pytest
from again import ONE, RUN, again, handling, record

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.replay import rerun


async def test_a_dead_letter_that_was_retried_is_executed_again_too(path):
    def setup(*, is_mended: bool) -> Any:
        async def handle(event, ctx):
            if not is_mended:
                raise ConnectionError("no answer")
            ctx.state["done"] = event.data
            yield WorkflowEvent("done", event.data)

        return handling(handle)

    await record(path, setup(is_mended=False), ONE)
    workflow = WorkflowManager(path)
    setup(is_mended=True)(workflow)
    await workflow.run(RUN).retry_dead(1)
    await workflow.resume()
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    assert [row.outcome for row in archive.transitions] == ["dead", "handled"]
    found = await again(archive, setup(is_mended=True))
    assert (found.position, found.kind) == (1, "outcome")  # it was another code then
    workflow = WorkflowManager(":memory:")
    setup(is_mended=True)(workflow)
    report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
    assert report.divergence is None
    assert {each.position for each in report.accepted} == {1}


@pytest.mark.parametrize("drifts", [False, True])
async def test_what_a_failed_run_gave_up_does_not_go_on_when_it_is_opened_again(path, drifts):
    broken = [True]

    def setup(workflow: WorkflowManager, more: int = 0) -> None:
        @workflow.on("ask")
        async def ask(_event, ctx):
            ctx.state["more"] = more
            ctx.state["pair"] = ctx.collect("pair", "ask", count=2) is not None
            ctx.state["answer"] = (await ctx.wait_for("answer")).data

        @workflow.on("pay")
        async def pay(event):
            if broken and event.position:
                raise ValueError("no money")

    workflow = WorkflowManager(path)
    setup(workflow)
    run = workflow.run(RUN)
    async with workflow:
        for name in ("ask", "pay"):
            await run.send(WorkflowEvent(name))
            await run.wait(20)
        assert await run.status() == "failed"
        broken.clear()
        await run.retry_dead(2)
        await run.send(WorkflowEvent("answer", 1))
        await run.send(WorkflowEvent("ask"))
        await run.wait(20)
        assert await run.state() == {"more": 0, "pair": False}
        [archive] = await (await workflow.program.reader()).read_archives([RUN])
    again = WorkflowManager(":memory:")
    setup(again, more=int(drifts))
    report = await rerun(
        again,
        archive,
        ignore=["state.more"],
        before=lambda moment: broken.append(True) if moment.position == 2 else broken.clear(),
    )
    assert report.divergence is None


async def retried(path: Any, **setups: Any) -> Any:
    """Handle an event with one program, and its dead letter with another."""
    await record(path, setups["before"], ONE)
    workflow = WorkflowManager(path)
    setups["after"](workflow)
    await workflow.run(RUN).retry_dead(1)
    await workflow.resume()
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    assert [row.outcome for row in archive.transitions] == ["dead", "handled"]
    return archive


def asking(answers: list[Any], *, wrapped: bool = False) -> Any:
    """Return a setup whose handler fails as its second step does."""

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def handle(event, ctx):
        ctx.state["first"] = await ctx.step("first", str, event.data)
        yield WorkflowEvent.progress("ask", "asking")
        try:
            ctx.state["answer"] = await ctx.step("ask", ask)
        except OSError as error:
            if wrapped:
                raise RuntimeError("it cannot be asked") from error
            raise
        ctx.state["last"] = await ctx.step("last", str, 3)
        yield WorkflowEvent.progress("ask", "asked")
        yield WorkflowEvent("asked", ctx.state["answer"], id="asked-1")
        yield WorkflowEvent("asked", ctx.state["answer"])

    return handling(handle)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("error", [OSError("no\nanswer"), ConnectionError()])
async def test_a_step_that_a_retry_has_done_fails_where_it_failed_first(path, error, wrapped):
    setup = asking([error, "yes"], wrapped=wrapped)
    archive = await retried(path, before=setup, after=setup)
    assert await again(archive, asking([], wrapped=wrapped)) is None
    found = await again(archive, asking([], wrapped=not wrapped))
    assert (found.position, found.kind) == (1, "outcome")


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_step_that_the_third_retry_has_done_failed_otherwise_in_the_others(path, wrapped):
    answers = [OSError("one"), OSError("two"), ConnectionError("three"), "yes"]
    setup = asking(answers, wrapped=wrapped)
    await record(path, setup, ONE)
    workflow = WorkflowManager(path)
    setup(workflow)
    reader = await workflow.program.reader()
    while answers:
        [archive] = await reader.read_archives([RUN])
        dead = archive.transitions[-1]
        await workflow.run(RUN).retry_dead(dead.position, dead.handler)
        await workflow.resume()
    [archive] = await reader.read_archives([RUN])
    assert [row.outcome for row in archive.transitions] == ["dead"] * 3 + ["handled"]
    assert await again(archive, asking([], wrapped=wrapped)) is None
    last = archive.transitions[-2].position
    fork = await workflow.run(RUN).fork(at=last)
    assert (await rerun(workflow, fork)).divergence is None
    await workflow.close()


async def test_a_step_that_only_a_retry_has_reached_is_not_recorded_before(path):
    async def fail(event, ctx):
        await ctx.step("first", str, event.data)
        raise ConnectionError("not in a step")

    archive = await retried(path, before=handling(fail), after=asking(["yes"]))
    found = await again(archive, asking([]))
    assert (found.position, found.kind, found.actual) == (1, "step", "ask")
