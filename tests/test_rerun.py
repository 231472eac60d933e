"""Executing runs again: what is called, and what is left alone."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from again import ONE, RUN, TWO, add, again, double, handling, record
from watching import query

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.clock import to_datetime
from flowstore.errors import (
    ConfigurationError,
    EventConflictError,
    InvalidValueError,
    RunNotFoundError,
    StatementError,
    StoreCorruptError,
)
from flowstore.replay import read_file, rerun, write_file
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from flowstore.replay import Moment


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


async def test_a_record_without_some_of_its_events_is_called_damaged(path):
    archive = await record(path, handling(add), ONE, TWO)
    del archive.events[1]
    workflow = WorkflowManager(":memory:").register("a", add, name="handle")
    with pytest.raises(StoreCorruptError, match="has 3 events and should have 4"):
        await rerun(workflow, archive)


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
    write_file(path.with_name("runs.jsonl"), [archive])
    [copy] = read_file(path.with_name("runs.jsonl"))
    assert await again(copy, setup) is None  # a file of runs says so, too


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


async def test_a_refusal_with_a_long_text_is_known_again(path):
    """Error and traceback are kept without their ends, each by its own length."""
    name = "x" * 20_000

    async def handle(event, ctx):
        ctx.execute(sqlalchemy.text(f"DELETE FROM {name}"))  # noqa: S608 - there is no such table

    async def raise_it(event):
        raise StatementError(name)

    async def go_well(event):
        pass

    archive = await record(path, handling(handle), ONE)
    assert [(row.outcome, len(row.error)) for row in archive.transitions] == [("dead", 16_405)]
    assert await again(archive, handling(handle)) is None
    assert await again(archive, handling(go_well)) is None  # that is the store's verdict, not its
    archive = await record(path.with_name("other.db"), handling(raise_it), ONE)
    assert [row.outcome for row in archive.transitions] == ["dead"]
    assert await again(archive, handling(raise_it)) is None
    assert await again(archive, handling(go_well)) is not None


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
