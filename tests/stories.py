"""Runs with a past, for the commands that tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def waited(path: Path) -> None:
    """Make a run whose handler has waited in the middle and has set a timer."""
    workflow = WorkflowManager(path)

    async def note(text: str) -> str:
        return text

    @workflow.on("draft")
    async def publish(_event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        ctx.state["text"] = "a" * 50
        await ctx.step("mail", note, "sent")
        ctx.schedule(WorkflowEvent("remind"), delay=3600, key="reminder")
        approved = await ctx.wait_for("approved", where={"by": "alex"}, timeout=600)
        ctx.state["text"] += f" by {approved.data['by']}"
        yield WorkflowEvent("published")

    run = workflow.run("story")
    async with workflow:
        await run.send(WorkflowEvent("draft"))
        await run.wait(20)
        await run.send(WorkflowEvent("approved", {"by": "sam"}, id="sam"))
        await run.wait(20)
        await run.send(WorkflowEvent("approved", {"by": "alex"}, id="alex"))
        await run.wait(20)
    await workflow.close()
