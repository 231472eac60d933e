"""How tests record a run, and execute it again with other handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.replay import rerun

RUN = "r"
ONE, TWO = WorkflowEvent("a", 1), WorkflowEvent("a", 2)
Setup = Callable[[WorkflowManager], object]


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
