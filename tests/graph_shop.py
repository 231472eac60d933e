"""A workflow whose code says in many ways what it emits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator  # noqa: TC003 - annotations are read from the source
from dataclasses import dataclass
from typing import Any

from flowstore import Context, WorkflowEvent, WorkflowManager

PAID = "paid"
GREETING = WorkflowEvent("greeting")

loaded: list[str] = []
"""What has been run; reading the code runs none of it."""


@dataclass
class Change:
    """Something has changed."""


@dataclass
class Order(Change):
    total: float


@dataclass
class Shipped(Change):
    to: str


@dataclass
class Kept(Change):
    what: str


class Desk:
    """Handlers that are methods."""

    price = "priced"

    @property
    def trap(self) -> WorkflowEvent:
        loaded.append("trap")
        return WorkflowEvent("trapped")

    async def sell(self, order: Order, ctx: Context) -> Any:
        await self._tell(ctx, order)
        return [WorkflowEvent(self.price), self._thank()]

    async def _tell(self, context: Context, order: Order) -> None:
        context.emit(WorkflowEvent("told", order.total))

    def _thank(self) -> WorkflowEvent:
        return WorkflowEvent(name="thanked")

    async def fall(self, event: Any, ctx: Context) -> Any:
        del event, ctx
        return self.trap


def build(store: Any = ":memory:") -> WorkflowManager:
    workflow = WorkflowManager(store, name="shop")
    register(workflow, Desk())
    register_more(workflow)
    return workflow


def register(workflow: WorkflowManager, desk: Desk) -> None:
    @workflow.task
    async def pack(number: int) -> int:
        return number

    courier = workflow.external_task("courier")
    workflow.register(Order, desk.sell)
    workflow.register("trap", desk.fall)

    @workflow.on("priced")
    async def price(event: WorkflowEvent, ctx: Context) -> AsyncIterator[Any]:
        again = pack
        ctx.submit(again, 1)
        ctx.submit_external(courier.name)
        ctx.schedule(WorkflowEvent("remind"), delay=60)
        ctx.deadline(delay=3600)
        approved = await ctx.wait_for("approved")
        yield WorkflowEvent.progress("price", "Waiting")
        yield WorkflowEvent("free") if event.data else WorkflowEvent(PAID)
        yield approved
        yield GREETING

    @workflow.on(pack.completed)
    def packed(event: WorkflowEvent) -> Any:
        yield from shipments(event)

    workflow.register(courier.completed, lambda event: Shipped("x") if event else None, name="sent")


def shipments(event: WorkflowEvent) -> Any:
    events: list[Any] = []
    events.append(Shipped("home"))
    events += [dataclasses.replace(event, name="again")]
    for each in events:
        if each is not None:
            yield each


def register_more(workflow: WorkflowManager) -> None:
    @workflow.on(Change, name="log")
    async def log(_change: Change, ctx: Context) -> None:
        ctx.state["seen"] = ctx.get("seen", 0) + 1

    @workflow.on("total")
    def fold(event: WorkflowEvent, state: dict[str, Any]) -> Any:
        if event.data is None:
            return state
        return {**state, "total": event.data}, WorkflowEvent("counted")

    @workflow.on("odd")
    async def odd(event: WorkflowEvent, ctx: Context) -> None:
        ctx.emit(WorkflowEvent("odd/" + str(event.data)))

    @workflow.on("lent")
    async def lend(event: WorkflowEvent, ctx: Context) -> None:
        keep: Any = vars(event)["keep"]
        keep(ctx)

    @workflow.on("declared")
    async def declared(_event: WorkflowEvent, ctx: Context) -> AsyncIterator[Shipped | Kept]:
        for each in ctx.state["kept"]:
            yield each

    workflow.register("partial", functools.partial(_given, WorkflowEvent("given")), name="partial")
    workflow.cron("0 9 * * *", WorkflowEvent("morning"))


async def _given(made: WorkflowEvent, event: WorkflowEvent, ctx: Context) -> Any:
    del event, ctx
    return made
