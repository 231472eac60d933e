"""Steps: what is done once is not done again, and its result comes back the same (G3)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest
from failing import THRICE, fail_once
from pydantic import BaseModel
from watching import collect, log

from flowstore import WorkflowEvent


async def test_a_finished_step_is_not_run_again_when_its_handler_is(patient):
    """G3."""
    calls = []

    async def pay(amount, *, currency):
        calls.append((amount, currency))
        return {"receipt": len(calls)}

    async def handle(event, ctx):
        receipt = await ctx.step("pay", pay, 12, currency="EUR")
        fail_once(ctx)
        return WorkflowEvent("paid", receipt)

    patient.register("go", handle, retry=THRICE)
    events = await collect(patient.process(WorkflowEvent("go")))
    assert events[-1].data == {"receipt": 1}
    assert calls == [(12, "EUR")]


async def test_a_step_that_failed_is_run_again(patient):
    """The control to the one above."""
    calls = []

    def pay():
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no answer")
        return "paid"

    async def handle(event, ctx):
        return WorkflowEvent("done", await ctx.step("pay", pay))

    patient.register("go", handle, retry=THRICE)
    assert (await collect(patient.process(WorkflowEvent("go"))))[-1].data == "paid"
    assert len(calls) == 2


async def test_a_finished_step_is_not_run_again_by_another_process(make, clock):
    """G3: the result is on disk when the step returns."""
    calls, reached = [], asyncio.Event()

    async def ask():
        calls.append(1)
        return 42

    async def stuck(event, ctx):
        await ctx.step("ask", ask)
        reached.set()
        await asyncio.Event().wait()

    async def quick(event, ctx):
        return WorkflowEvent("answer", await ctx.step("ask", ask))

    first = make(grace=0).register("go", stuck, name="asker")
    async with first:
        await first.send(WorkflowEvent("go"), correlation_id="r")
        await reached.wait()
    second = make().register("go", quick, name="asker")
    assert await second.resume() == ["r"]
    assert calls == [1]
    assert await log(second, "r") == [(1, "go"), (2, "answer")]


async def test_a_name_used_again_stands_for_the_next_call(patient):
    calls = []

    async def ask(question):
        calls.append(question)
        return question.upper()

    async def handle(event, ctx):
        answers = [await ctx.step("ask", ask, question) for question in ("a", "b", "c")]
        fail_once(ctx)
        return WorkflowEvent("done", answers)

    patient.register("go", handle, retry=THRICE)
    assert (await collect(patient.process(WorkflowEvent("go"))))[-1].data == ["A", "B", "C"]
    assert calls == ["a", "b", "c"]


async def test_a_step_of_another_event_or_handler_is_another_step(workflow):
    calls = []

    def ask(who):
        calls.append(who)
        return len(calls)

    async def one(event, ctx):
        ctx["one"] = await ctx.step("ask", ask, "one")

    async def two(event, ctx):
        ctx["two"] = await ctx.step("ask", ask, "two")

    workflow.register("go", one).register("go", two)
    for _ in range(2):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == ["one", "two", "one", "two"]
    assert await workflow.run("r").state() == {"one": 3, "two": 4}


async def test_steps_can_run_side_by_side(patient):
    calls = []

    async def ask(number):
        calls.append(number)
        await asyncio.sleep(0)
        return number * 2

    async def handle(event, ctx):
        results = await asyncio.gather(*(ctx.step(f"ask {n}", ask, n) for n in range(20)))
        fail_once(ctx)
        return WorkflowEvent("done", results)

    patient.register("go", handle, retry=THRICE)
    events = await collect(patient.process(WorkflowEvent("go")))
    assert events[-1].data == [n * 2 for n in range(20)]
    assert sorted(calls) == list(range(20))


async def test_a_step_gets_a_key_that_is_the_same_each_time_it_is_tried(patient):
    keys = []

    async def pay(amount, idempotency_key):
        keys.append(idempotency_key)
        if len(keys) == 1:
            raise ConnectionError("no answer")
        return amount

    async def handle(event, ctx):
        await ctx.step("pay", pay, 12)
        await ctx.step("pay", pay, 13)

    patient.register("go", handle, retry=THRICE)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert keys[0] == keys[1] != keys[2]
    assert "r" in keys[0]


class Answer(BaseModel):
    text: str


@dataclasses.dataclass
class Page:
    number: int


async def test_the_result_of_a_step_keeps_its_type(patient):
    """The same type the first time and when it is read back."""

    async def ask() -> Answer:
        return Answer(text="why not")

    def find() -> list[Page]:
        return [Page(1), Page(2)]

    seen = []

    async def handle(event, ctx):
        seen.append((await ctx.step("ask", ask), await ctx.step("find", find)))
        fail_once(ctx)

    patient.register("go", handle, retry=THRICE)
    await collect(patient.process(WorkflowEvent("go")))
    assert seen == [(Answer(text="why not"), [Page(1), Page(2)])] * 2


async def test_a_step_without_a_result_is_recorded_too(patient):
    calls = []

    def send_mail():
        calls.append(1)

    async def handle(event, ctx):
        assert await ctx.step("mail", send_mail) is None
        fail_once(ctx)

    patient.register("go", handle, retry=THRICE)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert calls == [1]
    assert await patient.run("r").status() == "idle"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (object(), "step['ask']"),
        ({"a": {1, 2}}, "step['ask'].a"),
        (float("inf"), "step['ask']"),
        ("\ud800", "step['ask']"),
    ],
)
async def test_a_result_that_cannot_be_stored_fails_its_handler(workflow, result, words, caplog):
    async def handle(event, ctx):
        await ctx.step("ask", lambda: result)

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go")))
    assert words in events[-1].error


@pytest.mark.parametrize("name", ["", 7, None, "x" * 1000, "a\0b", "\ud800"])
async def test_a_step_needs_a_proper_name(workflow, name, caplog):
    calls = []

    async def handle(event, ctx):
        await ctx.step(name, calls.append, 1)

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]
    assert "step" in events[-1].error
    assert calls == []
    assert await workflow.run("r").status() == "failed"


async def test_a_plain_function_of_a_step_runs_in_a_thread(workflow):
    here = threading.current_thread()

    async def handle(event, ctx):
        ctx["in thread"] = await ctx.step("where", lambda: threading.current_thread() is not here)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert await workflow.run("r").state() == {"in thread": True}


@pytest.mark.parametrize(
    "effect",
    [
        lambda ctx: ctx.emit(WorkflowEvent("more")),
        lambda ctx: ctx.schedule(WorkflowEvent("more"), delay=1),
        lambda ctx: ctx.complete(),
        lambda ctx: ctx.drop("late"),
        lambda ctx: ctx.postpone(1),
        lambda ctx: ctx.submit_external("approval"),
    ],
    ids=["emit", "schedule", "complete", "drop", "postpone", "submit_external"],
)
@pytest.mark.parametrize("is_plain", [True, False], ids=["thread", "loop"])
async def test_what_a_step_would_do_to_its_run_is_refused(workflow, effect, is_plain):
    """G3: a finished step is not called again, so it would be lost."""

    @workflow.on("go")
    async def go(event, ctx):
        async def on_loop():
            effect(ctx)

        await ctx.step("fan out", (lambda: effect(ctx)) if is_plain else on_loop)

    events = [event async for event in workflow.process(WorkflowEvent("go"))]
    assert [event.name for event in events] == ["go", "error"]
    assert "step 'fan out' wants more than its result" in events[1].error


async def test_beside_a_step_a_handler_does_what_it_likes(workflow):
    @workflow.on("go")
    async def go(event, ctx):
        at_work, done = asyncio.Event(), asyncio.Event()

        async def slow():
            ctx.emit(WorkflowEvent.progress("slow", "shown, and no more"))
            at_work.set()
            await done.wait()

        async def beside():
            await at_work.wait()
            ctx.emit(WorkflowEvent("more"))
            done.set()

        await asyncio.gather(ctx.step("slow", slow), beside())

    events = [event async for event in workflow.process(WorkflowEvent("go"))]
    assert [event.name for event in events] == ["go", "progress", "more"]


async def test_a_parameter_that_cannot_be_resolved_does_not_spoil_the_result_type(workflow):
    """G10: as with tasks, each annotation counts for itself."""
    seen = []

    def pay(amount: "Nowhere" = 1) -> Page:  # noqa: F821, UP037 - what this is about
        return Page(number=amount)

    @workflow.on("go")
    async def go(event, ctx):
        seen.append(await ctx.step("pay", pay))

    await collect(workflow.process(WorkflowEvent("go")))
    assert seen == [Page(number=1)]
