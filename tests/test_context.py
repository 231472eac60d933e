"""What a handler can do through ctx besides steps and statements: the end of the run, the rest."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from failing import THRICE, fail_once
from sqlalchemy import Column, MetaData, Table, Text, select
from watching import collect, drops, log, names

from flowstore import WorkflowEvent

account = Table("account", MetaData(), Column("name", Text, primary_key=True))


# --- the end of a run ------------------------------------------------------------------------


async def test_complete_closes_the_run_with_its_result(workflow):
    async def handle(event, ctx):
        ctx["n"] = 1
        ctx.emit(WorkflowEvent("note"))
        ctx.complete({"answer": [1, 2]})
        ctx["n"] = 2

    workflow.register("go", handle)
    assert await names(workflow.process(WorkflowEvent("go"), correlation_id="r")) == ["go", "note"]
    info = await workflow.run("r").info()
    assert (info.status, info.result, info.cursor) == ("completed", '{"answer":[1,2]}', info.head)
    assert await workflow.run("r").state() == {"n": 2}


async def test_complete_of_a_handler_that_fails_does_not_count(patient):
    async def handle(event, ctx):
        ctx.complete("early")
        fail_once(ctx)
        ctx.complete("late")

    patient.register("go", handle, retry=THRICE)
    await collect(patient.process(WorkflowEvent("go"), correlation_id="r"))
    assert (await patient.run("r").info()).result == '"late"'


async def test_what_the_closing_handler_emits_for_others_is_recorded_as_stale(workflow):
    """G7."""
    seen = []

    async def handle(event, ctx):
        ctx.emit(WorkflowEvent("next", id="next-1"))
        ctx.complete()

    async def after(event):
        seen.append(event)

    workflow.register("go", handle).register("next", after)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert seen == []
    assert await drops(workflow, "r") == [("next-1", "stale")]


# --- everything else ----------------------------------------------------------------------


async def test_now_and_random_are_those_of_the_event(patient):
    """Repeatable: the numbers are the same in the next attempt."""
    clock, seen = patient._runtime.clock, []

    async def handle(event, ctx):
        seen.append((ctx.now(), [ctx.random.random() for _ in range(3)]))
        assert ctx.now() == clock.moment
        fail_once(ctx)

    patient.register("go", handle, retry=THRICE)
    for run in ("r", "s"):
        await collect(patient.process(WorkflowEvent("go"), correlation_id=run))
    (t1, first), (t2, again), (_, other), _ = seen
    assert t2 - t1 == timedelta(seconds=1)
    assert first == again != other
    assert len(set(first)) == 3


async def test_the_logger_knows_the_run(workflow, caplog):
    caplog.set_level(logging.INFO, "flowstore.handler")

    async def handle(event, ctx):
        ctx.logger.info("at work on %s", event.data)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go", 7), correlation_id="r"))
    (record,) = [each for each in caplog.records if each.name == "flowstore.handler"]
    assert record.getMessage() == "at work on 7"
    assert (record.correlation_id, record.position, record.event_name) == ("r", 1, "go")


async def test_ctx_is_a_mapping_of_the_state_over_the_shared_resources(make):
    workflow = make(ctx={"client": "shared", "units": "metric"})
    seen = {}

    async def handle(event, ctx):
        ctx["units"] = "imperial"
        ctx.update(a=1, b=2)
        del ctx["b"]
        seen.update(ctx)
        seen["length"] = len(ctx)
        seen["popped"] = ctx.pop("a")
        with pytest.raises(KeyError, match="shared resource"):
            del ctx["client"]
        with pytest.raises(KeyError):
            ctx["missing"]

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert seen == {"units": "imperial", "a": 1, "client": "shared", "length": 3, "popped": 1}
    assert await workflow.run("r").state() == {"units": "imperial"}
    assert workflow.ctx == {"client": "shared", "units": "metric"}


async def test_a_context_that_outlives_its_handler_is_of_no_use(workflow):
    kept = []

    async def handle(event, ctx):
        kept.append(ctx)

    workflow.register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    (ctx,) = kept
    for action in (
        lambda: ctx.emit(WorkflowEvent("late")),
        lambda: ctx.drop("late"),
        ctx.complete,
        lambda: ctx.execute(select(account)),
    ):
        with pytest.raises(Exception, match=r"handle.*has ended"):
            action()
    with pytest.raises(Exception, match="has ended"):
        await ctx.step("late", lambda: 1)
    assert await log(workflow, "r") == [(1, "go")]


async def test_a_handler_can_send_to_another_run_and_to_its_own(workflow):
    receipts = []

    async def handle(event, ctx):
        receipts.append(await workflow.send(WorkflowEvent("hello"), correlation_id="other"))
        receipts.append(await workflow.send(WorkflowEvent("hello"), correlation_id="r"))
        ctx["sent"] = True

    async def hello(event, ctx):
        ctx["hello"] = True

    workflow.register("go", handle).register("hello", hello)
    async with workflow:
        await workflow.run("r").send(WorkflowEvent("go"))
        await workflow.run("r").wait()
        await workflow.run("other").wait()
    assert [(receipt.status, receipt.position) for receipt in receipts] == [
        ("accepted", 1),
        ("accepted", 2),
    ]
    assert await workflow.run("r").state() == {"sent": True, "hello": True}
    assert await workflow.run("other").state() == {"hello": True}


async def test_a_handler_can_process_another_run_to_its_end(workflow):
    async def outer(event, ctx):
        inner = await collect(workflow.process(WorkflowEvent("inner"), correlation_id="inner"))
        return WorkflowEvent("done", [each.name for each in inner])

    async def inner(event):
        return WorkflowEvent("result")

    workflow.register("outer", outer).register("inner", inner)
    events = await collect(workflow.process(WorkflowEvent("outer")))
    assert events[-1].data == ["inner", "result"]


async def test_an_error_of_the_store_that_a_handler_meets_is_its_own_failure(
    workflow, tmp_path, make, caplog
):
    """A handler may use a store that is broken; its own run is not to suffer for it."""
    (tmp_path / "letter.db").write_text("Dear database, " * 100)
    other = make(tmp_path / "letter.db")

    async def handle(event):
        await other.send(WorkflowEvent("hello"))

    workflow.register("go", handle)
    events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    assert [event.name for event in events] == ["go", "error"]
    assert events[1].data["exception"] == "StoreCorruptError"
    assert await workflow.run("r").status() == "failed"
