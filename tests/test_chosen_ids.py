"""Ids that handlers choose for what they emit (G5)."""

from __future__ import annotations

from flowstore import WorkflowEvent


async def _collect(workflow, name="go"):
    return [event async for event in workflow.process(WorkflowEvent(name), correlation_id="r")]


async def test_other_content_under_one_id_fails_its_handler(workflow):
    async def two(_event, ctx):
        ctx.state["touched"] = True
        yield WorkflowEvent("part", {"n": 1}, id="same")
        yield WorkflowEvent("part", {"n": 2}, id="same")

    workflow.register("go", two)
    events = await _collect(workflow)
    assert [event.name for event in events] == ["go", "error"]
    assert "same" in events[1].error
    assert events[1].data["exception"] == "EventConflictError"
    assert await workflow.run("r").state() == {}
    reader = await workflow._runtime.reader()
    assert [drop.reason for drop in await reader.list_drops("r")] == ["conflict"]


async def test_the_same_content_under_one_id_is_there_once(workflow):
    async def two(_event, ctx):
        ctx.state["touched"] = True
        yield WorkflowEvent("part", {"n": 1}, id="same")
        yield WorkflowEvent("part", {"n": 1}, id="same")

    workflow.register("go", two)
    assert [event.name for event in await _collect(workflow)] == ["go", "part"]
    assert await workflow.run("r").state() == {"touched": True}


async def test_a_conflict_with_the_log_leaves_the_other_handlers_alone(workflow):
    async def clash(_event):
        yield WorkflowEvent("go", {"other": "content"}, id="taken")

    async def count(_event, ctx):
        ctx.state["seen"] = ctx.state.get("seen", 0) + 1

    workflow.register("go", clash).register("go", count).register("error", count, name="errors")
    await workflow.send(WorkflowEvent("fact", {"n": 1}, id="taken"), correlation_id="r")
    events = await _collect(workflow)
    assert [event.name for event in events] == ["go", "error"]
    assert await workflow.run("r").state() == {"seen": 2}
