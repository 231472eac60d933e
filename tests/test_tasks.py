"""Tasks: work beside the handlers, from the commit that submits it to the event of its end."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import Counter
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, model_serializer
from task_functions import die, die_once, report, square, where
from watching import collect, drops, log, names, query

from flowstore import Limits, Retry, WorkflowEvent
from flowstore.errors import (
    DuplicateTaskError,
    InvalidValueError,
    StaleEventError,
    TaskArgumentsError,
    UnknownTaskError,
    WaitTimeoutError,
)
from flowstore.testing import VirtualClock

GO = WorkflowEvent("go")


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


def submitting(workflow, *calls, on="go"):
    """Have a handler submit these: tasks, or tuples of one and its arguments."""

    @workflow.on(on, name=on)
    async def go(event, ctx):
        for call in calls:
            task, *arguments = call if isinstance(call, tuple) else (call,)
            ctx.submit(task, *arguments)


def keeping(workflow, *outcomes):
    """Keep in the state what the tasks have ended in."""

    async def keep(event, ctx):
        ctx.state.setdefault(event.data["task"], []).append(
            event.data["result"] if event.error is None else [event.data["exception"], event.error]
        )

    for number, outcome in enumerate(outcomes or ("task.completed", "task.failed")):
        workflow.register(outcome, keep, name=f"keep{number}")


async def outcome(workflow, run="r", first=GO):
    """Send the first event, wait until the run has settled, and return its state."""
    async for _ in workflow.process(first, correlation_id=run):
        pass
    return await workflow.run(run).state()


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


# --- where it runs --------------------------------------------------------------------------------


async def test_plain_functions_run_in_threads_and_coroutines_on_the_loop(workflow):
    @workflow.task
    def plain():
        return threading.get_ident()

    @workflow.task
    async def coroutine():
        return threading.get_ident()

    keeping(workflow)
    submitting(workflow, plain, coroutine)
    state = await outcome(workflow)
    assert state["coroutine"] == [threading.get_ident()]
    assert state["plain"] != state["coroutine"]


async def test_200_tasks_of_one_run_go_on_side_by_side(workflow):
    barrier = asyncio.Barrier(200)

    @workflow.task
    async def meet(number):
        await barrier.wait()  # comes back only when all 200 are here
        return number

    keeping(workflow)
    submitting(workflow, *((meet, number) for number in range(200)))
    assert sorted((await outcome(workflow))["meet"]) == list(range(200))


async def test_processes(workflow):
    task = workflow.task(executor="processes", timeout=60)
    squared, there = task(square), task(where)
    keeping(workflow)
    submitting(workflow, (squared, 3), (squared, 4), there)
    state = await outcome(workflow)
    assert sorted(state["square"]) == [9, 16]
    assert state["where"] != [os.getpid()]


async def test_a_process_that_ends_is_a_failed_attempt_and_the_pool_is_made_anew(patient, tmp_path):
    once = patient.task(executor="processes", retry=Retry(attempts=3))(die_once)
    keeping(patient)
    submitting(patient, (once, str(tmp_path / "marker")))
    assert await outcome(patient) == {"die_once": ["alive"]}

    last = patient.task(executor="processes")(die)
    submitting(patient, last, on="die")
    state = await outcome(patient, first=WorkflowEvent("die"))
    assert state["die"][0][0] == "BrokenProcessPool"
    squared = patient.task(executor="processes")(square)
    submitting(patient, (squared, 5), on="square")
    assert (await outcome(patient, first=WorkflowEvent("square")))["square"] == [25]


async def test_dask(make):
    """On a cluster whose worker is a process of its own, and may die."""
    import dask
    from distributed import Client, LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        async with (
            LocalCluster(**options, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            workflow = make()
            task = workflow.task(executor=client.get_executor())
            squared, there, dying = task(square), task(where), task(die)
            counted = task(report)
            keeping(workflow)
            submitting(workflow, *((squared, n) for n in (3, 3, 4)), there, (counted, 3))
            state = await outcome(workflow)
            assert sorted(state["square"]) == [9, 9, 16]
            assert state["where"] != [os.getpid()]
            assert state["report"] == [3]
            submitting(workflow, dying, on="die")
            state = await outcome(workflow, first=WorkflowEvent("die"))
            assert [kind for kind, _ in state["die"]] == ["KilledWorker"]
            await workflow.close()


# --- how many and how fast ---------------------------------------------------------------


async def test_no_more_run_at_a_time_than_may(workflow):
    at_work, most, turn = Counter(), Counter(), asyncio.Semaphore(0)

    async def work(name):
        at_work[name] += 1
        most[name] = max(most[name], at_work[name])
        await turn.acquire()
        turn.release()
        at_work[name] -= 1

    few = workflow.task(max_concurrency=3, name="few")(work)
    many = workflow.task(name="many")(work)

    @workflow.task
    async def let_go():
        turn.release()

    submitting(workflow, *[(few, "few")] * 40, *[(many, "many")] * 10, let_go)
    await outcome(workflow)
    assert most == {"few": 3, "many": 10}


async def test_no_more_start_in_a_time_than_may(make, clock):
    workflow, started = make(clock=clock), []

    @workflow.task(rate="2/min")
    async def work():
        started.append((clock.now() - begin) // 1_000_000)

    submitting(workflow, *[work] * 5)
    begin = clock.now()
    going = asyncio.create_task(outcome(workflow))
    for _ in range(2):
        await clock.until_asleep(60)
        await clock.advance(59)
        await clock.advance(1)
    await going
    assert started == [0, 0, 60, 60, 120]


async def test_tasks_that_wait_for_their_turn_cost_no_task_of_the_loop(workflow):
    blocked, free = asyncio.Event(), asyncio.Event()

    @workflow.task(max_concurrency=1)
    async def work():
        blocked.set()
        await free.wait()

    submitting(workflow, *[work] * 3_000)
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await blocked.wait()
        assert len(asyncio.all_tasks()) < 20
        await workflow.run("r").cancel()
        free.set()
    assert len(await drops(workflow, "r")) == 3_000


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


# --- status, stopping and closing -------------------------------------------------------------


async def test_a_run_with_tasks_under_way_is_running(workflow, path):
    begun, free = asyncio.Event(), asyncio.Event()

    @workflow.task
    async def work():
        begun.set()
        await free.wait()

    submitting(workflow, work)
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await begun.wait()
        with pytest.raises(WaitTimeoutError):
            await workflow.run("r").wait(timeout=0.05)
        assert query(path, "SELECT status, owner FROM run") == [("working", None)]
        assert await workflow.run("r").status() == "running"
        [record] = await workflow.runs(status="running")
        assert record.correlation_id == "r"
        free.set()
        assert (await workflow.run("r").wait()).status == "idle"


@pytest.mark.parametrize("how", ["serve", "resume", "resume all", "attach", "process"])
async def test_what_had_not_ended_when_the_engine_stopped_is_started_anew(make, how):
    """G9: an async task is cancelled then; how it is taken up again does not matter."""
    begun, hanging, cancelled = asyncio.Event(), True, []

    def build(workflow):
        @workflow.task
        async def work(number):
            if hanging:
                begun.set()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    cancelled.append(number)
            return number

        keeping(workflow)
        submitting(workflow, (work, 1), (work, 2))
        return workflow

    first = build(make())
    async with first:
        await first.send(GO, correlation_id="r", id="first")
        await begun.wait()
    await first.close()
    assert sorted(cancelled) == [1, 2]
    hanging, second = False, build(make())
    if how == "serve":
        async with second:
            await second.run("r").wait()
    elif how.startswith("resume"):
        assert await second.resume("r" if how == "resume" else None) == ["r"]
    else:
        first_again = WorkflowEvent("go", id="first") if how == "attach" else WorkflowEvent("more")
        assert len(await collect(second.process(first_again, correlation_id="r"))) >= 3
    assert sorted((await second.run("r").state())["work"]) == [1, 2]
    ends = [name for _, name in await log(second, "r") if name == "task.completed"]
    assert len(ends) == 2
    causes = [e.causation_id async for e in second.run("r").events() if e.name == "task.completed"]
    assert causes == ["first", "first"]


async def test_a_new_event_loop_goes_on_with_the_tasks_of_an_older_one(path, make):
    begun, release = threading.Event(), threading.Event()

    def build(workflow):
        @workflow.task
        def work():
            begun.set()
            release.wait(30)
            return 1

        keeping(workflow)
        submitting(workflow, work)
        return workflow

    workflow = build(make())

    async def begin():
        async for _ in workflow.process(GO, correlation_id="r"):
            await asyncio.to_thread(begun.wait, 30)
            return

    await asyncio.to_thread(asyncio.run, begin())
    release.set()
    assert await workflow.resume("r") == ["r"]
    assert await workflow.run("r").state() == {"work": [1]}


async def test_a_task_that_is_not_registered_here_is_left_to_others(make, caplog):
    begun, hanging = asyncio.Event(), True

    def build(workflow, *, knows):
        @workflow.task(name="work" if knows else "other")
        async def work():
            begun.set()
            if hanging:
                await asyncio.get_running_loop().create_future()

        submitting(workflow, work)
        return workflow

    async with build(make(), knows=True) as first:
        await first.send(GO, correlation_id="r")
        await begun.wait()
    hanging = False
    await first.close()
    with caplog.at_level(logging.WARNING):
        async with build(make(), knows=False) as second:
            while "no task 'work' is registered" not in caplog.text:
                await second.send(WorkflowEvent("flush"))
            assert await second.run("r").status() == "running"
        await second.close()
    async with build(make(), knows=True) as third:
        assert (await third.run("r").wait()).status == "idle"


async def test_tasks_of_a_run_that_is_closed_are_cancelled_and_their_end_is_a_stale_drop(workflow):
    """G6, G7."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    @workflow.task(max_concurrency=1)
    async def work():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    submitting(workflow, work, work)
    async with workflow:
        await workflow.send(GO, correlation_id="r")
        await begun.wait()
        await workflow.run("r").cancel("enough")
        await cancelled.wait()
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert sorted(await drops(workflow, "r")) == [
        ("1/go/t1/end", "stale"),
        ("1/go/t2/end", "stale"),
    ]
    assert await workflow.run("r").status() == "cancelled"
    with pytest.raises(StaleEventError):
        await outcome(workflow)


@pytest.mark.parametrize("how", ["serve", "process"])
async def test_another_process_may_close_the_run(make, how):
    begun, cancelled = asyncio.Event(), asyncio.Event()
    workflow, other = make(), make()

    @workflow.task
    async def work():
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    submitting(workflow, work)
    async with contextlib.AsyncExitStack() as stack:
        if how == "serve":
            await stack.enter_async_context(workflow)
        processing = asyncio.create_task(names(workflow.process(GO, correlation_id="r")))
        await begun.wait()
        await other.run("r").cancel()
        await cancelled.wait()
        assert await processing == ["go"]
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert await drops(workflow, "r") == [("1/go/t1/end", "stale")]


async def test_a_handler_that_completes_the_run_ends_its_tasks(workflow):
    started = []

    @workflow.task
    async def work():
        started.append(1)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.submit(work)
        ctx.complete()

    async with workflow:
        await outcome(workflow)
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    assert started == []
    assert await drops(workflow, "r") == [("1/go/t1/end", "stale")]


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_progress_is_seen_live(workflow, path, kind):
    """And needs no lease: the run is as it was, with no worker, and no more than read."""
    seen = threading.Event()
    standing = "SELECT status, owner, epoch, head - cursor FROM run"

    @workflow.task
    async def coroutine(progress):
        progress(1, 2, "half way")
        await asyncio.to_thread(seen.wait, 30)

    @workflow.task
    def thread(progress):
        progress(1, 2, "half way")
        seen.wait(30)

    submitting(workflow, {"coroutine": coroutine, "thread": thread}[kind])
    async for event in workflow.process(GO, correlation_id="r"):
        if event.name == "progress":
            assert event.data == {
                "step": kind,
                "description": "half way",
                "task_id": "1/go/t1",
                "done": 1,
                "total": 2,
            }
            [(status, owner, epoch, pending)] = query(path, standing)
            if status == "working":  # it can have come before the handler's commit was let go
                assert (owner, epoch, pending) == (None, 1, 0)
            seen.set()
    assert [name for _, name in await log(workflow, "r")] == ["go", "progress", "task.completed"]


async def test_of_reports_that_come_too_fast_the_last_counts(make, clock):
    workflow, told, reported = make(clock=clock), [], asyncio.Event()
    go_on = asyncio.Event()

    @workflow.task
    async def work(progress):
        for number in range(1, 1_001):
            progress(number, 1_000)
            await asyncio.sleep(0)
        reported.set()
        await go_on.wait()
        progress(2_000)

    submitting(workflow, work)

    async def watch():
        events = workflow.process(GO, correlation_id="r")
        told.extend([event.data["done"] async for event in events if event.name == "progress"])

    watching = asyncio.create_task(watch())
    await reported.wait()
    await clock.until_asleep()
    await clock.advance(0.1)
    go_on.set()
    await watching
    assert told == [1, 1_000, 2_000]


async def test_progress_can_be_handled(workflow):
    @workflow.task
    async def work(progress):
        progress(1)

    async def note(event, ctx):
        ctx.state["done"] = event.data["done"]

    workflow.register("progress", note)
    submitting(workflow, work)
    assert await outcome(workflow) == {"done": 1}


async def test_in_processes_progress_does_nothing(workflow):
    counted = workflow.task(executor="processes")(report)
    keeping(workflow)
    submitting(workflow, (counted, 3))
    assert await outcome(workflow) == {"report": [3]}
    assert "progress" not in [name for _, name in await log(workflow, "r")]


async def test_a_report_that_makes_no_sense_is_refused(workflow):
    @workflow.task
    async def work(progress):
        progress(float("nan"))

    keeping(workflow)
    submitting(workflow, work)
    assert (await outcome(workflow))["work"][0][0] == "InvalidValueError"


# --- a store that fails ---------------------------------------------------------------------------


async def test_two_processes_share_tasks_without_disturbing_each_other(make):
    """G8: what a live worker is at is left to it."""
    begun, free, started = asyncio.Event(), asyncio.Event(), []

    def build(workflow, name):
        @workflow.task(name="work")
        async def work():
            started.append(name)
            begun.set()
            await free.wait()
            return name

        keeping(workflow)
        submitting(workflow, work)
        return workflow

    one, two = build(make(), "one"), build(make(), "two")
    async with one:
        await one.send(GO, correlation_id="r")
        await begun.wait()
        async with two:
            await two.send(WorkflowEvent("flush"))
            resuming = asyncio.create_task(two.resume("r"))
            await two.send(WorkflowEvent("flush"))
            free.set()
            await resuming
            assert await two.run("r").state() == {"work": ["one"]}
    assert started == ["one"]
