"""The state of runs through handlers, failures and restarts: exact, and applied once."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watching import collect, query

from flowstore import Limits, Retry, WorkflowEvent, WorkflowManager
from flowstore.testing import VirtualClock


async def test_state_is_kept_by_run(workflow):
    async def count(event, ctx):
        ctx["n"] = ctx.get("n", 0) + 1

    workflow.register("go", count)
    for run, times in (("a", 3), ("b", 1)):
        for _ in range(times):
            await collect(workflow.process(WorkflowEvent("go"), correlation_id=run))
    assert await workflow.run("a").state() == {"n": 3}
    assert await workflow.run("b").state() == {"n": 1}


async def test_state_goes_on_in_a_new_manager(make):
    async def count(event, ctx):
        ctx["list"] = [*ctx.get("list", []), event.data]

    for number in range(5):
        workflow = make().register("go", count)
        await collect(workflow.process(WorkflowEvent("go", number), correlation_id="r"))
        await workflow.close()
    assert await make().run("r").state() == {"list": [0, 1, 2, 3, 4]}


async def test_two_managers_in_turn_see_each_others_state(make):
    """Neither trusts what it remembers of a run that the other has handled since."""

    async def count(event, ctx):
        ctx["list"] = [*ctx.get("list", []), event.data]

    managers = [make().register("go", count) for _ in range(2)]
    for number in range(8):
        await collect(managers[number % 2].process(WorkflowEvent("go", number), correlation_id="r"))
    for manager in managers:
        assert await manager.run("r").state() == {"list": list(range(8))}


async def test_nothing_is_written_for_a_state_that_did_not_change(workflow, path):
    async def look(event, ctx):
        ctx["n"] = ctx.get("n", 1)

    workflow.register("go", look)
    for _ in range(3):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
    changes = query(path, "SELECT change FROM transition ORDER BY number")
    assert changes[0][0] is not None
    assert changes[1:] == [(None,), (None,)]


async def test_a_state_over_the_limit_fails_its_handler_and_keeps_the_last_one(make, caplog):
    workflow = make(limits=Limits(state_bytes=2000))

    async def note(event, ctx):
        ctx["text"] = ctx.get("text", "") + "x" * event.data

    workflow.register("note", note)
    for _ in range(2):
        await collect(workflow.process(WorkflowEvent("note", 900), correlation_id="r"))
    events = await collect(workflow.process(WorkflowEvent("note", 900), correlation_id="r"))
    assert events[-1].name == "error"
    assert "state: is" in events[-1].error
    assert "2000" in events[-1].error
    assert await workflow.run("r").state() == {"text": "x" * 1800}


async def test_state_of_an_attempt_that_failed_is_gone_also_what_it_changed_in_place(make):
    """G3."""
    workflow = make(clock=VirtualClock(is_automatic=True))

    async def handle(event, ctx):
        ctx.setdefault("list", []).append(event.data)
        ctx.setdefault("deep", {}).setdefault("er", []).append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("no answer")

    workflow.register("go", handle, retry=Retry(attempts=3, delay=1))
    for number in range(2):
        await collect(workflow.process(WorkflowEvent("go", number), correlation_id="r"))
    assert await workflow.run("r").state() == {"list": [0, 1], "deep": {"er": [3, 3]}}


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=st.lists(_values, min_size=1, max_size=6))
def test_whatever_is_accepted_comes_back_exactly(values, tmp_path_factory):
    """G10: through the log and through the state, in this manager and in the next."""
    path = tmp_path_factory.mktemp("exact") / "runs.db"

    async def keep(event, ctx):
        ctx.setdefault("all", []).append(event.data)
        ctx["last"] = event.data

    async def write():
        workflow = WorkflowManager(path).register("go", keep)
        for value in values:
            await collect(workflow.process(WorkflowEvent("go", value), correlation_id="r"))
        await workflow.close()

    async def read():
        workflow = WorkflowManager(path)
        state = await workflow.run("r").state()
        events = await collect(workflow.run("r").events())
        await workflow.close()
        return state, [event.data for event in events]

    asyncio.run(write())
    state, data = asyncio.run(read())
    assert repr(data) == repr(values)
    assert repr(state) == repr({"all": values, "last": values[-1]})


@pytest.mark.parametrize("count", [1, 50])
async def test_each_event_is_folded_into_the_state_once(workflow, count):
    """G3."""

    async def fold(event, ctx):
        ctx["seen"] = [*ctx.get("seen", []), event.data]

    workflow.register("go", fold)
    async with workflow:
        await workflow.send_many(
            [WorkflowEvent("go", n, correlation_id=f"r{n % 3}") for n in range(3 * count)]
        )
        for run in range(3):
            await workflow.run(f"r{run}").wait()
    for run in range(3):
        assert (await workflow.run(f"r{run}").state())["seen"] == list(range(run, 3 * count, 3))


# --- many states -------------------------------------------------------------------------


async def test_states_are_those_of_every_run_of_the_workflow(make):
    """As `Run.state` has them: through snapshots and changes, over several pages."""

    async def keep(event, ctx):
        ctx["sum"] = ctx.get("sum", 0) + event.data
        ctx.setdefault("texts", []).append("x" * 100 * event.data)

    workflow, other = make().register("add", keep), make(name="other").register("add", keep)
    names = [f"run-{number}" for number in range(1100)]
    await workflow.send_many(
        WorkflowEvent("add", number % 7, correlation_id=name) for number, name in enumerate(names)
    )
    for number in range(60):
        await workflow.send(WorkflowEvent("add", number), correlation_id="run-3")
    await workflow.resume()
    await collect(other.process(WorkflowEvent("add", 1), correlation_id="other"))
    await workflow.send(WorkflowEvent("add", 1), correlation_id="new")
    states = {record.correlation_id: state async for record, state in workflow.states()}
    assert list(states) == ["new", *reversed(names)]
    assert states["new"] == {}
    assert states["run-3"] == await workflow.run("run-3").state()
    assert states["run-3"]["sum"] == 3 + sum(range(60))
    assert [states[name]["sum"] for name in names[4:]] == [n % 7 for n in range(4, 1100)]
    pending = [record.correlation_id async for record, _ in workflow.states(status="running")]
    assert pending == ["new"]
