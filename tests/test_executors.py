"""Where tasks run, and what they leave behind when they fail, hang, or take it all down."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import pytest
from programs import environment

from flowstore.errors import RemoteTaskError
from flowstore.executors import Elsewhere, OnLoop, runner_for
from flowstore.processes import InProcesses
from flowstore.threads import InThreads

HANGS = """
import asyncio, time
from flowstore.processes import InProcesses
from flowstore.threads import InThreads

def hang():
    time.sleep(600)

async def main():
    for runner in (InThreads(), InProcesses(1)):
        try:
            await asyncio.wait_for(runner.run(hang, (), {}), 0.3)
        except TimeoutError:
            print("given up", flush=True)
        runner.close()

if __name__ == "__main__":
    asyncio.run(main())
"""


KILLED = """
import asyncio, time
from flowstore.processes import InProcesses

def hang():
    print("at work", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    asyncio.run(InProcesses(1).run(hang, (), {}))
"""


class OddError(Exception):
    """It can be pickled and not unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def add(one, two=0):
    return one + two


def pid():
    return os.getpid()


def fail(kind):
    if kind == "odd":
        raise OddError("not", "again")
    if kind == "exit":
        sys.exit(3)
    if kind == "stop":
        raise StopIteration
    raise ValueError(kind)


def die():
    os._exit(7)


def unpicklable():
    return threading.Lock()


@pytest.fixture
def processes():
    runner = InProcesses(1)
    yield runner
    runner.close()
    deadline = time.monotonic() + 20
    while multiprocessing.active_children():
        assert time.monotonic() < deadline, "children outlive their pool"


@pytest.fixture
def threads():
    runner = InThreads(2)
    yield runner
    runner.close()


# --- the loop and threads -------------------------------------------------------------------------


async def test_on_the_loop_no_thread_is_used():
    async def where(x):
        return x, threading.get_ident()

    assert await OnLoop().run(where, (1,), {}) == (1, threading.get_ident())
    assert await OnLoop().run(add, (1,), {"two": 2}) == 3


async def test_threads_are_not_more_than_there_are_places(threads):
    seen, most = [], []
    lock = threading.Lock()

    def work():
        with lock:
            seen.append(1)
            most.append(len(seen))
        time.sleep(0.005)
        with lock:
            seen.pop()

    await asyncio.gather(*(threads.run(work, (), {}) for _ in range(20)))
    assert max(most) == 2


@pytest.mark.parametrize("kind", ["exit", "stop"])
async def test_what_would_end_the_loop_is_a_failure(threads, kind):
    with pytest.raises(RemoteTaskError, match=r"SystemExit|StopIteration"):
        await threads.run(fail, (kind,), {})
    with pytest.raises(ValueError, match="plain"):
        await threads.run(fail, ("plain",), {})


async def test_threads_that_are_given_up_are_replaced(threads):
    release = threading.Event()
    try:
        for _ in range(4):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(threads.run(release.wait, (), {}), 0.05)
        assert await asyncio.wait_for(threads.run(add, (1,), {}), 5) == 1
    finally:
        release.set()


async def test_closed_threads_take_nothing_more(threads):
    await threads.run(add, (1,), {})
    threads.close()
    with pytest.raises(BrokenExecutor):
        await threads.run(add, (1,), {})


# --- processes ------------------------------------------------------------------------------------


async def test_processes_return_and_raise_what_the_function_does(processes):
    assert await processes.run(pid, (), {}) != os.getpid()
    assert await processes.run(add, (1,), {"two": 2}) == 3
    with pytest.raises(ValueError, match="plain"):
        await processes.run(fail, ("plain",), {})
    first = await processes.run(pid, (), {})
    for kind in ("odd", "exit", "stop"):
        with pytest.raises(RemoteTaskError):
            await processes.run(fail, (kind,), {})
    with pytest.raises(RemoteTaskError, match="pickle"):
        await processes.run(unpicklable, (), {})
    assert await processes.run(pid, (), {}) == first, "none of that broke the pool"


async def test_a_broken_pool_fails_the_attempt_and_is_made_anew(processes):
    with pytest.raises(BrokenExecutor):
        await processes.run(die, (), {})
    assert await processes.run(add, (1,), {}) == 1


async def test_a_process_that_is_given_up_is_not_waited_for(processes):
    first = await processes.run(pid, (), {})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(processes.run(time.sleep, (600,), {}), 0.2)
    assert await processes.run(pid, (), {}) != first


def test_the_interpreter_ends_whatever_hangs(tmp_path):
    program = tmp_path / "hangs.py"
    program.write_text(HANGS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program], env=environment(), capture_output=True, timeout=60, check=False
    )
    assert done.stdout.split() == [b"given", b"up"] * 2, done.stderr
    assert done.returncode == 0, done.stderr


def test_no_process_outlives_a_killed_parent(tmp_path):
    """Whoever holds the other end of its output can tell: it ends when the last holder has."""
    program = tmp_path / "killed.py"
    program.write_text(KILLED, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, program], env=environment(), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"at work\n"
        parent.kill()
        assert parent.stdout.read() == b""


# --- other executors ----------------------------------------------------------------------


async def test_any_executor_will_do():
    with ThreadPoolExecutor(1) as pool:
        runner = runner_for(pool)
        assert isinstance(runner, Elsewhere)
        assert await runner.run(add, (1,), {"two": 2}) == 3
        with pytest.raises(RemoteTaskError, match="SystemExit"):
            await runner.run(fail, ("exit",), {})
        runner.close()
        assert pool.submit(add, 1).result() == 1, "it is its owner's to close"


async def test_dask_runs_tasks_on_a_cluster():
    from distributed import Client, LocalCluster

    options = {"processes": False, "n_workers": 1, "threads_per_worker": 2}
    async with (
        LocalCluster(**options, dashboard_address=None, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        runner = runner_for(client.get_executor())
        assert await runner.run(add, (1,), {"two": 2}) == 3
        with pytest.raises(ValueError, match="plain"):
            await runner.run(fail, ("plain",), {})
        calls = [runner.run(time.monotonic_ns, (), {}) for _ in range(3)]
        assert len(set(await asyncio.gather(*calls))) == 3, "equal calls are calls of their own"
