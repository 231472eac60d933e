"""How a run that is executed again diverges."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from again import ONE, TWO, add, again, double, handling, record
from pydantic import BaseModel

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import EventConflictError, HandlerTimeoutError

# --- how it diverges -----------------------------------------------------------------------


async def test_an_event_that_is_not_the_same(path):
    archive = await record(path, handling(add), ONE, TWO)

    async def other(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
        yield WorkflowEvent("added", {"sum": ctx.state["sum"], "by": ["other"]})

    found = await again(archive, handling(other))
    assert (found.position, found.event, found.handler) == (1, "a", "handle")
    assert found.kind == "emitted"
    assert [(each.path, each.expected, each.actual) for each in found.differences] == [
        ("emitted.added.data.by[0]", "handle", "other")
    ]
    assert "position 1, 'a': handler 'handle' emits something else" in found.message
    assert found.to_json()["expected"]["data"] == {"sum": 1, "by": ["handle"]}


async def test_an_event_more_or_less(path):
    async def more(event, ctx):
        async for each in add(event, ctx):
            yield each
        yield WorkflowEvent("added", "twice")

    async def less(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data

    archive = await record(path, handling(add), ONE)
    found = await again(archive, handling(more))
    assert (found.kind, found.expected) == ("emitted", None)
    assert found.actual["data"] == "twice"
    found = await again(archive, handling(less))
    assert (found.kind, found.actual) == ("emitted", None)
    assert found.expected["data"] == {"sum": 1, "by": ["handle"]}
    assert await again(archive, handling(less), ignore=["emitted.added"]) is None


@pytest.mark.parametrize(
    "error",
    [
        EventConflictError("from another store"),
        HandlerTimeoutError("not this one"),
        ValueError("it said:\nflowstore.errors.StatementError: no such table"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_handler_raises_is_its_own_failure(path, error):
    """Also if it looks like one that comes from outside, and would not be made again."""

    async def fail(event, ctx):
        raise error

    async def go_well(event, ctx):
        ctx.state["ok"] = True

    archive = await record(path, handling(fail), ONE)
    assert await again(archive, handling(fail)) is None
    found = await again(archive, handling(go_well))
    assert (found.kind, found.position) == ("outcome", 1)


async def test_progress_counts_too(path):
    def telling(text: str, more: int) -> Any:
        async def handle(event):
            for _ in range(more):
                yield WorkflowEvent.progress("x", text)

        return handling(handle)

    archive = await record(path, telling("one", 2), ONE)
    assert await again(archive, telling("one", 2)) is None
    found = await again(archive, telling("other", 2))
    assert found.differences[0].path == "emitted.progress.data.description"
    assert (await again(archive, telling("one", 1))).actual is None
    assert (await again(archive, telling("one", 3))).expected is None


def in_order(*names: str, change: bool = True) -> Any:
    """Return handlers of one event, called in this order."""

    def handler(name: str) -> Any:
        async def handle(event, ctx):
            if change:
                ctx.state["done"] = [*ctx.state.get("done", []), name]
                ctx.state[name] = 1
            yield WorkflowEvent(name)

        return handle

    def setup(workflow: WorkflowManager) -> None:
        for name in names:
            workflow.register("a", handler(name), name=name)

    return setup


async def test_handlers_in_another_order(path):
    archive = await record(path, in_order("x", "y", "z"), ONE, TWO)
    assert await again(archive, in_order("x", "y", "z")) is None
    found = await again(archive, in_order("x", "z", "y"))
    assert (found.position, found.kind, found.handler) == (1, "handler", "z")
    assert (found.expected, found.actual) == (["y", "z"], ["z", "y"])
    assert "is called before 'y' now, and was called behind it" in found.message
    found = await again(archive, in_order("x", "z", "y"), ignore=["handler.z"])
    assert (found.kind, found.differences[0].path) == ("state", "state.done[1]")
    ignored = ["handler.z", "state.done"]
    assert await again(archive, in_order("x", "z", "y"), ignore=ignored) is None


async def test_handlers_in_another_order_that_only_emit(path):
    archive = await record(path, in_order("x", "y", change=False), ONE, TWO)
    assert await again(archive, in_order("x", "y", change=False)) is None
    found = await again(archive, in_order("y", "x", change=False))
    assert (found.kind, found.handler) == ("handler", "y")
    other = in_order("y", "x", change=False)
    assert await again(archive, other, ignore=["handler.y"]) is None


async def test_events_with_chosen_ids_in_another_order(path):
    def emitting(*ids: str) -> Any:
        async def handle(event):
            for each in ids:
                yield WorkflowEvent("b", each[0], id=each)

        return handling(handle)

    archive = await record(path, emitting("x", "y", "x", "z"), ONE, TWO)
    assert await again(archive, emitting("x", "y", "x", "z")) is None
    found = await again(archive, emitting("x", "z", "y"))
    assert (found.position, found.kind) == (1, "emitted")
    assert "emits 'b' ('z') before 'b' ('y'), and did it the other way round" in found.message
    assert await again(archive, emitting("x", "z", "y"), ignore=["emitted.b"]) is None


async def test_a_state_that_is_not_the_same(path):
    archive = await record(path, handling(add), ONE, TWO)
    found = await again(archive, handling(double))
    assert (found.position, found.kind) == (1, "state")
    assert (found.expected, found.actual) == ({"sum": 1}, {"sum": 2})
    assert "state.sum was 1 and is 2" in found.message


async def test_another_way_to_the_same_state_is_identical(path):
    async def one_way(event, ctx):
        ctx.state["text"] = "x" * 40
        ctx.state["text"] += "y"
        ctx.state["n"] = event.data

    async def other_way(event, ctx):
        ctx.state["n"] = event.data
        ctx.state["text"] = "x" * 40 + "y"

    archive = await record(path, handling(one_way), ONE, TWO)
    assert await again(archive, handling(other_way)) is None


async def test_an_outcome_that_is_not_the_same_names_the_place(path):
    archive = await record(path, handling(add), ONE)

    async def failing(event, ctx):
        raise ValueError("what a pity")

    found = await again(archive, handling(failing))
    assert (found.kind, found.handler) == ("outcome", "handle")
    assert "handler 'handle' was handled then, and now is dead: ValueError: what a pity" in (
        found.message
    )
    assert "test_divergence.py:" in found.message
    assert found.message.endswith("in failing)")


async def test_another_failure_is_another_outcome(path):
    def raising(error: Exception) -> Any:
        async def handle(event):
            raise error

        return handling(handle)

    archive = await record(path, raising(ValueError("one")), ONE)
    assert await again(archive, raising(ValueError("one"))) is None
    found = await again(archive, raising(KeyError("other")))
    assert found.kind == "outcome"
    assert found.differences[0].path == "error"


async def test_the_result_and_the_end_of_a_run(path):
    def ending(result: Any) -> Any:
        async def handle(event, ctx):
            if result is not None:
                ctx.complete(result)

        return handling(handle)

    archive = await record(path, ending({"sum": 1}), ONE)
    assert await again(archive, ending({"sum": 1})) is None
    found = await again(archive, ending({"sum": 2}))
    assert found.differences[0].path == "result.sum"
    assert await again(archive, ending({"sum": 2}), ignore=["result"]) is None
    assert "was completed here, and now it is not" in (await again(archive, ending(None))).message


async def test_what_is_arranged_counts_but_not_when_it_is_due(path):
    def arranging(key: str, data: Any, delay: float) -> Any:
        async def handle(event, ctx):
            ctx.schedule(WorkflowEvent("later", data), delay=delay, key=key)
            ctx.deadline(delay=delay)

        return handling(handle)

    archive = await record(path, arranging("k", 1, 3600), ONE)
    assert await again(archive, arranging("k", 1, 7200)) is None
    found = await again(archive, arranging("k", 2, 3600))
    assert (found.kind, found.differences[0].path) == ("arranged", "arranged.timers.k.data")
    assert (await again(archive, arranging("other", 1, 3600))).kind == "arranged"


async def test_a_wait_that_is_not_the_same(path):
    def waiting(name: str) -> Any:
        async def handle(event, ctx):
            found = await ctx.wait_for(name)
            ctx.state["found"] = found.data

        return handling(handle)

    archive = await record(path, waiting("b"), ONE, WorkflowEvent("b", 5))
    assert [row.handler for row in archive.transitions] == ["handle", "handle@1"]
    assert await again(archive, waiting("b")) is None
    found = await again(archive, waiting("c"))
    assert (found.position, found.kind) == (1, "arranged")


async def test_handlers_that_are_gone_or_new(path):
    archive = await record(path, handling(add), ONE)
    found = await again(archive, handling(add, name="renamed"))
    assert (found.kind, found.handler, found.actual) == ("handler", "handle", ["renamed"])
    assert "register it with name='handle'" in found.message
    found = await again(archive, lambda _: None)
    assert (found.kind, found.position) == ("handler", 1)
    assert "registered: none" in found.message

    def with_another(workflow: WorkflowManager) -> None:
        workflow.register("a", add, name="handle").register("a", double, name="audit")

    found = await again(archive, with_another)
    assert (found.kind, found.handler) == ("handler", "audit")
    assert await again(archive, with_another, ignore=["handler.audit"]) is None


async def test_an_event_that_its_class_no_longer_fits(path):
    class Paid(BaseModel):
        amount: int

    class Grown(BaseModel):
        amount: int
        currency: str

    Grown.__name__ = Grown.__qualname__ = "Paid"

    async def handle(paid: Any, ctx: Any) -> None:
        ctx.state["paid"] = paid.amount

    def setup(kind: type) -> Any:
        return lambda workflow: workflow.register(kind, handle, name="handle")

    archive = await record(path, setup(Paid), Paid(amount=5))
    assert await again(archive, setup(Paid)) is None
    found = await again(archive, setup(Grown))
    assert (found.kind, found.position) == ("error", 1)
    assert "data.currency" in found.message
    assert "upcaster" in found.message


async def test_an_upcaster_that_fails_on_an_old_event(path):
    @dataclass
    class Paid:
        amount: int

    async def handle(paid: Paid, ctx: Any) -> None:
        ctx.state["paid"] = paid.amount

    archive = await record(path, lambda w: w.register(Paid, handle, name="handle"), Paid(amount=5))

    def broken(workflow: WorkflowManager) -> None:
        workflow.register(Paid, handle, name="handle")
        workflow.upcaster(Paid, 1)(lambda data: data["nothing"])

    found = await again(archive, broken)
    assert found.kind == "error"
    assert "upcaster" in found.message
    assert "KeyError" in found.message


async def test_an_emitted_event_that_no_longer_fits_is_compared_as_it_is(path):
    @dataclass
    class Sold:
        price: int

    def setup(workflow: WorkflowManager, price: int = 1) -> None:
        @workflow.on("a")
        async def sell(event):
            yield Sold(price)

        workflow.register(Sold, lambda sold: None, name="see")

    def newer(workflow: WorkflowManager) -> None:
        setup(workflow, 2)
        workflow.upcaster(Sold, 1)(lambda data: data["nothing"])

    archive = await record(path, setup, ONE)
    found = await again(archive, newer)
    assert (found.kind, found.differences[0].path) == ("emitted", "emitted.Sold.data.price")


async def test_a_state_class_that_has_changed(path):
    @dataclass
    class State:
        total: int = 0

    @dataclass
    class Needy:
        total: int

    @dataclass
    class Grown:
        total: int = 0
        notes: list[str] = field(default_factory=list)

    async def handle(event, ctx):
        ctx.state.total += event.data

    archive = await record(path, handling(handle), ONE, TWO, state=State)
    assert await again(archive, handling(handle), State) is None
    found = await again(archive, handling(handle), Needy)
    assert found.kind == "error"
    assert "give every field a default" in found.message
    found = await again(archive, handling(handle), Grown)
    assert (found.kind, found.differences[0].path) == ("state", "state.notes")
    assert await again(archive, handling(handle), Grown, ignore=["state.notes"]) is None


async def test_what_a_handler_takes_from_an_iterator_is_not_there(path):
    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def make(event, ctx):
            words: list[str] = []

            async def reply():
                words.append("yes")
                yield "yes"

            yield WorkflowEvent("stream", {"words": reply()})
            ctx.state["said"] = words

    archive = await record(path, setup, ONE)
    found = await again(archive, setup)
    assert found.kind == "state"
    assert "take what the handler needs of its chunks from the event" in found.message
    assert await again(archive, setup, live=["stream"]) is None


async def test_a_step_behind_what_failed_then_says_so(path):
    def selling(*things: str) -> Any:
        async def handle(event, ctx):
            if "spoon" not in things:
                raise KeyError("spoon")
            await ctx.step("bill", str, 1)

        return handling(handle)

    archive = await record(path, selling(), ONE)
    assert await again(archive, selling()) is None
    found = await again(archive, selling("spoon"))
    assert found.kind == "step"
    assert found.message.endswith("see why it was not done then (it was dead: 'spoon')")
