"""Divergences that are ignored or accepted: what a replay goes on with behind them."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from typing import Any

import pytest
from again import ONE, TWO, add, again, handling, record

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import InvalidValueError
from flowstore.replay import rerun


@pytest.mark.parametrize("nothing", ["", ".", "*", "*.at", "states.total", "[0]"])
async def test_what_would_cover_everything_or_nothing_is_refused(path, nothing):
    archive = await record(path, handling(add), ONE)
    with pytest.raises(InvalidValueError, match="is no path that can differ, such as"):
        await again(archive, handling(add), ignore=["state.total", nothing])


async def test_what_is_ignored_does_not_spread(path):
    def stamping(stamp: str) -> Any:
        async def handle(event, ctx):
            before = ctx.state.get("stamp")
            ctx.state["stamp"] = f"{stamp} {event.data}"
            yield WorkflowEvent("stamped", {"before": before, "at": stamp})

        return handling(handle)

    archive = await record(path, stamping("x"), ONE, TWO, WorkflowEvent("a", 3))
    assert (await again(archive, stamping("y"))).position == 1
    found = await again(archive, stamping("y"), ignore=["state.stamp"])
    assert found.differences[0].path == "emitted.stamped.data.at"
    for path_of_event in ("emitted.*.data.at", "event.data.at", "emitted.stamped.data.at"):
        assert await again(archive, stamping("y"), ignore=["state.stamp", path_of_event]) is None


async def test_what_is_accepted_hides_nothing_behind_it(path):
    archive = await record(path, handling(add), ONE, TWO, ONE)

    async def changed(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
        if event.position == 1:
            ctx.state["new"] = True
        if event.position == 5:
            ctx.state["sum"] += 1
        yield WorkflowEvent("added", {"sum": ctx.state["sum"], "by": ["handle"]})

    workflow = WorkflowManager(":memory:").register("a", changed, name="handle")
    report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
    assert [each.differences[0].path for each in report.accepted] == ["state.new"]
    assert report.divergence is not None
    assert (report.divergence.position, report.divergence.kind) == (5, "emitted")
    everything = await rerun(workflow, archive, accept=lambda _: True)
    assert everything.is_identical
    assert [each.position for each in everything.accepted] == [1, 5, 5]


async def test_accepting_goes_on_with_what_waits_as_recorded(path):
    def waiting(name: str, *, is_step: bool) -> Any:
        async def handle(event, ctx):
            if is_step:
                await ctx.step("new", str, 1)
            found = await ctx.wait_for(name)
            ctx.state["found"] = found.data

        return handling(handle)

    archive = await record(path, waiting("b", is_step=False), ONE, WorkflowEvent("b", 5))
    for setup in (waiting("b", is_step=True), waiting("c", is_step=False)):
        workflow = WorkflowManager(":memory:")
        setup(workflow)
        report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
        assert len(report.accepted) == 1
        assert report.divergence is not None
        assert report.divergence.position == 2
