"""How tests make streams, and read them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from flowstore import WorkflowEvent
from flowstore.errors import StreamFailedError, StreamRestartedError

GO = WorkflowEvent("go")


class Word(BaseModel):
    text: str


@dataclass
class Pair:
    left: int
    right: int


async def each(*chunks):
    for chunk in chunks:
        yield chunk


async def read(stream):
    return [chunk async for chunk in stream]


async def show(stream, both=None):
    """Read to the end, however often it begins anew; what breaks it off for good comes last."""
    shown = []
    while True:
        try:
            async for chunk in stream:
                shown.append(chunk)
                if both is not None and len(shown) == 2:
                    await both.wait()
        except StreamRestartedError:
            shown.append("anew")
        except StreamFailedError as error:
            return [*shown, str(error)]
        else:
            return shown


async def run_all(workflow, run="r"):
    """Process an event, reading each stream as it comes; return the events and the chunks."""
    events, chunks = [], []
    async for event in workflow.process(GO, correlation_id=run):
        events.append(event)
        if event.name == "stream":
            chunks += await read(event.data["stream"])
    return events, chunks


async def stream_event(workflow, run="r"):
    [event] = [each async for each in workflow.run(run).events() if each.name == "stream"]
    return event


async def recorded(workflow, run="r", offset=0):
    event = await stream_event(workflow, run)
    return await read(event.data["stream"].read(offset=offset))


def streaming(workflow, *chunks, **options):
    """Register a handler that streams these chunks."""

    @workflow.on("go", **options)
    async def go(_event):
        yield WorkflowEvent("stream", {"stream": each(*chunks)})


async def first_of(workflow, count):
    reading = aiter((await stream_event(workflow)).data["stream"])
    return [await anext(reading) for _ in range(count)]
