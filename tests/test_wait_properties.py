"""Random handlers that wait, against a model in memory, crashed at random moments (G2, G3)."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from watching import query

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.testing import crash

NAMES = "abc"
COMMON = "ab"
RUN = "r"

name = st.sampled_from(NAMES)
common = st.sampled_from(COMMON)
wait = st.one_of(
    st.tuples(st.just("wait"), common, st.none()),
    st.tuples(st.just("ask"), common, st.integers(0, 1)),
).map(list)
# No progress events: where they stand in the log depends on who is tried again beside them.
work = st.one_of(
    st.tuples(st.just("look"), st.just("always")),
    st.tuples(st.just("step"), name),
    st.tuples(st.just("emit"), name, st.integers(0, 1)),
    st.tuples(st.just("look"), st.sampled_from(["always", "odd"])),
    st.tuples(st.just("fail")),
).map(list)
program = st.lists(st.tuples(work, wait, work), min_size=1, max_size=3).map(
    lambda blocks: [each for block in blocks for each in block]
)
sent = st.one_of(
    st.tuples(st.just("late"), st.integers(1, 6)),
    st.tuples(name, st.integers(0, 1)),
    st.tuples(common, st.integers(0, 1)),
    st.tuples(common, st.integers(0, 1)),
    st.tuples(st.just("go"), program),
)
# After how many turns of the loop the process crashes; None for not at all.
moment = st.none() | st.integers(0, 60)


def looked(state: dict[str, Any], when: str) -> list[list[Any]]:
    """Return how much the state has seen, always or only if that is odd."""
    seen = len(state.get("seen", ()))
    return [["seen", seen]] if when == "always" or seen % 2 else []


class Model:
    """What a run comes to, without a store: events one after another, handlers as generators."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.position = 0
        self.emitted: list[tuple[str, Any]] = []
        self.parked: dict[int, tuple[Any, Any]] = {}
        self.kept: dict[str, list[Any]] = {"a": [], "c": []}

    def send(self, kind: str, data: Any) -> None:
        self.log.append((kind, data))
        while self.position < len(self.log):
            self.position += 1
            self.handle(*self.log[self.position - 1])
            self.log += self.emitted
            self.emitted = []

    def handle(self, kind: str, data: Any) -> None:
        woken = sorted(self.parked)
        if kind in NAMES:
            self.state.setdefault("seen", []).append([kind, data])
            self.collect(kind, data)
        elif kind == "go":
            self.go_on(self.position, self.program(self.position, data))
        elif kind == "late":
            self.late(self.position, data)
        for origin in woken:
            process, fits = self.parked[origin]
            if fits(kind, data):
                del self.parked[origin]
                if process is None:
                    self.late(origin, self.log[origin - 1][1])
                else:
                    self.go_on(origin, process)

    def collect(self, kind: str, data: Any) -> None:
        if kind in self.kept:
            self.kept[kind].append(data)
            if all(self.kept.values()):
                found = [self.kept[each].pop(0) for each in "ac"]
                self.state.setdefault("lists", []).append(found)

    def late(self, position: int, least: int) -> None:
        if len(self.state.get("seen", ())) < least:
            self.parked[position] = (None, lambda kind, _: kind == "a")
        else:
            self.state.setdefault("late", []).append(position)

    def go_on(self, origin: int, process: Any) -> None:
        fits = next(process, None)
        if fits is not None:
            self.parked[origin] = (process, fits)

    def program(self, origin: int, operations: list[Any]) -> Any:
        used: set[int] = set()
        told: list[Any] = []
        for what, *more in operations:
            if what in {"wait", "ask"}:

                def fits(kind: str, data: Any, more: list[Any] = more) -> bool:
                    return kind == more[0] and more[1] in {None, data}

                place = self.early(origin, used, fits)
                if place is None:
                    yield fits
                    place = self.position
                used.add(place)
                told.append([place, self.log[place - 1][1]])
            elif what == "step":
                told.append(f"step {more[0]}")
            elif what == "emit":
                self.emitted.append((more[0], more[1]))
            elif what == "look":
                told += looked(self.state, more[0])
            self.state[f"told {origin}"] = list(told)

    def early(self, origin: int, used: set[int], fits: Any) -> int | None:
        for place in range(origin + 1, self.position):
            if place not in used and fits(*self.log[place - 1]):
                return place
        return None


class Subject:
    """The same with flowstore."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed: set[Any] = set()
        self.settled: set[Any] = set()
        self.wrong: list[str] = []
        self.began: Counter[Any] = Counter()

    def open(self) -> WorkflowManager:
        workflow = WorkflowManager(self.path)
        retry = Retry(attempts=20, delay=0.001, jitter=0)
        for each in NAMES:
            workflow.register(each, self.see, name=f"see {each}")
        return workflow.register("go", self.go, retry=retry).register("late", self.late)

    async def see(self, found: WorkflowEvent, ctx: Any) -> None:
        ctx.state.setdefault("seen", []).append([found.name, found.data])
        if found.name != "b":
            both = ctx.collect("both", ["a", "c"])
            if both is not None:
                ctx.state.setdefault("lists", []).append([each.data for each in both])

    async def late(self, found: WorkflowEvent, ctx: Any) -> None:
        ctx.state["void"] = True
        if len(ctx.state.get("seen", ())) < found.data:
            ctx.emit(WorkflowEvent("void"))
            ctx.postpone(until="a")
            return
        del ctx.state["void"]
        ctx.state.setdefault("late", []).append(found.position)

    async def go(self, found: WorkflowEvent, ctx: Any) -> None:
        state = ctx.state
        told: list[Any] = []
        for number, (what, *more) in enumerate(found.data):
            key = (found.position, number)
            if what in {"wait", "ask"}:
                # A name alone, or with a function. The data of these events is no mapping.
                where = None if more[1] is None else partial(_has, more[1])
                answer = await ctx.wait_for(more[0], where=where)
                told.append([answer.position, answer.data])
            elif what == "step":
                told.append(await ctx.step(more[0], self.step, key, more[0]))
                self.settled.add(key)
            elif what == "emit":
                ctx.emit(WorkflowEvent(more[0], more[1]))
            elif what == "look":
                told += looked(state, more[0])
            elif key not in self.failed:
                self.failed.add(key)
                raise ConnectionError("no answer")
            state[f"told {found.position}"] = list(told)

    async def step(self, key: Any, text: str) -> str:
        self.began[key] += 1
        if key in self.settled:
            self.wrong.append(f"the finished step {key} was run again")
        await asyncio.sleep(0)
        return f"step {text}"


def _has(number: int, found: WorkflowEvent) -> bool:
    return found.data == number


@given(program, st.lists(st.tuples(sent, moment), min_size=3, max_size=7))
@settings(max_examples=30, deadline=None)
def test_handlers_that_wait_come_to_what_the_model_says(first, actions):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_compare(Path(folder) / "runs.db", [(("go", first), None), *actions]))


async def _compare(path: Path, actions: list[Any]) -> None:
    model, subject = Model(), Subject(path)
    workflow = await subject.open().__aenter__()
    for (kind, data), turns in actions:
        await workflow.send(WorkflowEvent(kind, data), correlation_id=RUN)
        if turns is not None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await crash(workflow)
            await workflow.close()
            workflow = await subject.open().__aenter__()
        status = (await workflow.run(RUN).wait(timeout=20)).status
        state = await workflow.run(RUN).state()
        log = [each async for each in workflow.run(RUN).events()]
        model.send(kind, data)
        assert [each.position for each in log] == list(range(1, len(log) + 1))
        assert [(each.name, each.data) for each in log] == model.log
        assert state == model.state
        is_waiting = bool(model.parked) or any(model.kept.values())
        assert status == ("waiting" if is_waiting else "idle")
    await workflow.close()
    assert subject.wrong == []
    assert set(query(path, 'SELECT reason FROM "drop"')) <= {("lease_lost",)}
    event(f"crashes: {sum(turns is not None for _, turns in actions) > 0}")
    left = query(path, "SELECT count(*) FROM parked")[0][0]
    event(f"parked at the end: {min(left, 2)}")
