"""Events that changed code leaves out, beside handlers that wait."""

from __future__ import annotations

from typing import Any

import pytest
from again import ONE, again, record

from flowstore import WorkflowEvent
from flowstore.testing import VirtualClock

GO = WorkflowEvent("go")


def waiting(*, tells: str = "before, behind", chooses: bool = True) -> Any:
    """Return handlers of which one waits; both say something at once, or under an id of their own.

    Args:
        tells: where the one that waits tells of its progress.
        chooses: whether the other one emits what it did.
    """

    def setup(workflow: Any) -> None:
        @workflow.on("a")
        async def wait(_event, ctx):
            if "before" in tells:
                ctx.emit(WorkflowEvent.progress("before", "it waits"))
            ctx.emit(WorkflowEvent("begun", id="mine-1"))
            await ctx.wait_for("go")
            if "behind" in tells:
                ctx.emit(WorkflowEvent.progress("behind", "it goes on"))
            ctx.emit(WorkflowEvent("over", id="mine-2"))

        @workflow.on("a")
        async def choose(_event, ctx):
            if chooses:
                ctx.emit(WorkflowEvent("chosen", id="its-own"))

    return setup


@pytest.mark.parametrize(
    ("changed", "position", "handler", "where"),
    [
        (waiting(tells="behind"), 1, "wait", "emitted.progress"),
        (waiting(tells="before"), 5, "wait@1", "emitted.progress"),
        (waiting(chooses=False), 1, None, "emitted.chosen"),
    ],
)
async def test_what_is_left_out_beside_a_wait_is_found(path, changed, position, handler, where):
    archive = await record(path, waiting(), ONE, GO)
    assert await again(archive, waiting()) is None
    found = await again(archive, changed)
    assert (found.kind, found.position, found.handler) == ("emitted", position, handler)
    assert found.differences[0].path == where


async def test_by_a_clock_that_stands_still_nothing_is_missed_that_came_behind_the_wait(path):
    archive = await record(path, waiting(), ONE, GO, clock=VirtualClock())
    assert await again(archive, waiting()) is None
    assert (await again(archive, waiting(tells="before"))).position == 5
