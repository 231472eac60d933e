"""A program that kills itself: a driver that forks workers on one store and SIGKILLs each.

Arguments: store, folder for what is written down, seed, cycles, variant. The driver imports
flowstore once, so that a worker starts in milliseconds; it never opens the store itself.

Workers write ids to a pipe once their receipts are there, and the steps that they begin and
finish to a file. The last worker is not killed: it finishes what is pending.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from flowstore import Retry, WorkflowEvent, WorkflowManager

RUNS = 6
EVENTS = 60
SENDERS = 3
WORK_SECONDS = 0.004
DEADLINE = 60.0


class Worker:
    """One process on the store: sends, handles and writes down what it did."""

    def __init__(self, store: str, folder: Path, variant: str, cycle: int) -> None:
        self.variant = variant
        self.cycle = cycle
        self.notes = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.workflow = WorkflowManager(store, name="crash")
        retry = Retry(attempts=5, delay=0.005, jitter=0)
        self.workflow.register("work", self.work, name="work")
        self.workflow.register("work", self.audit, name="audit", retry=retry)
        self.workflow.register("echo", self.echo, name="echo")

    # --- handlers ----------------------------------------------------------------------

    async def work(self, event, ctx):
        yield WorkflowEvent.progress("work", "begun")
        await self.pay(event, ctx)
        await asyncio.sleep(WORK_SECONDS)
        fold(ctx.state, "work", event)
        yield WorkflowEvent("echo", {"of": event.id})

    async def pay(self, event, ctx):
        if self.variant == "no-step":
            key = f"{ctx.correlation_id}/{event.position}"
            self.buy(key)
        else:
            key = await ctx.step("pay", self.charge)
        self.note("recorded", key)

    async def charge(self, idempotency_key):
        self.buy(idempotency_key)
        return idempotency_key

    def buy(self, key):
        self.note("start", key)

    def note(self, what, key):
        # SIGKILL can cut a write short where a page of the file ends: see Wrecked.
        os.write(self.notes, f"\n{what} {key} .\n".encode())
        os.fsync(self.notes)

    def audit(self, event, ctx):
        fold(ctx.state, "audit", event)
        if event.data["fails"] >= ctx.attempt:
            message = "not yet"
            raise ConnectionError(message)

    async def echo(self, event, state):
        return fold(state, "echo", event)

    # --- the process ---------------------------------------------------------------------

    async def be_killed(self, pipe):
        """Send and handle until the end comes from outside."""
        async with self.workflow:
            async with asyncio.TaskGroup() as senders:
                for number in range(SENDERS):
                    senders.create_task(self.send(pipe, number))
            await asyncio.Event().wait()

    async def send(self, pipe, sender):
        chance = random.Random(f"{self.cycle}/{sender}")
        for number in range(sender, EVENTS, SENDERS):
            run = f"run-{chance.randrange(RUNS)}"
            event_id = f"{self.cycle}-{number}"
            event = WorkflowEvent("work", {"fails": chance.choice([0, 0, 0, 1, 2])})
            acknowledgement = f"{run} {event_id}\n".encode()
            if self.variant == "early":
                os.write(pipe, acknowledgement)
            for _ in range(chance.choice([1, 1, 2])):
                await self.workflow.send(event, correlation_id=run, id=event_id)
            if self.variant != "early":
                os.write(pipe, acknowledgement)

    async def finish(self):
        while await self.workflow.runs(status="running"):
            await self.workflow.resume()
        await self.workflow.close()


def fold(state, handler, event):
    """Apply an event to a state; not idempotent, so that doing it twice shows."""
    state["count"] = state.get("count", 0) + 1
    state.setdefault("seen", []).append([handler, event.id])
    return state


# --- the driver ----------------------------------------------------------------------------


def fork(task):
    """Run a task in a process of its own; return its id and the pipe that it writes to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code = 1
    try:
        os.close(reading)
        task(writing)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill_soon(child, pipe, delay):
    """Kill a worker this long after its first acknowledgement; return all that it gave."""
    if not select.select([pipe], [], [], DEADLINE)[0]:
        os.kill(child, signal.SIGABRT)
    said = []
    end = time.monotonic() + delay
    while (left := end - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        part = os.read(pipe, 65536)
        if not part:
            break
        said.append(part)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while part := os.read(pipe, 65536):
        said.append(part)
    os.close(pipe)
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        sys.exit(f"a worker ended by itself: {status}")
    return b"".join(said)


def drive(store, folder, seed, cycles, variant):
    chance = random.Random(seed)
    acknowledged = (folder / "acknowledged").open("ab")
    for cycle in range(cycles):

        def work(pipe, cycle=cycle):
            asyncio.run(Worker(store, folder, variant, cycle).be_killed(pipe))

        child, pipe = fork(work)
        acknowledged.write(kill_soon(child, pipe, chance.uniform(0, 0.3)))
    acknowledged.close()
    child, pipe = fork(lambda _: asyncio.run(Worker(store, folder, variant, cycles).finish()))
    _, status = os.waitpid(child, 0)
    os.close(pipe)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
