"""Typical user code: `test_typing.py` holds that mypy accepts it in strict mode."""

# ruff: noqa: ARG001, TC003 - a program as users would write it

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flowstore import Context, Limits, Receipt, Retry, Run, WorkflowEvent, WorkflowManager
from flowstore.errors import FlowstoreError, WaitTimeoutError
from flowstore.testing import VirtualClock


class Inquiry(BaseModel):
    inquiry_id: str


@dataclass
class Approved:
    by: str


class State(BaseModel):
    drafts: int = 0


workflow = WorkflowManager(Path("runs.db"), ctx={"units": "metric"}, state=State, concurrency=8)
small = WorkflowManager({"units": "metric"}, limits=Limits(depth=10), clock=VirtualClock())


async def generator(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
    yield WorkflowEvent.progress("one", "at it")
    answer: str = await ctx.step("ask", ask, "why", times=2)
    ctx.emit(Approved(by=answer))
    yield WorkflowEvent("done", {"answer": answer})


async def ask(question: str, *, times: int = 1) -> str:
    return question * times


async def coroutine(inquiry: Inquiry, ctx: Context) -> Approved | None:
    ctx["drafts"] = 1
    ctx.logger.info("at work")
    ctx.complete({"by": inquiry.inquiry_id})
    return Approved("ada") if ctx.random.random() > 1 else None


def reducer(event: Approved, state: State) -> tuple[State, list[WorkflowEvent]]:
    return state.model_copy(update={"drafts": 2}), [WorkflowEvent(event.by)]


def plain(event: WorkflowEvent) -> Iterator[Approved]:
    yield Approved(event.name)


@workflow.on("decorated", timeout=5.0)
async def decorated(event: WorkflowEvent) -> None: ...


async def patient(event: WorkflowEvent, ctx: Context) -> None:
    ctx.deadline(delay=timedelta(hours=1))
    ctx.deadline(at=datetime.now(UTC))
    ctx.cancel_deadline()


@workflow.task
async def fetch(url: str) -> bytes:
    return url.encode()


@workflow.task(retry=Retry(attempts=2), timeout=5, max_concurrency=2, rate="60/min")
def shrink(picture: str, *, idempotency_key: str, progress: Callable[..., None]) -> Approved:
    progress(1, total=2, description=idempotency_key)
    return Approved(picture)


@workflow.on(fetch.completed)
async def fetched(event: WorkflowEvent, ctx: Context) -> None:
    task_id: str = ctx.submit(shrink, event.data["result"])
    token: str = ctx.submit_external("approval", timeout=timedelta(days=1))
    ctx.state[task_id] = token


workflow.register(shrink.failed, decorated).register(
    workflow.external_task("approval").completed, fetched, name="approved"
)


@workflow.upcaster(Inquiry, 1)
def to_two(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "inquiry_id": "none"}


workflow.register("patient", patient).cron("0 9 * * mon-fri", Approved("cron"), missed="all")
workflow.cron("0 9 * * *", WorkflowEvent("query"), timezone="Europe/Berlin", name="daily")
workflow.register("query", generator).register("query", plain, name="second")
workflow.register(Inquiry, coroutine, correlate="inquiry_id", retry=Retry(attempts=5, on=OSError))
workflow.register(Approved, reducer, correlate=lambda event: str(event.by))


async def main() -> None:
    receipt: Receipt = await workflow.send(
        Inquiry(inquiry_id="7"), id="mail", expires_at=datetime.now(UTC) + timedelta(days=1)
    )
    receipts: list[Receipt] = await workflow.send_many([WorkflowEvent("query"), Approved("ada")])
    print(receipt.position, [each.status for each in receipts])  # noqa: T201
    event: WorkflowEvent
    async for event in workflow.process(WorkflowEvent("query")):
        decoded: object = workflow.decode(event)
        print(event.name, decoded)  # noqa: T201
    run: Run = workflow.run("7")
    async with workflow:
        try:
            record = await run.wait(timeout=3)
        except WaitTimeoutError as error:
            failure: FlowstoreError = error
            raise failure from None
    status: str = record.status
    head: int = (await run.info()).head
    async for event in run.events(after=head, follow=True):
        print(event.position, status)  # noqa: T201
    outstanding: list[tuple[str, str | None, int | None]]
    outstanding = [(each.kind, each.name, each.due_at) for each in await run.outstanding(limit=5)]
    print(outstanding)  # noqa: T201
    async for transition in run.history(after=1, until=head):
        paths: list[str] = [each.path for each in transition.differences]
        print(transition.handler, paths, [step.error for step in transition.steps])  # noqa: T201
    content: bytes = await fetch("https://example.org")
    receipt = await workflow.complete_task("token", {"size": len(content)})
    receipt = await workflow.fail_task("token", "no")
    await run.cancel("enough")
    resumed: list[str] = await workflow.resume()
    print(resumed, [each.correlation_id for each in await workflow.runs(limit=3)])  # noqa: T201
    await workflow.close()
