"""Completions of external tasks in any order, any number of times."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_external_tasks import GO
from watching import collect, drops

from flowstore import WorkflowEvent, WorkflowManager

TASKS = 5


@st.composite
def deliveries(draw):
    """Return an order of completions in which each task comes at least once."""
    rest = draw(st.lists(st.integers(0, TASKS - 1), max_size=8))
    return draw(st.permutations([*range(TASKS), *rest]))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=deliveries(), served=st.booleans())
def test_completions_in_any_order_and_number_come_to_one_state(order, served):
    """G3, G5: nothing is lost, and nothing counts twice."""
    with tempfile.TemporaryDirectory() as folder:
        state, kinds, status = asyncio.run(_deliver(Path(folder) / "runs.db", order, served))
    assert state == {
        "sum": sum(10**n for n in range(TASKS)),
        "count": TASKS,
        "all": [*range(TASKS)],
    }
    assert kinds == ["duplicate"] * (len(order) - TASKS)
    assert status == "idle"


async def _deliver(path, order, served):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        return [
            WorkflowEvent("given", ctx.submit_external(f"part {number}")) for number in range(TASKS)
        ]

    @workflow.on("task.completed")
    async def part(event, ctx):
        ctx.state["sum"] = ctx.state.get("sum", 0) + 10 ** event.data["result"]
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        parts = ctx.collect("parts", "task.completed", count=TASKS)
        if parts is not None:
            ctx.state["all"] = [each.data["result"] for each in parts]

    async def complete_all():
        given = [e.data async for e in workflow.run("r").events() if e.name == "given"]
        for number in order:
            await workflow.complete_task(given[number], number)

    events = await collect(workflow.process(GO, correlation_id="r"))
    assert len(events) == 1 + TASKS
    if served:
        async with workflow:
            await complete_all()
            await workflow.run("r").wait()
    else:
        await complete_all()
        await workflow.resume("r")
    result = await workflow.run("r").state(), await drops(workflow, "r")
    status = await workflow.run("r").status()
    await workflow.close()
    return result[0], sorted(reason for _, reason in result[1]), status
