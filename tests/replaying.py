"""A workflow whose handlers do what their events say, for executing random runs again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import WaitExpiredError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass
class Note:
    """A typed event."""

    text: str


class Subject:
    """Handlers of a run; they count what really happens.

    Args:
        odd: the position at which they do something else than usual.
    """

    def __init__(self, odd: int = 0) -> None:
        self.odd = odd
        self.outside: list[str] = []

    def open(self, store: Any = ":memory:") -> WorkflowManager:
        """Make the workflow."""
        workflow = WorkflowManager(store)
        self.task = workflow.task(self.double, name="double")
        retry = Retry(attempts=3, delay=0.001, jitter=0)
        workflow.register("do", self.audit, name="audit")
        workflow.register("do", self.work, name="work", retry=retry)
        workflow.register("more", self.more, name="more")
        workflow.register(Note, self.note, name="note")
        workflow.register(self.task.completed, self.doubled, name="doubled")
        workflow.register("stream", self.read, name="read")
        approval = workflow.external_task("approval")
        workflow.register(approval.completed, self.doubled, name="approved")
        workflow.register("error", self.tell, name="tell")
        return workflow.register("*", self.count, name="count")

    def double(self, number: int) -> int:
        self.outside.append("task")
        return 2 * number

    def audit(self, event: WorkflowEvent, state: dict[str, Any]) -> Any:
        state["audited"] = event.position
        return state, [Note(f"audit of {event.position}")]

    def more(self, event: WorkflowEvent, ctx: Any) -> Iterator[WorkflowEvent]:
        yield WorkflowEvent.progress("more", f"at {event.position}")
        ctx["more"] = event.data
        ctx["luck"] = ctx.random.random()
        yield Note("more")  # type: ignore[misc]

    async def note(self, note: Note, ctx: Any) -> None:
        ctx.state.setdefault("notes", []).append(note.text)

    async def tell(self, event: WorkflowEvent, ctx: Any) -> None:
        ctx.state["told"] = [event.error, event.data["handler"]]

    async def doubled(self, event: WorkflowEvent, ctx: Any) -> None:
        ctx.state.setdefault("doubled", []).append(event.data["result"])

    async def read(self, event: WorkflowEvent, ctx: Any) -> None:
        ctx.state["read"] = [chunk async for chunk in event.data["chunks"]]

    async def count(self, event: WorkflowEvent, ctx: Any) -> None:
        counts = ctx.state.setdefault("counts", {})
        counts[event.name] = counts.get(event.name, 0) + 1

    async def pay(self, number: int, idempotency_key: str) -> str:
        self.outside.append("step")
        return f"paid {number} by {idempotency_key}"

    def fail(self) -> None:
        self.outside.append("step")
        raise ConnectionError("no answer", 7)

    async def chunks(self, count: int) -> AsyncIterator[Any]:
        for number in range(count):
            self.outside.append("stream")
            yield [number]

    async def work(self, event: WorkflowEvent, ctx: Any) -> AsyncIterator[Any]:
        if event.position == self.odd:
            ctx.state["odd"] = True
        for number, (what, *more) in enumerate(event.data):
            ctx.state["last"] = [event.position, number]
            if what == "emit":
                yield WorkflowEvent(more[0], more[1], {"number": number})
            elif what == "chosen":
                yield WorkflowEvent("chosen", more[0], id=f"chosen {more[0]}")
            elif what == "progress":
                yield WorkflowEvent.progress("work", f"attempt {ctx.attempt}")
            elif what == "stream":
                yield WorkflowEvent("stream", {"chunks": self.chunks(more[0])})
            else:
                await getattr(self, f"do_{what}")(ctx, *more)

    async def do_step(self, ctx: Any, number: int) -> None:
        ctx.state["paid"] = await ctx.step("pay", self.pay, number)

    async def do_failing_step(self, ctx: Any) -> None:
        try:
            await ctx.step("fail", self.fail)
        except ConnectionError as error:
            ctx.state["failed"] = [str(error), *error.args]

    async def do_flaky(self, ctx: Any, times: int) -> None:
        if ctx.attempt <= times:
            raise ValueError(f"attempt {ctx.attempt}")

    async def do_look(self, ctx: Any) -> None:
        ctx.state["looked"] = [ctx.now().isoformat(), ctx.random.random(), ctx.attempt]

    async def do_schedule(self, ctx: Any, name: str) -> None:
        ctx.schedule(WorkflowEvent(name, "timed"), delay=0.001, key=f"timer {name}")

    async def do_cancel(self, ctx: Any, name: str) -> None:
        ctx.cancel(f"timer {name}")

    async def do_submit(self, ctx: Any, number: int) -> None:
        ctx.submit(self.task, number)

    async def do_external(self, ctx: Any) -> None:
        ctx.state["token"] = ctx.submit_external("approval", timeout=3600)

    async def do_wait(self, ctx: Any, name: str, timeout: float | None) -> None:
        try:
            found = await ctx.wait_for(name, timeout=timeout)
        except WaitExpiredError:
            ctx.state["waited"] = "in vain"
        else:
            ctx.state["waited"] = [found.position, found.data]

    async def do_ask(self, ctx: Any, name: str, number: int) -> None:
        found = await ctx.wait_for(name, where=lambda each: each.data == number)
        ctx.state["answered"] = [found.position, found.data]

    async def do_raise(self, ctx: Any) -> None:
        raise KeyError(ctx.event.position)

    async def do_collect(self, ctx: Any, count: int) -> None:
        found = ctx.collect("both", "do", count=count)
        if found is not None:
            ctx.state["collected"] = [each.position for each in found]

    async def do_drop(self, ctx: Any) -> None:
        ctx.drop("it does not apply")

    async def do_deadline(self, ctx: Any, delay: float) -> None:
        ctx.deadline(delay=delay)

    async def do_postpone(self, ctx: Any, name: str) -> None:
        if "more" not in ctx.state:
            ctx.state["void"] = True
            ctx.postpone(until=name)

    async def do_complete(self, ctx: Any) -> None:
        ctx.complete({"at": ctx.event.position})
