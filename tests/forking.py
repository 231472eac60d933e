"""A shop whose runs are forked, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.codec import Codec
from flowstore.replay.fork import Edits, fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.store.archive import Archive

    Make = Callable[..., WorkflowManager]

NOW = 1_900_000_000_000_000


async def archive_of(workflow: WorkflowManager, name: str = "r") -> Archive:
    [found] = await (await workflow._runtime.reader()).read_archives([name])
    return found


def forked(archive: Archive, at: int, **edits: Any) -> Archive:
    codec = Codec()
    return fork(archive, at=at, name="f", now=NOW, codec=codec, edits=Edits(**edits))


def shop(make: Make, **options: Any) -> WorkflowManager:
    """A workflow that waits for a payment, and ends."""
    workflow = make(**options)

    @workflow.on("order")
    async def order(event: WorkflowEvent, ctx: Context):
        ctx.state["total"] = event.data["total"]
        yield WorkflowEvent("reserve", {"items": 2})
        paid = await ctx.wait_for("paid", timeout=60)
        ctx.state["paid"] = await ctx.step("book", lambda: paid.data)
        yield WorkflowEvent("ship")

    @workflow.on("reserve")
    async def reserve(event: WorkflowEvent, ctx: Context):
        ctx.state["items"] = event.data["items"]

    @workflow.on("ship")
    async def ship(_: WorkflowEvent, ctx: Context):
        ctx.complete({"shipped": True})

    return workflow


async def sold(workflow: WorkflowManager) -> None:
    """Let a run of the shop come to its end: order, reserve, paid, ship."""
    run = workflow.run("r")
    await run.send(WorkflowEvent("order", {"total": 5}))
    await workflow.resume("r")
    await run.send(WorkflowEvent("paid", 5), id="bank-1")
    await workflow.resume("r")
    assert await run.status() == "completed"
