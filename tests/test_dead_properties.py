"""Random runs whose handlers fail now and then: retried until all is well, each counts once."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3

import pytest
from watching import log

from flowstore import WorkflowEvent
from flowstore.store import migrate
from flowstore.store.verify import verify
from flowstore.testing import VirtualClock

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


class Chaos:
    """Handlers that wait, put off, emit and take steps, and fail as often as they are told."""

    def __init__(self, seed, *, has_repair):
        self.chance = random.Random(seed)
        self.failures = {}
        self.steps = {}
        self.has_repair = has_repair

    def register(self, workflow):
        for name in NAMES:
            for kind in self.kinds(name):
                workflow.register(name, self.handler(kind, name), name=f"{kind}-{name}")
        if self.has_repair:
            workflow.register("error", self.repair)
        return workflow

    def kinds(self, name):
        """What waits ends with a run that fails, so such runs have handlers that do not."""
        if not self.has_repair:
            return ("plain", "other")
        return {"a": ("plain", "wait"), "b": ("later", "plain"), "c": ("plain",)}[name]

    async def repair(self, event):
        """So that the run goes on."""

    def fail(self, place):
        left = self.failures.setdefault(place, self.chance.choice([0, 0, 1, 2]))
        if left:
            self.failures[place] -= 1
            raise RuntimeError(f"{place} fails {left} times more")

    def handler(self, kind, name):
        async def work(event, ctx):
            place = f"{kind}-{name}/{event.position}"

            async def step():
                self.steps[place] = self.steps.get(place, 0) + 1
                return 1

            if kind == "later" and self.failures.setdefault(f"{place}/put off", 1):
                self.failures[f"{place}/put off"] = 0
                ctx.postpone(5)
                return
            ctx.state.setdefault("counts", {})
            one = await ctx.step("one", step)
            ctx.state["counts"][place] = ctx.state["counts"].get(place, 0) + one
            if kind == "wait":
                go = await ctx.wait_for("go")
                ctx.state["counts"][f"{place}/{go.data}"] = 1
            self.fail(place)
            ctx.emit(WorkflowEvent("done", place))

        return work


async def all_is_handled(workflow, clock):
    async with workflow:
        for _ in range(3):
            await workflow.run("r").wait(30)
            await clock.advance(10)
            await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
        await workflow.run("r").wait(30)


@pytest.mark.parametrize("seed", range(24))
async def test_whatever_failed_counts_once_in_the_end(make, path, seed):
    """G3, G7: with restarts in between, whether the run fails of it or goes on."""
    chaos, chance, clock = Chaos(seed, has_repair=seed % 2), random.Random(seed), VirtualClock()
    workflow = chaos.register(make(clock=clock))
    sent = [chance.choice(NAMES) for _ in range(chance.randint(2, 7))]
    for name in sent:
        await workflow.send(WorkflowEvent(name), correlation_id="r")
    for number in range(sent.count("a")):
        await workflow.send(WorkflowEvent("go", number), correlation_id="r")
    rounds = 0
    await all_is_handled(workflow, clock)
    while letters := await (await workflow._runtime.reader()).list_dead("r"):
        rounds += 1
        assert rounds < 20
        for letter in chance.sample(letters, chance.randint(1, len(letters))):
            await workflow.run("r").retry_dead(letter.position, letter.handler)
        if chance.random() < 0.4:
            await workflow.close()
            workflow = chaos.register(make(clock=clock))
        await all_is_handled(workflow, clock)
    assert await workflow.run("r").status() == "idle"
    expected = {
        f"{kind}-{name}/{place}" for place, name in enumerate(sent, 1) for kind in chaos.kinds(name)
    }
    counts = (await workflow.run("r").state())["counts"]
    assert {place for place in counts if place.count("/") == 1} == expected
    assert set(counts.values()) == {1}
    assert chaos.steps == dict.fromkeys(expected, 1)
    told = [event.data async for event in workflow.run("r").events() if event.name == "done"]
    assert sorted(told) == sorted(expected)
    names = [name for _, name in await log(workflow, "r")]
    assert names.count("dead.retried") == names.count("error")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert migrate.check(connection) + verify(connection).flaws == []
