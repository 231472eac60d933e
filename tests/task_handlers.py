"""Handlers that submit tasks and keep what they come to."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from flowstore import WorkflowEvent

GO = WorkflowEvent("go")


def submitting(workflow, *calls, on="go"):
    """Have a handler submit these: tasks, or tuples of one and its arguments."""

    @workflow.on(on, name=on)
    async def go(event, ctx):
        for call in calls:
            task, *arguments = call if isinstance(call, tuple) else (call,)
            ctx.submit(task, *arguments)


def keeping(workflow, *outcomes):
    """Keep in the state what the tasks have ended in."""

    async def keep(event, ctx):
        ctx.state.setdefault(event.data["task"], []).append(
            event.data["result"] if event.error is None else [event.data["exception"], event.error]
        )

    for number, outcome in enumerate(outcomes or ("task.completed", "task.failed")):
        workflow.register(outcome, keep, name=f"keep{number}")


async def outcome(workflow, run="r", first=GO):
    """Send the first event, wait until the run has settled, and return its state."""
    async for _ in workflow.process(first, correlation_id=run):
        pass
    return await workflow.run(run).state()
