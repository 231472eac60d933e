"""What the tests of waiting share: one handler under test, and how its run is talked to."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

from watching import query

from flowstore import WorkflowEvent


def builder(make, clock):
    """Return what makes a manager with a given handler "h" of "go", and one that counts "note"."""

    def build(handler, event="go", **options):
        workflow = make(clock=options.pop("clock", clock), state=options.pop("state", dict))
        workflow.register(event, handler, name="h", **options)

        @workflow.on("note")
        async def note(event, ctx):
            ctx["count"] = ctx.get("count", 0) + 1

        return workflow

    return build


async def send(workflow, event, data=None, run="r", **more):
    """Send an event and return the run's status when it has settled."""
    event = WorkflowEvent(event, data) if isinstance(event, str) else event
    await workflow.send(event, correlation_id=run, **more)
    return (await workflow.run(run).wait(timeout=20)).status


async def state(workflow, run="r"):
    return await workflow.run(run).state()


def path_of(workflow):
    return workflow._runtime.url.path


def parked(workflow):
    return query(path_of(workflow), "SELECT position, handler, kind, name FROM parked")
