"""Makes streams and says what it sees of them, reads one, or lets all runs come to an end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import StreamRestartedError

WORDS = 60


def say(what):
    os.write(1, f"{json.dumps(what)}\n".encode())


def build(path):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        pieces = []

        async def words():
            for number in range(event.data):
                await asyncio.sleep(0)
                pieces.append(number)
                yield {"number": number, "pid": os.getpid()}

        yield WorkflowEvent("stream", {"stream": words()})
        ctx.state["sum"] = sum(pieces)
        yield WorkflowEvent("done", {"chunks": len(pieces)})

    return workflow


async def produce(path):
    """Run after run until it is killed; say each chunk that is shown."""
    workflow = build(path)
    for number in itertools.count():
        name = f"{os.getpid()}-{number}"
        async for event in workflow.process(WorkflowEvent("go", WORDS), correlation_id=name):
            if event.name == "stream":
                async for chunk in event.data["stream"]:
                    say([name, chunk["number"]])


async def follow(path, name):
    """Read one run's stream live, wherever it is made, to its end."""
    workflow = build(path)
    async for event in workflow.run(name).events(follow=True):
        while event.name == "stream":
            try:
                async for chunk in event.data["stream"]:
                    say(["chunk", chunk["number"], chunk["pid"]])
            except StreamRestartedError:
                say(["anew"])
            else:
                say(["end"])
                break


async def one(path, name):
    """One run with a stream that does not end before it is told."""
    workflow, told = build(path), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, told.set)

    @workflow.on("slow")
    async def slow(_event):
        async def words():
            for number in range(3):
                yield {"number": number, "pid": os.getpid()}
            await told.wait()
            yield {"number": 3, "pid": os.getpid()}

        yield WorkflowEvent("stream", {"stream": words()})

    first = WorkflowEvent("slow", id="first")
    async for event in workflow.process(first, correlation_id=name):
        say(["event", event.name])


async def drain(path):
    await build(path).resume()


if __name__ == "__main__":
    commands = {"produce": produce, "follow": follow, "one": one, "drain": drain}
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
