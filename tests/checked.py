"""A workflow whose runs are recorded, and what becomes of its code afterwards."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from flowstore import Context, WorkflowEvent, WorkflowManager

NAME = "shop"


@dataclass(frozen=True)
class Code:
    """How the handlers are written."""

    price: int = 2
    step: str = "charge"
    emits: tuple[str, ...] = ("charged",)
    stamp: str = "then"
    fails: bool = False
    prints: bool = False
    hangs: bool = False
    exits: bool = False
    drops_audit: bool = False


def build(store: Any = ":memory:", code: Code | None = None) -> WorkflowManager:
    code = code or Code()
    workflow = WorkflowManager(store, name=NAME)

    @workflow.on("order")
    async def sell(event: WorkflowEvent, ctx: Context) -> Any:
        if code.prints:
            print("sold", flush=True)  # noqa: T201 - that is the point
            ctx.logger.error("sold")
        if code.hangs and event.data == 7:
            await asyncio.Event().wait()
        if code.exits and event.data == 2:
            sys.exit(0)
        if code.fails:
            raise ValueError("no more")
        ctx.state["total"] = ctx.get("total", 0) + event.data * code.price
        ctx.state["stamp"] = code.stamp
        await ctx.step(code.step, str, event.data)
        return [WorkflowEvent(name, {"total": ctx.state["total"]}) for name in code.emits]

    if not code.drops_audit:

        @workflow.on("charged")
        async def audit(event: WorkflowEvent, ctx: Context) -> None:
            ctx.state.setdefault("audited", []).append(event.data["total"])

    return workflow


async def record(store: Any, numbers: range | tuple[int, ...] = range(1, 4)) -> None:
    """Record runs order-1, order-2 and so on, with two orders each."""
    workflow = build(store)
    for number in numbers:
        for amount in (number, 10 * number):
            event = WorkflowEvent("order", amount)
            async for _ in workflow.process(event, correlation_id=f"order-{number}"):
                pass
    await workflow.close()


def same() -> WorkflowManager:
    return build()


def dearer() -> WorkflowManager:
    return build(code=Code(price=3))


def stamped() -> WorkflowManager:
    return build(code=Code(stamp="now"))


def dearer_and_stamped() -> WorkflowManager:
    return build(code=Code(price=3, stamp="now"))


def chatty() -> WorkflowManager:
    return build(code=Code(emits=("charged", "thanked"), prints=True))


def dearer_and_chatty() -> WorkflowManager:
    return build(code=Code(price=3, emits=("charged", "thanked")))


def other_step() -> WorkflowManager:
    return build(code=Code(step="bill"))


def failing() -> WorkflowManager:
    return build(code=Code(fails=True))


def hanging() -> WorkflowManager:
    return build(code=Code(hangs=True))


def exiting() -> WorkflowManager:
    return build(code=Code(exits=True))


def without_audit() -> WorkflowManager:
    return build(code=Code(drops_audit=True))


def dearer_without_audit() -> WorkflowManager:
    return build(code=Code(price=3, drops_audit=True))
