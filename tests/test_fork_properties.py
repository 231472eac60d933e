"""Random runs, forked at every position: each fork goes on to the same end.

Nothing comes from outside but the first event. Whatever else comes from timers and tasks comes
when the run rests, one at a time, so that a run and its fork can be compared event by event.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.clock import to_datetime
from flowstore.codec import Codec
from flowstore.errors import WaitExpiredError
from flowstore.replay.difference import ABSENT, Difference
from flowstore.replay.fork import Edits, fork
from flowstore.replay.parting import part
from flowstore.store import chain
from flowstore.store.base import CLOSED, PENDING, Restore, TransitionRow
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowstore.store.archive import Archive

NAMES = "abc"
DEEPEST = 2
RUN, FORK = "r", "f"

name = st.sampled_from(NAMES)
number = st.integers(0, 1)
seconds = st.integers(1, 3)
emit = st.tuples(st.just("emit"), name, number)
wait = st.tuples(st.just("wait"), name, seconds)
work = st.one_of(
    emit,
    emit,
    st.tuples(st.just("own"), name, number),
    st.tuples(st.just("progress")),
    st.tuples(st.just("step")),
    st.tuples(st.just("broken")),
    st.tuples(st.just("timer"), name, seconds),
    st.tuples(st.just("key"), name, seconds),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("task")),
    st.tuples(st.just("external"), seconds),
    st.tuples(st.just("deadline"), seconds),
    st.tuples(st.just("stream")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("die")),
    st.tuples(st.just("drop")),
    st.tuples(st.just("postpone"), seconds),
    wait,
    wait,
    wait,
    st.tuples(st.just("end")),
).map(list)
program = st.lists(work, min_size=1, max_size=5)
programs = st.fixed_dictionaries(
    {"go": program, **{f"{one}{two}": program for one in NAMES for two in range(2)}}
)


@dataclass
class World:
    """A workflow whose handlers do what the programs say, and the hand that moves it."""

    path: Path
    programs: dict[str, list[list[Any]]]
    hears_errors: bool
    clock: VirtualClock = field(default_factory=VirtualClock)
    failed: set[tuple[int, int]] = field(default_factory=set)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def open(self) -> WorkflowManager:
        workflow = WorkflowManager(self.path, clock=self.clock)
        self.slow = workflow.task(name="slow")(self.work_slowly)
        retry = Retry(attempts=2, delay=0, jitter=0)
        for each in (*NAMES, "go"):
            workflow.register(each, self.play, name=f"play {each}", retry=retry)
        workflow.register("a", self.gather, name="gather a")
        workflow.register("b", self.gather, name="gather b")
        workflow.register(self.slow.completed, self.note, name="note task")
        if self.hears_errors:
            workflow.register("error", self.note, name="note error")
        return workflow

    async def note(self, found: WorkflowEvent, ctx: Any) -> None:
        ctx.state.setdefault("noted", []).append([found.name, found.position])

    async def gather(self, _: WorkflowEvent, ctx: Any) -> None:
        both = ctx.collect("both", ["a", "b"])
        if both is not None:
            ctx.state.setdefault("both", []).append([each.position for each in both])

    async def work_slowly(self, *, idempotency_key: str) -> int:
        await self.gate(idempotency_key).wait()
        return 1

    def gate(self, key: str) -> asyncio.Event:
        return self.gates.setdefault(key, asyncio.Event())

    async def play(self, found: WorkflowEvent, ctx: Any) -> None:
        data = found.data or {"n": "", "depth": 0}
        if data["depth"] > DEEPEST:
            return
        told: list[Any] = []
        for index, (what, *more) in enumerate(self.programs[f"{found.name}{data['n']}"]):
            key = (found.position, index)
            if what == "fail" and key not in self.failed:
                self.failed.add(key)
                raise ConnectionError("no answer")
            # By the clock, which a fork has in common with its original.
            age = (ctx.now() - found.created_at).total_seconds()
            if what == "postpone" and not told and age < more[0]:
                ctx.state["void"] = True
                ctx.emit(WorkflowEvent("void"))
                ctx.postpone(until=delay(key, more[0]))
                return
            told.append(await self.do(key, data["depth"] + 1, ctx, what, more))
            ctx.state[f"told {found.position}"] = list(told)
            if what == "end":
                return

    async def do(self, key: Any, depth: int, ctx: Any, what: str, more: list[Any]) -> Any:
        where = "-".join(map(str, key))
        if what in {"emit", "own"}:
            chosen = f"own {where}" if what == "own" else None
            ctx.emit(WorkflowEvent(more[0], {"n": more[1], "depth": depth}, id=chosen))
        elif what == "progress":
            ctx.emit(WorkflowEvent.progress("p", where))
        elif what == "step":
            return await ctx.step("step", lambda: where)
        elif what == "broken":
            try:
                await ctx.step("broken", fail)
            except ConnectionError as error:
                return str(error)
        elif what in {"timer", "key"}:
            late = WorkflowEvent(more[0], {"n": 0, "depth": depth})
            ctx.schedule(late, delay=delay(key, more[1]), key="k" if what == "key" else None)
        elif what == "wait":
            try:
                return (await ctx.wait_for(more[0], timeout=delay(key, more[1]))).position
            except WaitExpiredError:
                return "expired"
        elif what == "die":
            raise ValueError(where)
        else:
            self.arrange(key, ctx, what, more)
        return what

    def arrange(self, key: Any, ctx: Any, what: str, more: list[Any]) -> None:
        if what == "cancel":
            ctx.cancel("k")
        elif what == "task":
            ctx.submit(self.slow)
        elif what == "external":
            ctx.submit_external("outside", timeout=delay(key, more[0]))
        elif what == "deadline":
            ctx.deadline(delay=delay(key, more[0]))
        elif what == "stream":
            ctx.emit(WorkflowEvent("text", {"body": letters()}))
        elif what == "drop":
            ctx.drop("no longer wanted")
        elif what == "end":
            ctx.complete(key[0])

    # --- the hand ----------------------------------------------------------------------------

    async def move(self, workflow: WorkflowManager, run: str) -> Archive:
        """Let one task end, or else one timer fire, whenever the run rests; until it is over."""
        while True:
            archive = await self.rest(workflow, run)
            tasks = sorted(task.id for task in archive.tasks if task.status == PENDING)
            tasks = [each for each in tasks if not self.is_external(archive, each)]
            if archive.run.status in CLOSED or not (tasks or archive.timers):
                return archive
            check_whole(archive)
            if tasks:
                self.gate(f"{run}/{tasks[0]}").set()
            else:
                due = min(timer.due_at for timer in archive.timers)
                await self.clock.advance((due - self.clock.now()) / 1_000_000)
            await self.rest(workflow, run, after=archive.run.head)

    @staticmethod
    def is_external(archive: Archive, task_id: str) -> bool:
        return any(task.id == task_id and task.kind == "external" for task in archive.tasks)

    async def rest(self, workflow: WorkflowManager, run: str, after: int = -1) -> Archive:
        """Return the run when it rests, with more events than that."""
        reader = await workflow._runtime.reader()
        async with asyncio.timeout(30):
            while True:
                [archive] = await reader.read_archives([run])
                found = archive.run
                if found.cursor == found.head > after and found.owner is None:
                    return archive
                await asyncio.sleep(0)


def delay(key: tuple[int, int], least: int) -> float:
    """Return a time that no other place has, so that no two timers are due at once."""
    position, index = key
    return least + ((position * 8 + index) * 7919 % 9973) / 10_000


def fail() -> None:
    raise ConnectionError("no step")


async def letters() -> AsyncIterator[str]:
    for letter in "xyz":
        yield letter


def check_whole(archive: Archive) -> None:
    """What a resting run waits for is what its record amounts to."""
    made = forked(archive, archive.run.head)
    assert made.run.status == archive.run.status
    assert (made.run.waits, made.run.tasks) == (archive.run.waits, archive.run.tasks)
    assert made.run.state_version == archive.run.state_version
    assert made.run.reason == archive.run.reason
    assert made.timers == archive.timers
    assert [row._replace(owner=None) for row in made.tasks] == [
        row._replace(owner=None) for row in archive.tasks
    ]
    for rows in ("parked", "collected", "transitions", "snapshots", "steps", "drops"):
        assert getattr(made, rows) == getattr(archive, rows), rows
    assert (made.streams, made.chunks) == (archive.streams, archive.chunks)


def forked(archive: Archive, at: int, edits: Edits | None = None) -> Archive:
    now = archive.run.updated_at
    made = fork(archive, at=at, name=FORK, now=now, codec=Codec(), edits=edits)
    before = chain.begin(FORK)
    for stored, digest in zip(made.events, made.hashes, strict=True):
        before = chain.link(before, stored[1:])
        assert digest == before
    assert made.run.chain == before
    return made


def end(archive: Archive) -> dict[str, Any]:
    """Return what two runs are compared by: not their ids, nor times."""
    run = archive.run
    finals = [
        (row.position, row.handler, row.outcome, row.change, row.error)
        for row in archive.transitions
        if row.outcome != "retried"
    ]
    return {
        "status": (run.status, run.head, run.cursor, run.result, run.reason),
        "events": [each[1:9] for each in archive.events],
        "transitions": finals,
        "steps": [row[1:6] for row in archive.steps],
        "chunks": [row[1:] for row in archive.chunks],
        "waiting": [row[1:] for row in archive.parked],
        "kept": [row[1:] for row in archive.collected],
    }


async def run_whole(world: World) -> Archive:
    async with world.open() as workflow:
        await workflow.send(WorkflowEvent("go"), correlation_id=RUN)
        return await world.move(workflow, RUN)


async def go_on(world: World, made: Archive) -> Archive:
    workflow = world.open()
    await workflow._runtime.store().perform(Restore([made]))
    async with workflow:
        return await world.move(workflow, FORK)


def moment(archive: Archive, at: int, handled: int) -> int:
    """Return when the event had been handled: time moves only while the run rests."""
    started = [row.started_at for row in archive.transitions if row.position <= handled]
    return max([archive.events[at - 1].created_at, *started])


async def _go_on_from(
    folder: Path, world: World, archive: Archive, at: int, *, anew: bool = False
) -> Archive:
    """Return what a fork comes to in a store of its own, with time as it was then.

    Args:
        anew: the event itself is handled anew.
    """
    handled = at - anew
    clock = VirtualClock(to_datetime(moment(archive, at, handled)))
    again = World(folder / f"{at} {anew}.db", world.programs, world.hears_errors, clock)
    again.failed = {key for key in world.failed if key[0] <= handled}
    made = forked(archive, at, Edits(event={}) if anew else None)
    return await go_on(again, made)


async def _compare(folder: Path, said: dict[str, Any], *, hears_errors: bool, anew: bool) -> None:
    world = World(folder / "runs.db", said, hears_errors)
    archive = await run_whole(world)
    event(f"ends {archive.run.status}")
    for row in archive.transitions:
        event(f"has {row.outcome}")
    last = archive.run.head
    if anew and archive.run.status in CLOSED:
        last = archive.transitions[-1].position  # behind its end no event can be edited
    for at in range(1, last + 1):
        assert forked(archive, at).events[:at] == archive.events[:at]
        came = await _go_on_from(folder, world, archive, at, anew=anew)
        assert end(came) == end(archive), f"forked at {at}"
        parting = part(archive, came)
        # Whoever is tried again in the one has not failed in the other.
        assert all(_is_retry(each) for place in parting.places for each in place.differences)


def _is_retry(difference: Difference) -> bool:
    if re.fullmatch(r"attempts\[\d+\]\.error", difference.path):
        return True  # tried again in both, and there for what the other failed of later
    sides = (difference.expected, difference.actual)
    return difference.path.startswith("attempts") and any(
        each is not ABSENT and each["outcome"] == "retried" for each in sides
    )


@given(programs, st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_fork_at_every_position_goes_on_to_the_same_end(said, hears_errors, anew):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_compare(Path(folder), said, hears_errors=hears_errors, anew=anew))


def _forget_arranged(row: TransitionRow) -> TransitionRow:
    return row._replace(arranged=None)


def _forget_told(row: TransitionRow) -> TransitionRow:
    said = orjson.loads(row.arranged or "{}")
    said.pop("told", None)
    return row._replace(arranged=orjson.dumps(said).decode())


def _forget_nothing(row: TransitionRow) -> TransitionRow:
    return row


@pytest.mark.parametrize(
    ("spoil", "is_same"),
    [(_forget_nothing, True), (_forget_arranged, False), (_forget_told, False)],
)
async def test_a_fork_needs_what_is_recorded_beside_events_and_state(tmp_path, spoil, is_same):
    """The negative control: without it the property above does not hold."""
    said: dict[str, Any] = {f"{one}{two}": [] for one in NAMES for two in range(2)}
    said["go"] = [["timer", "a", 1], ["wait", "a", 3], ["step"], ["emit", "c", 0]]
    world = World(tmp_path / "runs.db", said, hears_errors=True)
    archive = await run_whole(world)
    expected = end(archive)
    assert [each.name for each in archive.events] == ["go", "a", "c"]
    archive.transitions = [spoil(row) for row in archive.transitions]
    assert (end(await _go_on_from(tmp_path, world, archive, 1)) == expected) is is_same
