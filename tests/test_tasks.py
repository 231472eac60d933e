"""Tasks: work beside the handlers, from the commit that submits it to the event of its end."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, model_serializer
from task_handlers import GO, keeping, outcome, submitting
from watching import collect, drops, log, names, query

from flowstore import Limits, Retry, WorkflowEvent
from flowstore.errors import (
    DuplicateTaskError,
    InvalidValueError,
    TaskArgumentsError,
    UnknownTaskError,
)
from flowstore.testing import VirtualClock


class Film(BaseModel):
    title: str


@dataclass
class Poster:
    film: Film
    width: int


class Odd(BaseModel):
    number: int

    @model_serializer
    def refuse(self):
        raise ZeroDivisionError("from the serializer")


# --- from the handler to the event ------------------------------------------------------------


async def test_a_task_starts_after_the_commit_and_ends_in_an_event_of_its_run(workflow, path):
    seen = []

    @workflow.task
    async def double(number: int) -> int:
        seen.append(query(path, "SELECT id, status, name FROM task"))
        return 2 * number

    ids = []

    @workflow.on("go")
    async def go(event, ctx):
        ids.append(ctx.submit(double, 21))
        await asyncio.sleep(0)
        assert seen == []  # not before this handler is done
        yield WorkflowEvent("gone")

    events = await collect(workflow.process(GO, correlation_id="r"))
    assert ids == ["1/go/t1"]
    assert seen == [[("1/go/t1", "pending", "double")]]
    end = events[-1]
    assert (end.name, end.id) == ("task.completed", "1/go/t1/end")
    assert end.data == {"task_id": "1/go/t1", "task": "double", "result": 42}
    assert end.causation_id == events[0].id
    assert await log(workflow, "r") == [(1, "go"), (2, "gone"), (3, "task.completed")]
    assert await workflow.run("r").status() == "idle"


async def test_arguments_and_results_have_the_types_of_their_annotations(workflow):
    @workflow.task
    async def print_poster(film: Film, *, width: int = 3) -> Poster:
        assert isinstance(film, Film)
        return Poster(film, width)

    got = []

    @workflow.on("go")
    async def go(event, ctx):
        ctx.submit(print_poster, Film(title="Nosferatu"), width=7)

    @workflow.on(print_poster.completed)
    async def printed(event, ctx):
        got.append(print_poster.result(event))

    await outcome(workflow)
    assert got == [Poster(Film(title="Nosferatu"), 7)]


async def test_handlers_for_one_task_and_for_all(workflow):
    @workflow.task
    async def one():
        return 1

    @workflow.task(name="second")
    def two():
        raise LookupError("gone")

    got = []
    workflow.register(one.completed, lambda event: got.append(("one", event.data["task"])))
    workflow.register(two.completed, lambda event: got.append("never"), name="never")
    workflow.register(two.failed, lambda event: got.append(("two", event.error)), name="failed")
    workflow.register("task.completed", lambda event: got.append(("all", event.id)), name="all")
    submitting(workflow, one, two)
    await outcome(workflow)
    assert sorted(got) == [("all", "1/go/t1/end"), ("one", "one"), ("two", "gone")]


@pytest.mark.parametrize("name", ["task.completed", "task.failed"])
async def test_an_event_that_is_sent_ends_no_task(workflow, name):
    """G6: whoever can send events has no token yet, and a task ends once."""
    ends = []

    @workflow.task
    async def one():
        forged = {"task": "one", "task_id": "1/go/t1", "result": 7}
        receipt = await workflow.run("r").send(WorkflowEvent(name, forged))
        assert (receipt.status, receipt.position) == ("stale", None)
        assert "complete_task" in receipt.reason
        own = await workflow.run("r").send(WorkflowEvent(name, {"of mine": 1}), id="own")
        assert own.status == "accepted"

    for outcome_of in (one.completed, one.failed):
        workflow.register(outcome_of, lambda event: ends.append((event.name, event.id)))
    submitting(workflow, one)
    await outcome(workflow)
    assert ends == [("task.completed", "1/go/t1/end")]


async def test_a_handler_can_wait_for_its_task(workflow):
    @workflow.task
    async def ask(question: str) -> str:
        return question.upper()

    @workflow.on("go")
    async def go(event, ctx):
        task_id = ctx.submit(ask, "why")
        answer = await ctx.wait_for(ask.completed, where={"task_id": task_id})
        ctx.state["answer"] = ask.result(answer)

    assert await outcome(workflow) == {"answer": "WHY"}
    assert [name for _, name in await log(workflow, "r")].count("task.completed") == 1


async def test_what_cannot_be_stored_is_refused_at_the_door(workflow):
    """G10: and nothing of it is written."""

    @workflow.task
    async def work(one: int, *, two: object = None): ...

    @workflow.task
    async def odd():
        return {1, 2}

    @workflow.on("go")
    async def go(event, ctx):
        with pytest.raises(InvalidValueError) as caught:
            ctx.submit(work, 1, two={"deep": [object()]})
        ctx.state["path"] = caught.value.path
        with pytest.raises(TaskArgumentsError, match="three"):
            ctx.submit(work, 1, three=3)
        with pytest.raises(UnknownTaskError, match="not a task of this workflow"):
            ctx.submit(print, "x")
        with pytest.raises(DuplicateTaskError):
            ctx.submit_external("work")
        ctx.submit(odd)

    keeping(workflow)
    state = await outcome(workflow)
    assert state["path"] == "work(two).deep[0]"
    [[kind, text]] = state["odd"]
    assert (kind, text.partition(":")[0]) == ("InvalidValueError", "result")


async def test_a_handler_that_fails_submits_nothing(workflow):
    """G2."""

    @workflow.task
    async def work():
        raise AssertionError("never")

    @workflow.on("go")
    async def go(event, ctx):
        ctx.submit(work)
        raise ValueError("no")

    workflow.register("error", lambda event: None)
    assert await names(workflow.process(GO)) == ["go", "error"]


async def test_tasks_of_a_repeated_handler_keep_their_ids(patient):
    """G3: and so the key that is passed to outside systems."""
    keys, attempts = [], []

    @patient.task(retry=Retry(attempts=3, delay=1))
    async def pay(amount: int, *, idempotency_key: str):
        keys.append(idempotency_key)
        if len(keys) < 3:
            raise ConnectionError

    async def go(event, ctx):
        ctx.submit(pay, 1)
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError

    patient.register("go", go, name="go", retry=Retry(attempts=3, delay=1))
    await outcome(patient)
    assert keys == ["r/1/go/t1"] * 3


async def test_injected_parameters_can_be_given(workflow):
    @workflow.task
    async def work(idempotency_key, progress="mine"):
        return [idempotency_key, progress]

    keeping(workflow)
    submitting(workflow, (work, "key", "p"), (work, "key2", None))
    assert await outcome(workflow) == {"work": [["key", "p"], ["key2", None]]}


# --- failures -----------------------------------------------------------------------------------


async def test_a_failed_task_is_an_event_with_the_error(workflow, caplog):
    @workflow.task
    async def work():
        raise ConnectionError("no answer \0 ")

    submitting(workflow, work)
    [_, end] = await collect(workflow.process(GO, correlation_id="r"))
    assert (end.name, end.id, end.error) == ("task.failed", "1/go/t1/end", "no answer \\0 ")
    assert end.data == {"task_id": "1/go/t1", "task": "work", "exception": "ConnectionError"}
    assert await workflow.run("r").status() == "idle"
    assert "work" in caplog.text


@pytest.mark.parametrize("how", ["raises", "cancels"])
async def test_a_task_that_cancels_itself_has_failed(workflow, how):
    @workflow.task
    async def work():
        if how == "raises":
            raise asyncio.CancelledError
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    keeping(workflow)
    submitting(workflow, work)
    [[kind, text]] = (await outcome(workflow))["work"]
    assert (kind, text) == ("FlowstoreError", "the task was cancelled from within")


async def test_whatever_keeps_a_result_from_being_stored_is_a_failed_attempt(make):
    """Also the user's own code, which checks it; and a limit that is too low for the failure."""
    workflow = make(limits=Limits(data_bytes=100))

    @workflow.task
    async def odd() -> Odd:
        return Odd(number=1)

    @workflow.task
    async def long():
        raise ValueError("x" * 1_000)

    failed = []
    workflow.register("task.failed", lambda event: failed.append(event.error))
    submitting(workflow, odd, long)
    await outcome(workflow)
    assert len(failed) == 2
    assert any("from the serializer" in text for text in failed)


async def test_back_off_between_attempts_is_durable(make, clock):
    first, tried = make(clock=clock), []

    def build(workflow):
        @workflow.task(retry=Retry(attempts=3, delay=60, factor=2, jitter=0))
        def flaky():
            tried.append((clock.now() - begin) // 1_000_000)
            if len(tried) < 3:
                raise ConnectionError("not yet")
            return "at last"

        keeping(workflow)
        submitting(workflow, flaky)
        return workflow

    build(first)
    begin = clock.now()
    async with first:
        await first.send(GO, correlation_id="r")
        await clock.until_asleep(60)
        assert await first.run("r").status() == "running"
    await first.close()
    assert query(first._runtime.url.path, "SELECT attempt, error FROM task") == [(1, "not yet")]
    await clock.advance(20)
    second = build(make(clock=clock))
    resuming = asyncio.create_task(second.resume("r"))
    await clock.until_asleep(40)
    await clock.advance(40)
    for _ in range(2):  # no one sleeps for longer than a minute
        await clock.until_asleep(60)
        await clock.advance(60)
    assert await resuming == ["r"]
    assert tried == [0, 60, 180]
    assert await second.run("r").state() == {"flaky": ["at last"]}


async def test_only_errors_worth_it_are_tried_again(patient):
    tried = Counter()

    @patient.task(retry=Retry(attempts=5, on=ConnectionError))
    async def work(kind):
        tried[kind] += 1
        raise {"network": ConnectionError, "value": ValueError}[kind](kind)

    keeping(patient)
    submitting(patient, (work, "network"), (work, "value"))
    await outcome(patient)
    assert tried == {"network": 5, "value": 1}


async def test_a_timeout_is_counted_from_the_start_of_the_attempt(make):
    """Not from the submission: the second waits for its turn longer than it may take."""
    clock = VirtualClock(is_automatic=True)
    workflow, cancelled = make(clock=clock), []

    @workflow.task(timeout=30, max_concurrency=1, retry=Retry(attempts=2, delay=1, jitter=0))
    async def hang(name):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append((name, (clock.now() - begin) // 1_000_000))
            raise

    keeping(workflow)
    submitting(workflow, (hang, "a"), (hang, "b"))
    begin = clock.now()
    state = await outcome(workflow)
    assert cancelled == [("a", 30), ("b", 60), ("a", 90), ("b", 120)]
    assert {kind for kind, _ in state["hang"]} == {"TaskTimeoutError"}
    assert "more than its timeout of 30 s" in state["hang"][0][1]


async def test_what_ignores_that_it_is_given_up_keeps_no_one_waiting(make, clock):
    workflow, released = make(clock=clock), asyncio.Event()

    @workflow.task(timeout=30)
    async def stubborn():
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    keeping(workflow)
    submitting(workflow, stubborn)
    going = asyncio.create_task(outcome(workflow))
    await clock.until_asleep(30)
    await clock.advance(30)
    [[kind, _]] = (await going)["stubborn"]
    assert kind == "TaskTimeoutError"
    released.set()
    assert await drops(workflow, "r") == []  # what it came to is of no interest
