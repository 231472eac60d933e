"""History of runs whose clock is set back now and then: what the record tells, no time contradicts.

Each event and step says itself in which part of its handler's work it came.
"""

# ruff: noqa: ARG002, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_history import told

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.replay.authors import Authors
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOUR = 3_600_000_000


class Wandering(VirtualClock):
    """Time that goes on or stands still whenever someone looks, and is set back now and then."""

    def __init__(self, seed: int) -> None:
        super().__init__(is_automatic=True)
        self._moves = random.Random(seed)

    def now(self) -> int:
        self._now += self._moves.choice([0, 1, 1000])
        return self._now

    def go_back(self) -> None:
        self._now -= self._moves.choice([0, 50, 5000, HOUR])


@dataclass(frozen=True)
class Part:
    """What a handler does up to its next wait, or its end, each so many times."""

    progress: int
    emits: int
    chosen: int
    steps: int
    breaks: bool


counts = st.integers(0, 2)
parts = st.builds(Part, counts, counts, counts, counts, st.booleans())


async def say(text: str) -> str:
    return text


class Work:
    """A handler that works in parts, each of which fails for good first if it is to."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.mended = 0

    async def __call__(self, event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        for number, part in enumerate(self.parts):
            if number:
                await ctx.wait_for("go", where={"part": number})
            is_broken = part.breaks and number >= self.mended
            here = f"part {number}" + (" broken" if is_broken else "")
            for _ in range(part.progress + 2 * (not is_broken)):
                yield WorkflowEvent.progress("work", here)
            # A retry does again what the dead letter did, and more.
            steps = part.steps + (not is_broken)
            for _ in range(steps):
                await ctx.step("say", say, here)
            for each in range(part.chosen):
                yield WorkflowEvent("made", here, id=f"{here} {each}")
            for _ in range(part.emits):
                yield WorkflowEvent("made", here)
            if is_broken:
                raise ValueError(here)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), found=st.lists(parts, min_size=1, max_size=3))
async def test_what_came_when_is_told_by_the_record(seed: int, found: list[Part]):
    work = Work(found)
    clock = Wandering(seed)
    workflow = WorkflowManager(":memory:", clock=clock)
    workflow.register("work", work, name="work")
    workflow.register("error", lambda event: None, name="see")

    run = workflow.run("r")
    async with workflow:
        await run.send(WorkflowEvent("work"))
        for number in range(len(found)):
            if number:
                clock.go_back()
                await run.send(WorkflowEvent("go", {"part": number}))
            await run.wait(20)
            if found[number].breaks:
                work.mended = number + 1
                *_, dead = [each for each in await told(run) if each.outcome == "dead"]
                name = "work" if dead.position == dead.origin else f"work@{dead.origin}"
                clock.go_back()
                await run.retry_dead(dead.position, name)
                await run.wait(20)
        history = await told(run)
        [archive] = await (await workflow.program.reader()).read_archives(["r"])
    expected = [
        f"part {number}{how}"
        for number, part in enumerate(found)
        for how in ([" broken", ""] if part.breaks else [""])
    ]
    mine = [each for each in history if each.handler == "work"]
    for each, here in zip(mine, expected, strict=True):
        came = [event for event in each.emitted if event.name != "error"]
        assert {_said(event) for event in came} <= {here}, each
        assert {step.result for step in each.steps} <= {here}, each
    said = {event.id: each.position for each in history for event in each.emitted}
    assert len(said) == sum(len(each.emitted) for each in history)
    sent = [event for event in archive.events if event.causation_id]
    assert said.keys() == {event.id for event in sent if event.name != "dead.retried"}
    # A fork cuts where history tells it.
    authors = Authors(archive)
    assert {event.id: authors.of_event(event) for event in sent if event.id in said} == said
    made = {step.number: each.position for each in mine for step in each.steps}
    assert {step.number: authors.of_step(step) for step in archive.steps} == made
    steps = [step for each in mine for step in each.steps]
    assert len(steps) == len({step.number for step in steps})
    await workflow.close()


def _said(event: WorkflowEvent) -> Any:
    return event.data if event.name == "made" else event.data["description"]
