"""Executing runs again: what is served from the record, and how divergences are told."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from watching import query

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.clock import to_datetime
from flowstore.errors import (
    ConfigurationError,
    EventConflictError,
    InvalidValueError,
    RunNotFoundError,
)
from flowstore.replay import rerun
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.replay import Moment

RUN = "r"
Setup = "Callable[[WorkflowManager], object]"


async def record(path: Any, setup: Setup, *events: WorkflowEvent, **options: Any) -> Any:
    """Handle events, and return all that the store has of their run."""
    workflow = WorkflowManager(path, **options)
    setup(workflow)
    for each in events:
        async for _ in workflow.process(each, correlation_id=RUN):
            pass
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    return archive


async def again(archive: Any, setup: Setup, state: type = dict, **options: Any) -> Any:
    """Execute a run again with other handlers; return the first divergence."""
    workflow = WorkflowManager(":memory:", state=state)
    setup(workflow)
    return (await rerun(workflow, archive, **options)).divergence


def handling(function: Callable[..., Any], **options: Any) -> Setup:
    return lambda workflow: workflow.register("a", function, **{"name": "handle", **options})


async def add(event, ctx):
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
    yield WorkflowEvent("added", {"sum": ctx.state["sum"], "by": ["handle"]})


async def double(event, ctx):
    ctx.state["sum"] = ctx.state.get("sum", 0) + 2 * event.data
    yield WorkflowEvent("added", {"sum": ctx.state["sum"] // 2, "by": ["handle"]})


ONE, TWO = WorkflowEvent("a", 1), WorkflowEvent("a", 2)


# --- what is executed --------------------------------------------------------------------


async def test_a_run_is_named_in_three_ways_and_its_store_stays_as_it_was(path):
    workflow = WorkflowManager(path).register("a", add, name="handle")
    async for _ in workflow.process(ONE, correlation_id=RUN):
        pass
    before = query(path, "SELECT * FROM run"), query(path, "SELECT * FROM event")
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    for run in (RUN, workflow.run(RUN), archive):
        report = await rerun(workflow, run)
        assert report.is_identical
        assert (report.correlation_id, report.workflow, report.status) == (RUN, "workflow", "idle")
        assert (report.events, report.until) == (1, 2)
        assert report.to_json()["identical"] is True
    assert (query(path, "SELECT * FROM run"), query(path, "SELECT * FROM event")) == before
    with pytest.raises(RunNotFoundError, match="no run 'x'"):
        await rerun(workflow, "x")
    with pytest.raises(InvalidValueError, match="to: is -1"):
        await rerun(workflow, RUN, to=-1)
    await workflow.close()


async def test_a_run_of_another_workflow_is_refused(path):
    archive = await record(path, handling(add), ONE)
    with pytest.raises(ConfigurationError, match="belongs to workflow 'workflow'"):
        await rerun(WorkflowManager(":memory:", name="other"), archive)


async def test_only_what_has_been_handled_and_is_asked_for(path):
    archive = await record(path, handling(add), ONE, TWO, ONE)
    workflow = WorkflowManager(":memory:").register("a", add, name="handle")
    report = await rerun(workflow, archive, to=3)
    assert (report.events, report.until) == (2, 3)
    found = await again(archive, handling(double), to=0)
    assert found is None
    report = await rerun(workflow, archive, to=99)
    assert report.until == archive.run.cursor == 6


async def test_an_attempt_that_is_to_be_made_again_is_left_alone(path):
    called: list[str] = []

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def first(event, ctx):
            ctx.state["first"] = event.data

        @workflow.on("a", retry=Retry(attempts=2, delay=3600))
        async def second(event, ctx):
            called.append("second")
            raise ConnectionError

    clock = VirtualClock()
    workflow = WorkflowManager(path, clock=clock)
    setup(workflow)
    async with workflow:
        await workflow.send(ONE, correlation_id=RUN)
        await clock.until_asleep(10)
        await workflow.run(RUN).cancel("enough")
        [archive] = await (await workflow.program.reader()).read_archives([RUN])
    called.clear()
    assert await again(archive, setup) is None
    assert called == []

    def other(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def first(event, ctx):
            ctx.state["first"] = 0

        workflow.register("a", lambda event: None, name="second")

    found = await again(archive, other)
    assert (found.kind, found.handler) == ("state", "first")  # what was done counts


async def test_who_debugs_can_look_at_the_attempt_that_is_to_be_made_again(path):
    def setup(*, is_mended: bool) -> Any:
        async def handle(event, ctx):
            ctx.state["sum"] = event.data
            if event.data == 2 and not is_mended:
                raise ConnectionError("no answer")

        retry = Retry(attempts=5, delay=3600)
        return lambda workflow: workflow.register("a", handle, name="handle", retry=retry)

    clock = VirtualClock()
    workflow = WorkflowManager(path, clock=clock)
    setup(is_mended=False)(workflow)
    async with workflow:
        await workflow.send(ONE, correlation_id=RUN)
        await workflow.send(TWO, correlation_id=RUN)
        await clock.until_asleep(10)
        [archive] = await (await workflow.program.reader()).read_archives([RUN])
    assert [row.outcome for row in archive.transitions] == ["handled", "retried"]
    seen: list[Any] = []
    broken, mended = setup(is_mended=False), setup(is_mended=True)
    assert await again(archive, broken, to=2, before=seen.append) is None
    assert [(each.position, each.attempt, each.outcome) for each in seen] == [
        (1, 1, "handled"),
        (2, 1, "retried"),
    ]
    assert (await again(archive, mended, to=2, before=seen.append)).position == 2
    assert await again(archive, mended) is None  # it is not over yet


async def test_addresses_of_objects_in_errors_do_not_count(path):
    async def handle(event):
        raise ValueError(f"cannot use {object()!r}")

    archive = await record(path, handling(handle), ONE)
    assert archive.transitions[0].outcome == "dead"
    assert await again(archive, handling(handle)) is None


async def test_the_attempt_and_its_time_are_those_of_the_record(path):
    clock = VirtualClock(is_automatic=True)
    seen: list[Any] = []

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a", retry=Retry(attempts=3, delay=60, jitter=0))
        async def handle(event, ctx):
            seen.append((ctx.attempt, ctx.now(), ctx.random.random()))
            yield WorkflowEvent.progress("try", f"attempt {ctx.attempt}")
            if ctx.attempt < 3:
                raise ConnectionError

    archive = await record(path, setup, ONE, clock=clock)
    last = seen[-1]
    seen.clear()
    assert await again(archive, setup) is None
    assert seen == [last]
    assert last[0] == 3


async def test_what_took_too_long_then_is_not_called_again(path):
    clock = VirtualClock(is_automatic=True)

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a", timeout=5)
        async def handle(event):
            await asyncio.Event().wait()

    archive = await record(path, setup, ONE, clock=clock)
    assert [row.outcome for row in archive.transitions] == ["dead"]
    assert await again(archive, setup) is None


async def test_a_commit_that_was_refused_then_is_not_made_again(path):
    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def first(event, ctx):
            ctx.state["first"] = True

        @workflow.on("a")
        async def second(event):
            yield WorkflowEvent("b", 1, id="chosen")
            yield WorkflowEvent("b", 2, id="chosen")

    archive = await record(path, setup, ONE)
    assert {row.outcome for row in archive.transitions} == {"dead", "handled"}
    assert EventConflictError.__name__ in str([row.traceback for row in archive.transitions])
    assert await again(archive, setup) is None


async def test_events_that_were_never_handled_are_not_handled_now(path):
    clock = VirtualClock()

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def handle(event, ctx):
            ctx.state["seen"] = event.data
            if event.data == 2:
                yield WorkflowEvent("a", 3)
                ctx.complete({"sum": 3})

    workflow = WorkflowManager(path, clock=clock)
    setup(workflow)
    soon = to_datetime(clock.now() + 1_000_000)
    await workflow.send(ONE, correlation_id=RUN)
    await workflow.send(WorkflowEvent("a", 9), correlation_id=RUN, expires_at=soon)
    await clock.advance(5)
    await workflow.send(TWO, correlation_id=RUN)
    await workflow.resume(RUN)
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    assert archive.run.status == "completed"
    assert len(archive.events) == 4
    assert await again(archive, setup) is None


# --- how it diverges -----------------------------------------------------------------------


async def test_an_event_that_is_not_the_same(path):
    archive = await record(path, handling(add), ONE, TWO)

    async def other(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
        yield WorkflowEvent("added", {"sum": ctx.state["sum"], "by": ["other"]})

    found = await again(archive, handling(other))
    assert (found.position, found.event, found.handler) == (1, "a", "handle")
    assert found.kind == "emitted"
    assert [(each.path, each.expected, each.actual) for each in found.differences] == [
        ("emitted.added.data.by[0]", "handle", "other")
    ]
    assert "position 1, 'a': handler 'handle' emits something else" in found.message
    assert found.to_json()["expected"]["data"] == {"sum": 1, "by": ["handle"]}


async def test_an_event_more_or_less(path):
    async def more(event, ctx):
        async for each in add(event, ctx):
            yield each
        yield WorkflowEvent("added", "twice")

    async def less(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data

    archive = await record(path, handling(add), ONE)
    found = await again(archive, handling(more))
    assert (found.kind, found.expected) == ("emitted", None)
    assert found.actual["data"] == "twice"
    found = await again(archive, handling(less))
    assert (found.kind, found.actual) == ("emitted", None)
    assert found.expected["data"] == {"sum": 1, "by": ["handle"]}
    assert await again(archive, handling(less), ignore=["emitted.added"]) is None


async def test_progress_counts_too(path):
    def telling(text: str, more: int) -> Any:
        async def handle(event):
            for _ in range(more):
                yield WorkflowEvent.progress("x", text)

        return handling(handle)

    archive = await record(path, telling("one", 2), ONE)
    assert await again(archive, telling("one", 2)) is None
    found = await again(archive, telling("other", 2))
    assert found.differences[0].path == "emitted.progress.data.description"
    assert (await again(archive, telling("one", 1))).actual is None
    assert (await again(archive, telling("one", 3))).expected is None


async def test_a_state_that_is_not_the_same(path):
    archive = await record(path, handling(add), ONE, TWO)
    found = await again(archive, handling(double))
    assert (found.position, found.kind) == (1, "state")
    assert (found.expected, found.actual) == ({"sum": 1}, {"sum": 2})
    assert "state.sum was 1 and is 2" in found.message


async def test_another_way_to_the_same_state_is_identical(path):
    async def one_way(event, ctx):
        ctx.state["text"] = "x" * 40
        ctx.state["text"] += "y"
        ctx.state["n"] = event.data

    async def other_way(event, ctx):
        ctx.state["n"] = event.data
        ctx.state["text"] = "x" * 40 + "y"

    archive = await record(path, handling(one_way), ONE, TWO)
    assert await again(archive, handling(other_way)) is None


async def test_an_outcome_that_is_not_the_same_names_the_place(path):
    archive = await record(path, handling(add), ONE)

    async def failing(event, ctx):
        raise ValueError("what a pity")

    found = await again(archive, handling(failing))
    assert (found.kind, found.handler) == ("outcome", "handle")
    assert "handler 'handle' was handled then, and now is dead: ValueError: what a pity" in (
        found.message
    )
    assert "test_rerun.py:" in found.message
    assert found.message.endswith("in failing)")


async def test_another_failure_is_another_outcome(path):
    def raising(error: Exception) -> Any:
        async def handle(event):
            raise error

        return handling(handle)

    archive = await record(path, raising(ValueError("one")), ONE)
    assert await again(archive, raising(ValueError("one"))) is None
    found = await again(archive, raising(KeyError("other")))
    assert found.kind == "outcome"
    assert found.differences[0].path == "error"


async def test_the_result_and_the_end_of_a_run(path):
    def ending(result: Any) -> Any:
        async def handle(event, ctx):
            if result is not None:
                ctx.complete(result)

        return handling(handle)

    archive = await record(path, ending({"sum": 1}), ONE)
    assert await again(archive, ending({"sum": 1})) is None
    found = await again(archive, ending({"sum": 2}))
    assert found.differences[0].path == "result.sum"
    assert await again(archive, ending({"sum": 2}), ignore=["result"]) is None
    assert "was completed here, and now it is not" in (await again(archive, ending(None))).message


async def test_what_is_arranged_counts_but_not_when_it_is_due(path):
    def arranging(key: str, data: Any, delay: float) -> Any:
        async def handle(event, ctx):
            ctx.schedule(WorkflowEvent("later", data), delay=delay, key=key)
            ctx.deadline(delay=delay)

        return handling(handle)

    archive = await record(path, arranging("k", 1, 3600), ONE)
    assert await again(archive, arranging("k", 1, 7200)) is None
    found = await again(archive, arranging("k", 2, 3600))
    assert (found.kind, found.differences[0].path) == ("arranged", "arranged.timers.k.data")
    assert (await again(archive, arranging("other", 1, 3600))).kind == "arranged"


async def test_a_wait_that_is_not_the_same(path):
    def waiting(name: str) -> Any:
        async def handle(event, ctx):
            found = await ctx.wait_for(name)
            ctx.state["found"] = found.data

        return handling(handle)

    archive = await record(path, waiting("b"), ONE, WorkflowEvent("b", 5))
    assert [row.handler for row in archive.transitions] == ["handle", "handle@1"]
    assert await again(archive, waiting("b")) is None
    found = await again(archive, waiting("c"))
    assert (found.position, found.kind) == (1, "arranged")


async def test_handlers_that_are_gone_or_new(path):
    archive = await record(path, handling(add), ONE)
    found = await again(archive, handling(add, name="renamed"))
    assert (found.kind, found.handler, found.actual) == ("handler", "handle", ["renamed"])
    assert "register it with name='handle'" in found.message
    found = await again(archive, lambda _: None)
    assert (found.kind, found.position) == ("handler", 1)
    assert "registered: none" in found.message

    def with_another(workflow: WorkflowManager) -> None:
        workflow.register("a", add, name="handle").register("a", double, name="audit")

    found = await again(archive, with_another)
    assert (found.kind, found.handler) == ("handler", "audit")
    assert await again(archive, with_another, ignore=["handler.audit"]) is None


async def test_an_event_that_its_class_no_longer_fits(path):
    class Paid(BaseModel):
        amount: int

    class Grown(BaseModel):
        amount: int
        currency: str

    Grown.__name__ = Grown.__qualname__ = "Paid"

    async def handle(paid: Any, ctx: Any) -> None:
        ctx.state["paid"] = paid.amount

    def setup(kind: type) -> Any:
        return lambda workflow: workflow.register(kind, handle, name="handle")

    archive = await record(path, setup(Paid), Paid(amount=5))
    assert await again(archive, setup(Paid)) is None
    found = await again(archive, setup(Grown))
    assert (found.kind, found.position) == ("error", 1)
    assert "data.currency" in found.message
    assert "upcaster" in found.message


async def test_an_upcaster_that_fails_on_an_old_event(path):
    @dataclass
    class Paid:
        amount: int

    async def handle(paid: Paid, ctx: Any) -> None:
        ctx.state["paid"] = paid.amount

    archive = await record(path, lambda w: w.register(Paid, handle, name="handle"), Paid(amount=5))

    def broken(workflow: WorkflowManager) -> None:
        workflow.register(Paid, handle, name="handle")
        workflow.upcaster(Paid, 1)(lambda data: data["nothing"])

    found = await again(archive, broken)
    assert found.kind == "error"
    assert "upcaster" in found.message
    assert "KeyError" in found.message


async def test_a_state_class_that_has_changed(path):
    @dataclass
    class State:
        total: int = 0

    @dataclass
    class Needy:
        total: int

    @dataclass
    class Grown:
        total: int = 0
        notes: list[str] = field(default_factory=list)

    async def handle(event, ctx):
        ctx.state.total += event.data

    archive = await record(path, handling(handle), ONE, TWO, state=State)
    assert await again(archive, handling(handle), State) is None
    found = await again(archive, handling(handle), Needy)
    assert found.kind == "error"
    assert "give every field a default" in found.message
    found = await again(archive, handling(handle), Grown)
    assert (found.kind, found.differences[0].path) == ("state", "state.notes")
    assert await again(archive, handling(handle), Grown, ignore=["state.notes"]) is None


# --- steps ---------------------------------------------------------------------------------


class Bank:
    """Steps that count how often they really run."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def pay(self, amount: int, idempotency_key: str) -> str:
        self.keys.append(idempotency_key)
        return f"paid {amount}"

    def refuse(self) -> None:
        self.keys.append("refused")
        raise PermissionError("no money", 7)


def paying(bank: Bank, *steps: str) -> Any:
    async def handle(event, ctx):
        try:
            for name in steps:
                ctx.state[name] = await ctx.step(name, bank.pay, event.data)
        except Exception as error:  # noqa: BLE001 - as a handler might
            ctx.state["error"] = str(error)

    return handling(handle)


async def test_steps_give_what_is_recorded(path):
    bank = Bank()
    archive = await record(path, paying(bank, "pay", "pay"), ONE)
    assert len(bank.keys) == 2
    assert await again(archive, paying(bank, "pay", "pay")) is None
    assert await again(archive, paying(bank, "pay", "pay"), live=["pay"]) is None
    assert len(bank.keys) == 2  # a finished step is never run again


async def test_a_step_that_is_not_recorded_ends_the_replay(path):
    bank = Bank()
    archive = await record(path, paying(bank, "pay"), ONE, TWO)
    found = await again(archive, paying(bank, "pay", "thank"))
    assert (found.position, found.kind, found.handler) == (1, "step", "handle")
    assert found.actual == "thank"
    for said in ("'thank'", "'handle'", "position 1", "--live 'thank'"):
        assert said in found.message
    assert len(bank.keys) == 2
    found = await again(archive, paying(bank, "pay", "thank"), live={"thank"})
    assert (found.position, found.kind, found.differences[0].path) == (1, "state", "state.thank")
    assert bank.keys[2:] == ["r/1/handle/thank/1"]
    ignore = ["state.thank"]
    assert await again(archive, paying(bank, "pay", "thank"), live={"thank"}, ignore=ignore) is None
    assert bank.keys[3:] == ["r/1/handle/thank/1", "r/2/handle/thank/1"]


async def test_even_a_handler_that_catches_everything_does_not_hide_it(path):
    bank = Bank()

    def setup(steps: list[str]) -> Any:
        async def handle(event, ctx):
            for name in steps:
                try:
                    await ctx.step(name, bank.pay, 1)
                except BaseException:  # noqa: BLE001 - as a handler might
                    ctx.state["hidden"] = True

        return handling(handle, timeout=60)

    archive = await record(path, setup(["pay"]), ONE)
    assert (await again(archive, setup(["pay", "other", "another"]))).actual == "other"
    assert len(bank.keys) == 1


async def test_a_step_that_failed_fails_again(path):
    bank = Bank()

    async def handle(event, ctx):
        try:
            await ctx.step("pay", bank.refuse)
        except PermissionError as error:
            ctx.state["error"] = [str(error), *error.args]

    archive = await record(path, handling(handle), ONE)
    assert await again(archive, handling(handle)) is None
    assert bank.keys == ["refused"]
    await again(archive, handling(handle), live=["pay"])
    assert bank.keys == ["refused"] * 2  # it has not finished, so it can really run


async def test_a_dead_letter_dies_of_the_same(path):
    bank = Bank()

    async def handle(event, ctx):
        await ctx.step("pay", bank.refuse)

    archive = await record(path, handling(handle), ONE)
    assert archive.transitions[0].outcome == "dead"
    assert await again(archive, handling(handle)) is None
    assert bank.keys == ["refused"]


async def test_statements_are_left_out(path):
    import sqlalchemy

    async def handle(event, ctx):
        ctx.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS mine (x)"))
        ctx.execute(sqlalchemy.text("INSERT INTO mine VALUES (1)"))

    archive = await record(path, handling(handle), ONE)
    assert await again(archive, handling(handle)) is None
    assert query(path, "SELECT count(*) FROM mine") == [(1,)]


# --- what is intended ----------------------------------------------------------------------


async def test_what_is_ignored_does_not_spread(path):
    def stamping(stamp: str) -> Any:
        async def handle(event, ctx):
            before = ctx.state.get("stamp")
            ctx.state["stamp"] = f"{stamp} {event.data}"
            yield WorkflowEvent("stamped", {"before": before, "at": stamp})

        return handling(handle)

    archive = await record(path, stamping("x"), ONE, TWO, WorkflowEvent("a", 3))
    assert (await again(archive, stamping("y"))).position == 1
    found = await again(archive, stamping("y"), ignore=["state.stamp"])
    assert found.differences[0].path == "emitted.stamped.data.at"
    for path_of_event in ("emitted.*.data.at", "event.data.at", "emitted.stamped.data.at"):
        assert await again(archive, stamping("y"), ignore=["state.stamp", path_of_event]) is None


async def test_what_is_accepted_hides_nothing_behind_it(path):
    archive = await record(path, handling(add), ONE, TWO, ONE)

    async def changed(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
        if event.position == 1:
            ctx.state["new"] = True
        if event.position == 5:
            ctx.state["sum"] += 1
        yield WorkflowEvent("added", {"sum": ctx.state["sum"], "by": ["handle"]})

    workflow = WorkflowManager(":memory:").register("a", changed, name="handle")
    report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
    assert [each.differences[0].path for each in report.accepted] == ["state.new"]
    assert report.divergence is not None
    assert (report.divergence.position, report.divergence.kind) == (5, "emitted")
    everything = await rerun(workflow, archive, accept=lambda _: True)
    assert everything.is_identical
    assert [each.position for each in everything.accepted] == [1, 5, 5]


async def test_accepting_goes_on_with_what_waits_as_recorded(path):
    def waiting(name: str, *, is_step: bool) -> Any:
        async def handle(event, ctx):
            if is_step:
                await ctx.step("new", Bank().pay, 1)
            found = await ctx.wait_for(name)
            ctx.state["found"] = found.data

        return handling(handle)

    archive = await record(path, waiting("b", is_step=False), ONE, WorkflowEvent("b", 5))
    for setup in (waiting("b", is_step=True), waiting("c", is_step=False)):
        workflow = WorkflowManager(":memory:")
        setup(workflow)
        report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
        assert len(report.accepted) == 1
        assert report.divergence is not None
        assert report.divergence.position == 2


# --- moments and streams ---------------------------------------------------------------------


async def test_someone_can_look_before_each_attempt(path):
    moments: list[tuple[int, str, int, Any, Any]] = []

    def setup(workflow: WorkflowManager) -> None:
        workflow.register("a", add, name="handle")
        workflow.register("added", lambda event: None, name="see")

    def look(moment: Moment) -> None:
        moments.append(
            (moment.position, moment.handler, moment.attempt, moment.event.data, moment.outcome)
        )
        assert asyncio.get_running_loop()  # also where a plain function is called

    archive = await record(path, setup, ONE)
    assert await again(archive, setup, before=look) is None
    assert moments == [
        (1, "handle", 1, 1, "handled"),
        (2, "see", 1, {"sum": 1, "by": ["handle"]}, "handled"),
    ]


async def test_no_stream_is_read_again_and_its_readers_get_what_is_recorded(path):
    read: list[int] = []

    async def numbers():
        for number in range(3):
            read.append(number)
            yield number

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        async def make(event, ctx):
            told = WorkflowEvent("stream", {"numbers": numbers()})
            yield told
            ctx.state["sum"] = sum([each async for each in told.data["numbers"]])

        @workflow.on("stream")
        async def see(event, ctx):
            ctx.state["seen"] = [each async for each in event.data["numbers"].read(1)]

    archive = await record(path, setup, ONE)
    assert read == [0, 1, 2]
    assert '[["=",["sum"],3]]' in [row.change for row in archive.transitions]
    assert await again(archive, setup) is None
    assert read == [0, 1, 2]
    assert await again(archive, setup, live=["stream"]) is None
    assert read == [0, 1, 2] * 2


async def test_a_plain_generator_with_a_stream_can_be_looked_into(path):
    async def numbers():
        yield 1
        yield 2

    def setup(workflow: WorkflowManager) -> None:
        @workflow.on("a")
        def make(event, ctx):
            yield WorkflowEvent("stream", {"numbers": numbers()})
            ctx.state["done"] = True

    archive = await record(path, setup, ONE)
    assert await again(archive, setup) is None
    async with asyncio.timeout(20):
        assert await again(archive, setup, before=lambda _: None) is None


# --- dead letters ----------------------------------------------------------------------------


async def test_a_dead_letter_that_was_retried_is_executed_again_too(path):
    def setup(*, is_mended: bool) -> Any:
        async def handle(event, ctx):
            if not is_mended:
                raise ConnectionError("no answer")
            ctx.state["done"] = event.data
            yield WorkflowEvent("done", event.data)

        return handling(handle)

    await record(path, setup(is_mended=False), ONE)
    workflow = WorkflowManager(path)
    setup(is_mended=True)(workflow)
    await workflow.run(RUN).retry_dead(1)
    await workflow.resume()
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    assert [row.outcome for row in archive.transitions] == ["dead", "handled"]
    found = await again(archive, setup(is_mended=True))
    assert (found.position, found.kind) == (1, "outcome")  # it was another code then
    workflow = WorkflowManager(":memory:")
    setup(is_mended=True)(workflow)
    report = await rerun(workflow, archive, accept=lambda found: found.position == 1)
    assert report.divergence is None
    assert {each.position for each in report.accepted} == {1}


# --- forks -----------------------------------------------------------------------------------


async def test_a_fork_of_a_fork_is_identical_under_the_names_it_had(path):
    """Randomness, tokens and keys are those of the run that it was at that position."""
    seen: list[str] = []

    async def handle(event, ctx):
        seen.append(ctx.correlation_id)
        ctx.state.setdefault("luck", []).append(ctx.random.random())
        ctx.state["token"] = ctx.submit_external("approval")
        if event.data:
            yield WorkflowEvent("a", event.data - 1)

    workflow = WorkflowManager(path)
    handling(handle)(workflow)
    async for _ in workflow.process(WorkflowEvent("a", 5), correlation_id=RUN):
        pass
    fork = await workflow.run(RUN).fork(at=4, edit_state={"luck": []}, correlation_id="fork")
    await workflow.resume("fork")
    later = await fork.fork(at=5, correlation_id="later")
    sooner = await fork.fork(at=2, edit_event={}, correlation_id="sooner")
    await workflow.resume()
    seen.clear()
    for run, names in (
        (fork, ["r"] * 4 + ["fork"] * 2),
        (later, ["r"] * 4 + ["fork"] + ["later"]),
        (sooner, ["r"] + ["sooner"] * 5),
    ):
        report = await rerun(workflow, run)
        assert report.divergence is None
        assert seen == names
        seen.clear()
    await workflow.close()
