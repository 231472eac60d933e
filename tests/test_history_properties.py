"""History of random runs: states folded from it, and each event and step told of once (G12)."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.change import apply
from flowstore.replay.difference import differences

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


from test_history import told

# --- the state, folded ------------------------------------------------------------------

keys = st.sampled_from(["a", "b", "c d"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x" * 40, 1.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Deed:
    """What a handler does to its state."""

    kind: str
    key: str
    value: Any

    def do(self, state: dict[str, Any]) -> None:
        held, value = state.get(self.key), copy.deepcopy(self.value)
        if self.kind == "set":
            state[self.key] = value
        elif self.kind == "remove":
            state.pop(self.key, None)
        elif self.kind == "queue" and isinstance(held, list):
            held[:1] = []
            held.append(value)
        elif self.kind == "insert" and isinstance(held, list):
            held.insert(len(held) // 2, value)
        elif self.kind == "extend" and isinstance(held, str):
            state[self.key] = held + "y" * 40
        elif isinstance(held, dict):
            held["c d"] = value
        else:
            state[self.key] = [value] * 30


deeds = st.builds(
    Deed, st.sampled_from(["set", "remove", "queue", "insert", "extend", "deep"]), keys, values
)
works = st.lists(st.lists(deeds, max_size=3), min_size=1, max_size=12)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(works=works, retried=st.sets(st.integers(1, 12)))
async def test_states_folded_from_history_are_those_of_time_travel(
    works: list[list[Deed]], retried: set[int]
):
    failed: set[int] = set()
    plain: list[dict[str, Any]] = [{}]

    async def work(event: WorkflowEvent, ctx: Context) -> None:
        for deed in works[event.data]:
            deed.do(ctx.state)
        if event.position in retried - failed:
            failed.add(event.position or 0)
            raise ConnectionError

    with tempfile.TemporaryDirectory() as folder:
        workflow = WorkflowManager(f"sqlite:///{folder}/runs.db?synchronous=OFF")
        workflow.register("work", work, retry=Retry(attempts=2, delay=0, jitter=0))
        events = [WorkflowEvent("work", number, correlation_id="r") for number in range(len(works))]
        run = workflow.run("r")
        async with workflow:
            await workflow.send_many(events)
            await run.wait(60)
        for index in range(len(works)):
            state = copy.deepcopy(plain[-1])
            for deed in works[index]:
                deed.do(state)
            plain.append(copy.deepcopy(state))
        folded: dict[str, Any] = {}
        history = await told(run)
        for position in range(len(works) + 1):
            for each in history:
                if each.position == position and each.change is not None:
                    before = copy.deepcopy(folded)
                    apply(folded, each.change)
                    assert bool(each.differences) == bool(list(differences(before, folded)))
            assert _exact(folded) == _exact(await run.state(at=position))
            assert _exact(folded) == _exact(plain[position])
            later = await told(run, after=position)
            assert later == [each for each in history if each.position > position]
        await workflow.close()


def _exact(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# --- everything that came of a run is told once -----------------------------------------


@dataclass(frozen=True)
class Work:
    """What a handler does at an event, in this order."""

    progress: int
    emits: int
    chosen: int
    steps: int
    fails: bool
    waits: bool
    late: int


works_of_all_kinds = st.lists(
    st.builds(
        Work,
        progress=st.integers(0, 2),
        emits=st.integers(0, 2),
        chosen=st.integers(0, 2),
        steps=st.integers(0, 2),
        fails=st.booleans(),
        waits=st.booleans(),
        late=st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


async def ask(number: int) -> int:
    if number == 1:
        raise ConnectionError("no answer")
    return number


async def note(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
    ctx.state[event.id or ""] = event.position
    yield WorkflowEvent.progress("note", "noted")


def _add_handlers(workflow: WorkflowManager, works: list[Work]) -> None:
    failed: set[int] = set()

    def fail_once(number: int) -> None:
        if works[number].fails and number not in failed:
            failed.add(number)
            raise ConnectionError

    async def work(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        todo, number = works[event.data], event.data
        for _ in range(todo.progress):
            yield WorkflowEvent.progress("work", "doing it")
        for step in range(todo.steps):
            with contextlib.suppress(ConnectionError):
                await ctx.step("ask", ask, step)
        fail_once(number)
        chosen = [f"made {number} {each}" for each in range(todo.chosen)]
        for event_id in [None] * todo.emits + chosen:
            yield WorkflowEvent("made", id=event_id)
        if todo.waits:
            await ctx.wait_for("go", where={"number": number})
            await ctx.step("late", ask, 7)
        for _ in range(todo.late):
            yield WorkflowEvent("late")

    workflow.register("work", work, retry=Retry(attempts=2, delay=0.001, jitter=0))
    workflow.register("work", note)
    workflow.register("made", note)


@settings(max_examples=20, deadline=None)
@given(works=works_of_all_kinds)
async def test_every_event_and_step_is_told_of_once_where_it_came_from(works: list[Work]):
    with tempfile.TemporaryDirectory() as folder:
        workflow = WorkflowManager(f"sqlite:///{folder}/runs.db?synchronous=OFF")
        _add_handlers(workflow, works)
        run = workflow.run("r")
        async with workflow:
            for number in range(len(works)):
                await run.send(WorkflowEvent("work", number))
            await run.wait(60)
            for number in reversed(range(len(works))):
                await run.send(WorkflowEvent("go", {"number": number}))
            await run.wait(60)
        history = await told(run)
        events = [event async for event in run.events()]
        (archive,) = await (await run._runtime.reader()).read_archives(["r"])
        told_of = [event.id for each in history for event in each.emitted]
        came_of = [event.id for event in events if event.causation_id is not None]
        assert sorted(told_of) == sorted(came_of)
        steps = [(each.origin, s.name, s.number) for each in history for s in each.steps]
        rows = [(row.position, row.name, row.number) for row in archive.steps]
        assert sorted(steps) == sorted(rows)
        ids = {event.position: event.id for event in events}
        for each in history:
            assert {event.causation_id for event in each.emitted} <= {ids[each.origin]}
            late = {event.name for event in each.emitted} & {"late"}
            if each.outcome in {"retried", "parked"}:
                assert not late
        await workflow.close()
