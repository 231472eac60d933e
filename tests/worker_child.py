"""A worker for tests of several processes: it does what lines of JSON tell it, and answers so.

Arguments: store and, if wanted, seconds for the lease. Handlers say what they do as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial

import flowstore.runtime
from flowstore import WorkflowEvent, WorkflowManager
from flowstore.store.sqlite import SQLiteStore


def say(what, **fields):
    line = json.dumps({"what": what, "pid": os.getpid(), "at": time.monotonic(), **fields})
    os.write(1, f"{line}\n".encode())


def note(state, event):
    state.setdefault("seen", []).append(event.id)
    state.setdefault("by", []).append(os.getpid())


async def tick(event, ctx):
    note(ctx.state, event)
    say("handled", id=event.id, run=ctx.correlation_id)


async def slow(event, ctx):
    say("started", id=event.id, run=ctx.correlation_id)
    await asyncio.sleep(event.data["seconds"])
    note(ctx.state, event)
    say("finished", id=event.id, run=ctx.correlation_id)


async def step(event, ctx):
    async def pay(idempotency_key):
        say("paid", key=idempotency_key)
        return 7

    assert await ctx.step("pay", pay) == 7
    await slow(event, ctx)


class Worker:
    def __init__(self, store):
        self.workflow = WorkflowManager(store, name="shared", grace=0.5)
        self.workflow.register("tick", tick).register("slow", slow).register("step", step)
        self.workflow.hooks.subscribe(self.hook)

    def hook(self, what, fields):
        if what == "lease_lost":
            say("lease_lost", run=fields["correlation_id"])

    async def serve(self, _):
        await self.workflow.__aenter__()

    async def leave(self, _):
        await self.workflow.__aexit__(None, None, None)

    async def send(self, order):
        """Send events, each when the one before is on disk."""
        sent = []
        for event_id in order["ids"]:
            event = WorkflowEvent(order["name"], order.get("data"))
            receipt = await self.workflow.send(event, correlation_id=order["run"], id=event_id)
            sent.append([receipt.status, receipt.position])
        return sent

    async def stream(self, order):
        """Send for some seconds, as fast as it goes; return how many were acknowledged."""
        end = time.monotonic() + order["seconds"]
        count = 0
        while time.monotonic() < end:
            await self.workflow.send(WorkflowEvent("unheard"), correlation_id=order["run"])
            count += 1
        return count

    async def follow(self, order):
        """Say what comes in a run that someone else writes to."""
        say("following")
        async for event in self.workflow.run(order["run"]).events(follow=True):
            say("seen", id=event.id)

    async def wait(self, order):
        return (await self.workflow.run(order["run"]).wait(order["seconds"])).status

    async def resume(self, _):
        return await self.workflow.resume()


async def main():
    if len(sys.argv) > 2:
        # There is no option for it: only tests are in a hurry.
        flowstore.runtime.SQLiteStore = partial(SQLiteStore, lease_seconds=float(sys.argv[2]))
    worker = Worker(sys.argv[1])
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say("ready")
    tasks = set()

    async def obey(order):
        answer = await getattr(worker, order["do"])(order)
        say("done", do=order["do"], number=order["number"], answer=answer)

    while line := await lines.readline():
        task = loop.create_task(obey(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(finish)
    await worker.workflow.close()


def finish(task):
    if not task.cancelled() and task.exception() is not None:
        say("failed", error=repr(task.exception()))


if __name__ == "__main__":
    asyncio.run(main())
