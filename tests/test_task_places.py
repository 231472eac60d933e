"""Where tasks run, how many and how fast, and how far they say that they are."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest
from programs import environment
from task_functions import die, die_once, report, square, where
from task_handlers import GO, keeping, outcome, submitting
from watching import drops, log, query

from flowstore import Retry, WorkflowEvent

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


SCRIPT = """
import asyncio
from dataclasses import dataclass

from distributed import Client, LocalCluster
from flowstore import WorkflowEvent, WorkflowManager

@dataclass
class Size:
    width: int

def double(width: int) -> Size:
    return Size(2 * width)

async def main():
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    async with (
        LocalCluster(**options, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        workflow = WorkflowManager("runs.db")
        task = workflow.task(executor=client.get_executor())(double)

        @workflow.on("go")
        async def go(event, ctx):
            for width in range(3):
                ctx.submit(task, width)

        events = workflow.process(WorkflowEvent("go"))
        ends = [event async for event in events if event.name == "task.completed"]
        print(sorted(task.result(event).width for event in ends))
        await workflow.close()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_dask_runs_the_functions_of_a_script(tmp_path):
    """They are sent by value, and with them copies of the classes in their annotations."""
    program = tmp_path / "script.py"
    program.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env={**environment(), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "[0, 2, 4]\n", done.stderr


ENDS = """
import asyncio, time
from flowstore import WorkflowEvent, WorkflowManager

workflow = WorkflowManager("runs.db")

@workflow.task(executor="processes")
def remote():
    print("at work", flush=True)
    time.sleep(600)

@workflow.task
def local(progress):
    progress(1)
    time.sleep(600)

@workflow.on("go")
async def go(event, ctx):
    ctx.submit(remote)
    ctx.submit(local)

async def main():
    async for event in workflow.process(WorkflowEvent("go")):
        if event.name == "progress":
            break
    print("enough", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_program_that_ends_waits_for_none_of_its_tasks(tmp_path):
    """And leaves no process behind: its output comes to an end only when all have let go of it."""
    program = tmp_path / "ends.py"
    program.write_text(ENDS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) - {"at work"} == {"enough"}
    tasks = query(tmp_path / "runs.db", "SELECT name, status FROM task")
    assert sorted(tasks) == [("local", "pending"), ("remote", "pending")]


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


async def test_progress_can_be_waited_for(workflow):
    @workflow.task
    async def work(progress):
        progress(1)
        await asyncio.wait_for(seen.wait(), 20)

    seen = asyncio.Event()

    @workflow.on("go")
    async def go(_event, ctx):
        ctx.submit(work)
        told = await ctx.wait_for("progress")
        ctx.state["done"] = told.data["done"]
        seen.set()

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
