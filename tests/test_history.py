"""`run.history()`: what every attempt found and did, and the state folded from it (G11, G12)."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import InvalidStateError, RunNotFoundError
from flowstore.replay import ABSENT, Difference
from flowstore.replay.begun import Arranged, EventKept, WaitEnded
from flowstore.replay.folding import fold
from flowstore.replay.history import PAGE
from flowstore.store.base import DEADLINE_KEY
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowstore.replay.history import Transition
    from flowstore.run import Run


@pytest.fixture
async def workflow(tmp_path: Path) -> AsyncIterator[WorkflowManager]:
    workflow = WorkflowManager(f"sqlite:///{tmp_path}/runs.db?synchronous=OFF")
    yield workflow
    await workflow.close()


async def told(run: Run, **options: int) -> list[Transition]:
    return [transition async for transition in run.history(**options)]


async def settle(workflow: WorkflowManager, *events: WorkflowEvent) -> Run:
    run = workflow.run("r")
    async with workflow:
        for event in events:
            await run.send(event)
        await run.wait(20)
    return run


# --- what a transition says -------------------------------------------------------------


async def test_what_a_handler_did(workflow: WorkflowManager):
    async def price(item: str) -> float:
        return 12.5 if item == "tea" else 3.0

    @workflow.on("order")
    async def order(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        yield WorkflowEvent.progress("prices", "Looking them up")
        ctx.state["total"] = sum([await ctx.step("price", price, each) for each in event.data])
        ctx.schedule(WorkflowEvent("remind"), delay=3600, key="reminder")
        yield WorkflowEvent("priced", ctx.state["total"])
        yield WorkflowEvent("mailed", id="mail-1")

    @workflow.on("priced")
    async def count(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["count"] = 1
        ctx.state["total"] += event.data

    run = await settle(workflow, WorkflowEvent("order", ["tea", "milk"], id="o-1"))
    first, second = await told(run)
    assert (first.position, first.number, first.origin, first.attempt) == (1, 1, 1, 1)
    assert (first.handler, first.outcome, first.error) == ("order", "handled", None)
    assert (first.event.id, first.event.data) == ("o-1", ["tea", "milk"])
    assert first.differences == (Difference("state.total", ABSENT, 15.5),)
    assert [event.name for event in first.emitted] == ["progress", "priced", "mailed"]
    assert [event.position for event in first.emitted] == [2, 3, 4]
    assert first.emitted[2].id == "mail-1"
    assert [(step.name, step.number, step.result) for step in first.steps] == [
        ("price", 1, 12.5),
        ("price", 2, 3.0),
    ]
    assert [timer.key for timer in first.arranged.timers] == ["reminder"]
    assert first.code
    assert first.started_at <= first.steps[0].started_at
    assert first.steps[1].started_at + first.steps[1].duration <= first.started_at + first.duration
    assert (second.event.position, second.handler) == (3, "count")
    assert second.differences == (
        Difference("state.count", ABSENT, 1),
        Difference("state.total", 15.5, 31.0),
    ) or second.differences == (
        Difference("state.total", 15.5, 31.0),
        Difference("state.count", ABSENT, 1),
    )
    assert (second.emitted, second.steps, second.arranged) == ((), (), Arranged())


async def test_what_an_attempt_began_and_ended(tmp_path: Path):
    clock = VirtualClock()
    workflow = WorkflowManager(tmp_path / "runs.db", clock=clock)

    @workflow.task
    async def cut(length: int) -> int:
        return length

    @workflow.on("begin")
    async def begin(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.submit(cut, 7)
        ctx.submit_external("approval", timeout=60)
        ctx.deadline(delay=3600)
        ctx.schedule(WorkflowEvent("remind", {"to": "ann"}, {"by": "post"}), delay=5, key="note")
        ctx.schedule(WorkflowEvent("remind"), delay=9, key="other")
        ctx.collect("pair", "begin", count=2)

    @workflow.on("change")
    async def change(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.cancel("other")
        ctx.cancel("note")
        ctx.schedule(WorkflowEvent("remind"), delay=7, key="note")
        ctx.cancel_deadline()

    now = clock.moment
    run = await settle(workflow, WorkflowEvent("begin", id="one"), WorkflowEvent("change"))
    first, second = (each.arranged for each in await told(run))
    assert [(task.name, task.kind) for task in first.tasks] == [
        ("cut", "internal"),
        ("approval", "external"),
    ]
    assert first.tasks[0].arguments == {"args": [7], "kwargs": {}}
    timers = {timer.key: timer for timer in first.timers}
    assert [(timer.kind, timer.due_at - now) for timer in first.timers] == [
        ("limit", timedelta(seconds=60)),
        ("deadline", timedelta(hours=1)),
        ("timer", timedelta(seconds=5)),
        ("timer", timedelta(seconds=9)),
    ]
    assert timers["note"].data == {"to": "ann"}
    assert timers["note"].metadata == {"by": "post"}
    assert first.timers[0].task_id == first.tasks[1].id
    assert first.kept == (EventKept(key="pair", event_id="one"),)
    assert (first.removed, first.waits, first.ended, first.used) == ((), (), (), ())
    assert [timer.key for timer in second.timers] == ["note"]
    assert second.removed == ("other", DEADLINE_KEY)
    await workflow.close()


async def test_attempts_that_failed(workflow: WorkflowManager):
    tries: list[int] = []

    async def call(number: int) -> str:
        if number < 3:
            raise ConnectionError(f"no answer to {number}")
        return "fine"

    async def pay(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        tries.append(1)
        yield WorkflowEvent.progress("pay", "Trying")
        ctx.state["half"] = True
        ctx.state["said"] = await ctx.step("call", call, len(tries))
        if event.data == "never":
            raise ValueError("no money")
        yield WorkflowEvent("paid")

    workflow.register("pay", pay, retry=Retry(attempts=3, delay=0.001, jitter=0))
    run = await settle(workflow, WorkflowEvent("pay"))
    one, two, three = await told(run)
    assert [each.outcome for each in (one, two, three)] == ["retried", "retried", "handled"]
    assert [each.attempt for each in (one, two, three)] == [1, 2, 3]
    assert one.error == "no answer to 1"
    assert "ConnectionError" in (one.traceback or "")
    assert [len(each.differences) for each in (one, two, three)] == [0, 0, 2]
    assert [event.name for event in one.emitted] == ["progress"]
    assert [event.name for event in three.emitted] == ["paid"]
    assert [step.result for step in three.steps] == ["fine"]

    run = workflow.run("lost")
    async with workflow:
        await run.send(WorkflowEvent("pay", "never"))
        await run.wait(20)
    *_, dead = await told(run)
    assert (dead.outcome, dead.error) == ("dead", "no money")
    assert [event.name for event in dead.emitted] == ["error"]


async def test_a_failed_step_is_one_of_its_attempt(workflow: WorkflowManager):
    async def call() -> None:
        raise ConnectionError("no answer")

    @workflow.on("ask")
    async def ask(_event: WorkflowEvent, ctx: Context) -> None:
        try:
            await ctx.step("call", call)
        except ConnectionError:
            ctx.state["answer"] = None

    (only,) = await told(await settle(workflow, WorkflowEvent("ask")))
    assert only.outcome == "handled"
    assert [(step.name, step.error) for step in only.steps] == [
        ("call", "ConnectionError: no answer")
    ]


async def test_a_handler_that_waits_is_told_of_in_parts(workflow: WorkflowManager):
    async def note(text: str) -> str:
        return text

    @workflow.on("draft")
    async def publish(_event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        ctx.state["stage"] = await ctx.step("first", note, "waiting")
        yield WorkflowEvent("asked")
        approved = await ctx.wait_for("approved")
        ctx.state["stage"] = await ctx.step("second", note, f"by {approved.data}")
        yield WorkflowEvent("published")

    run = await settle(workflow, WorkflowEvent("draft"))
    async with workflow:
        await run.send(WorkflowEvent("noise"))
        await run.send(WorkflowEvent("approved", "alex"))
        await run.wait(20)
    parked, went_on = await told(run)
    assert (parked.position, parked.origin, parked.outcome) == (1, 1, "parked")
    assert parked.differences == (Difference("state.stage", ABSENT, "waiting"),)
    assert [event.name for event in parked.emitted] == ["asked"]
    assert [step.name for step in parked.steps] == ["first"]
    assert [wait.name for wait in parked.arranged.waits] == ["approved"]
    assert (went_on.origin, went_on.handler, went_on.outcome) == (1, "publish", "handled")
    assert (went_on.event.name, went_on.position) == ("approved", went_on.event.position)
    assert went_on.differences == (Difference("state.stage", "waiting", "by alex"),)
    assert [event.name for event in went_on.emitted] == ["published"]
    assert [step.name for step in went_on.steps] == ["second"]
    assert went_on.arranged == Arranged(ended=(WaitEnded(position=1, handler="publish"),))

    (alone,) = await told(run, after=1)
    assert alone == went_on


@pytest.mark.parametrize("events_between", [0, PAGE])
async def test_a_dead_letter_that_is_retried(workflow: WorkflowManager, events_between: int):
    broken = True

    async def call(number: int) -> int:
        return number

    @workflow.on("pay")
    async def pay(_event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        await ctx.step("before" if broken else "after", call, 1)
        ctx.state["paid"] = not broken
        if broken:
            raise ValueError("no money")
        yield WorkflowEvent("paid")

    @workflow.on("error")
    async def fail(_event: WorkflowEvent, _ctx: Context) -> None:
        """The run goes on."""

    run = await settle(workflow, WorkflowEvent("pay"))
    async with workflow:
        noise = [WorkflowEvent("noise", correlation_id="r") for _ in range(events_between)]
        await workflow.send_many(noise)
        broken = False
        await run.retry_dead(1, "pay")
        await run.wait(20)
    dead, _, retried = await told(run)
    assert (dead.outcome, [step.name for step in dead.steps]) == ("dead", ["before"])
    assert [event.name for event in dead.emitted] == ["error"]
    assert (retried.origin, retried.handler, retried.outcome) == (1, "pay", "handled")
    assert retried.position == events_between + 3
    assert [step.name for step in retried.steps] == ["after"]
    assert [event.name for event in retried.emitted] == ["paid"]
    assert retried.differences == (Difference("state.paid", ABSENT, actual=True),)
    assert await told(run, after=2) == [retried]


async def test_a_retry_that_fails_first_is_told_of_once_from_wherever_one_looks(
    workflow: WorkflowManager,
):
    async def call() -> None:
        pass

    async def pay(_event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        if not ctx.state.get("open") or ctx.attempt == 1:
            raise ValueError("no money")
        await ctx.step("pay", call)
        yield WorkflowEvent("paid")

    @workflow.on("error")
    async def open_again(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["open"] = True

    workflow.register("pay", pay, retry=Retry(attempts=2, delay=0))
    run = await settle(workflow, WorkflowEvent("pay"))
    async with workflow:
        await run.retry_dead(1, "pay")
        await run.wait(20)
    whole = await told(run)
    retries = [each for each in whole if each.position == 3]
    assert [each.outcome for each in retries] == ["retried", "handled"]
    assert [[step.name for step in each.steps] for each in retries] == [[], ["pay"]]
    assert [[event.name for event in each.emitted] for each in retries] == [[], ["paid"]]
    for position in range(3):
        assert await told(run, after=position) == [
            each for each in whole if each.position > position
        ]


async def test_there_is_no_such_run(workflow: WorkflowManager):
    with pytest.raises(RunNotFoundError, match="nobody"):
        await told(workflow.run("nobody"))


async def test_a_long_run_is_read_page_by_page(workflow: WorkflowManager):
    """G11: as many reads as there are pages, and parts are as the whole has them."""

    @workflow.on("e")
    async def handle(event: WorkflowEvent, ctx: Context) -> AsyncIterator[WorkflowEvent]:
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
        yield WorkflowEvent("seen", id=f"seen-{event.data}")

    count = PAGE + 20
    events = [WorkflowEvent("e", number, correlation_id="r") for number in range(count)]
    run = workflow.run("r")
    async with workflow:
        await workflow.send_many(events)
        await run.wait(60)
    whole = await told(run)
    assert [each.event.data for each in whole] == list(range(count))
    assert [each.emitted[0].id for each in whole] == [f"seen-{each}" for each in range(count)]
    assert await told(run, after=PAGE - 3, until=PAGE + 3) == whole[PAGE - 3 : PAGE + 3]
    assert await told(run, after=count + 5) == []
    reader = await run._runtime.reader()
    reads: list[object] = []
    original = reader._read
    reader._read = lambda work: (reads.append(work), original(work))[1]
    await told(run)
    pages = -(-2 * count // PAGE)
    assert len(reads) <= pages + 4


async def test_a_state_that_does_not_change_is_read_in_the_same_time(workflow: WorkflowManager):
    """G11: what reading it passes over does not grow with the run."""

    @workflow.on("e")
    async def handle(event: WorkflowEvent, ctx: Context) -> None:
        if event.position == 1:
            ctx.state["text"] = "x" * 100

    run = workflow.run("r")
    async with workflow:
        for _ in range(3):
            await workflow.send_many([WorkflowEvent("e", correlation_id="r")] * 1100)
            await run.wait(60)
    (archive,) = await (await run._runtime.reader()).read_archives(["r"])
    starts = [0, *(snapshot.position for snapshot in archive.snapshots), len(archive.events)]
    assert max(later - earlier for earlier, later in itertools.pairwise(starts)) <= 1100
    for position in (0, 1, 1024, 1025, 3300):
        assert await run.state(at=position) == ({"text": "x" * 100} if position else {})


# --- changes as differences ------------------------------------------------------------


def test_each_operation_as_differences():
    state: dict[str, Any] = {"n": 1, "list": [1, 2, 3], "text": "ab", "deep": {"a b": [0]}, "x": 0}
    cases: list[tuple[str, list[Difference]]] = [
        ('[["=",["n"],1.0]]', [Difference("state.n", 1, 1.0)]),
        ('[["=",["new"],null]]', [Difference("state.new", ABSENT, None)]),
        ('[["+",["list"],[4]]]', [Difference("state.list[3]", ABSENT, 4)]),
        ('[["+",["text"],"cd"]]', [Difference("state.text", "ab", "abcd")]),
        ('[["+",["deep"],{"k":1}]]', [Difference("state.deep.k", ABSENT, 1)]),
        ('[["=",["deep","a b",0],5]]', [Difference("state.deep['a b'][0]", 0, 5)]),
        ('[["-",["x"]]]', [Difference("state.x", 0, ABSENT)]),
        ('[[">",["n"]]]', []),
        (
            '[["~",["list"],1,2,[9]]]',
            [Difference("state.list[1]", 2, 9), Difference("state.list[2]", 3, ABSENT)],
        ),
        ('[["=",["n"],2],["=",["n"],1.0]]', []),
    ]
    for change, expected in cases:
        assert list(fold(state, change)) == expected, change
    assert state == {"n": 1.0, "list": [1, 9, 4], "text": "abcd", "new": None,
                     "deep": {"a b": [5], "k": 1}}  # fmt: skip


def test_what_was_told_does_not_change_later():
    state: dict[str, Any] = {}
    (made,) = fold(state, '[["=",["a"],{"b":[1]}]]')
    fold(state, '[["+",["a","b"],[2]]]')
    (gone,) = fold(state, '[["-",["a"]]]')
    fold(state, '[["=",["a"],1]]')
    assert made.actual == {"b": [1]}
    assert gone.expected == {"b": [1, 2]}


@pytest.mark.parametrize("change", ['[["-",["no"]]]', '[["+",["n"],[1]]]', '[["?",["n"]]]', "[["])
def test_a_change_that_does_not_fit_is_refused(change: str):
    with pytest.raises(InvalidStateError, match=r"something else|does not fit"):
        fold({"n": 1}, change)
