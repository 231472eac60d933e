"""ctx.collect: durable fan-in, with one result in whatever order the events come (G2, G3)."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass

import pytest
from failing import THRICE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parking import path_of, send, state
from watching import drops, query

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import ConfigurationError
from flowstore.testing import crash


@dataclass
class Part:
    n: int = 0


@dataclass
class Bolt(Part):
    pass


@dataclass
class Nut(Part):
    pass


@dataclass
class Other:
    n: int = 0


def collecting(workflow, wanted, *, on=("a", "b", "c"), note=None, **options):
    """Have every event of these names or classes collected by a handler of its own."""

    async def take(event, ctx):
        found = ctx.collect("k", wanted, **options)
        if found is not None:
            told = [shown(each) for each in found]
            ctx.state.setdefault("lists", []).append(told)

    for number, each in enumerate(on):
        workflow.register(each, take, name=f"h{number}")
    return workflow


def shown(event):
    if isinstance(event, WorkflowEvent):
        return [event.name, event.data]
    return [type(event).__name__, event.n]


def kept(workflow):
    return query(path_of(workflow), "SELECT key, event_id FROM collected ORDER BY position")


async def test_the_last_one_gets_all_in_the_order_that_was_asked_for(workflow):
    collecting(workflow, ["a", "b", "c"])
    async with workflow:
        assert await send(workflow, "c", 3, id="C") == "waiting"
        assert await send(workflow, "a", 1, id="A") == "waiting"
        assert kept(workflow) == [("k", "C"), ("k", "A")]
        assert await send(workflow, "b", 2, id="B") == "idle"
        assert kept(workflow) == []
    assert await state(workflow) == {"lists": [[["a", 1], ["b", 2], ["c", 3]]]}


async def test_the_key_begins_anew_and_extra_events_are_kept_for_the_next_round(workflow):
    collecting(workflow, ["a", "b"])
    async with workflow:
        for number, name in enumerate("aaabbab"):
            await send(workflow, name, number, id=f"{name}{number}")
        assert kept(workflow) == [("k", "a5")]
    assert (await state(workflow))["lists"] == [
        [["a", 0], ["b", 3]],
        [["a", 1], ["b", 4]],
        [["a", 2], ["b", 6]],
    ]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
async def test_so_many_of_one_in_the_order_of_their_ids(make, order):
    """Numbers in ids go by their value: 10 comes behind 2."""
    workflow = collecting(make(), "a", on=("a",), count=3)
    ids = ["part-1", "part-2", "part-10"]
    async with workflow:
        for number in order:
            await send(workflow, "a", number, id=ids[number])
    assert (await state(workflow))["lists"] == [[["a", 0], ["a", 1], ["a", 2]]]


ROUNDS = [
    (["a", "b", "c"], [("a", "1"), ("b", "2"), ("c", "3")]),
    (["a", "a", "b"], [("a", "2"), ("a", "10"), ("b", "3")]),
    ([Part, Bolt], [(Bolt, "1"), (Part, "2")]),
    ([Part, Bolt, Nut], [(Bolt, "1"), (Nut, "2"), (Nut, "3")]),
    ([Bolt, Part, Part], [(Nut, "1"), (Bolt, "2"), (Bolt, "3")]),
]


@given(
    chosen=st.sampled_from(ROUNDS),
    shuffle=st.randoms(use_true_random=False),
    repeats=st.integers(0, 3),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_permuted_and_repeated_arrivals_have_one_final_state(chosen, shuffle, repeats):
    wanted, arrivals = chosen
    expected = asyncio.run(_final(wanted, arrivals))
    assert len(expected["lists"]) == 1
    permuted = shuffle.sample(arrivals, len(arrivals))
    # An arrival is repeated at any moment behind its first.
    for _ in range(repeats):
        again = shuffle.choice(permuted)
        permuted.insert(shuffle.randint(permuted.index(again) + 1, len(permuted)), again)
    assert asyncio.run(_final(wanted, permuted)) == expected


async def _final(wanted, arrivals):
    on = sorted({kind for kind, _ in ROUNDS[0][1]}) if isinstance(wanted[0], str) else [Part]
    workflow = collecting(WorkflowManager(":memory:"), wanted, on=on)
    async with workflow:
        for kind, number in arrivals:
            event = WorkflowEvent(kind, int(number)) if isinstance(kind, str) else kind(int(number))
            await send(workflow, event, id=f"id-{number}")
        found = await workflow.run("r").state()
    await workflow.close()
    return found


async def test_the_same_event_again_counts_once(workflow):
    """G5: a repeat is a drop; a completed round does not come again."""
    collecting(workflow, "a", on=("a",), count=2)
    async with workflow:
        for name in ("one", "one", "two", "two", "one"):
            await send(workflow, "a", name, id=name)
    assert (await state(workflow))["lists"] == [[["a", "one"], ["a", "two"]]]
    assert len(await drops(workflow, "r")) == 3


async def test_two_handlers_of_one_event_are_one_arrival(workflow):
    async def first(event, ctx):
        found = ctx.collect("k", "a", count=2)
        if found:
            ctx.state.setdefault("lists", []).append(["first", *(each.data for each in found)])

    async def second(event, ctx):
        for _ in range(2):
            found = ctx.collect("k", "a", count=2)
            if found:
                ctx.state.setdefault("lists", []).append(["second", *(each.data for each in found)])

    workflow.register("a", first).register("a", second)
    async with workflow:
        for number in range(4):
            await send(workflow, "a", number, id=f"n{number}")
    assert await state(workflow) == {"lists": [["first", 0, 1], ["first", 2, 3]]}
    assert kept(workflow) == []


async def test_classes_give_typed_objects_and_names_envelopes(workflow):
    got = []

    async def take(event, ctx):
        got.append(ctx.collect("k", [Part, "x"]))

    workflow.register(Part, take, name="p").register("x", take, name="x")
    async with workflow:
        await send(workflow, "x", 5)
        await send(workflow, Bolt(3))
    assert got == [None, [Bolt(3), WorkflowEvent("x", 5)]]


async def test_keys_and_runs_are_apart(workflow):
    async def take(event, ctx):
        for key in event.data:
            if ctx.collect(key, "a", count=2):
                ctx.state.setdefault("done", []).append(key)

    workflow.register("a", take)
    async with workflow:
        await send(workflow, "a", ["k", "l"])
        await send(workflow, "a", ["k"], run="s")
        await send(workflow, "a", ["l"])
        assert await state(workflow) == {"done": ["l"]}
        await send(workflow, "a", ["k"])
        assert await state(workflow) == {"done": ["l", "k"]}
        assert await state(workflow, "s") == {}


async def test_a_handler_that_is_tried_again_collects_once(make, clock):
    workflow = make(clock=clock)

    @workflow.on("a", retry=THRICE)
    async def take(event, ctx):
        found = ctx.collect("k", "a", count=2)
        if ctx.attempt < 3:
            raise ConnectionError("no answer")
        ctx.state.setdefault("lists", []).append(found and [each.data for each in found])

    async with workflow:
        for number in range(2):
            await workflow.send(WorkflowEvent("a", number), correlation_id="r", id=str(number))
        while (await state(workflow)).get("lists", []) != [None, [0, 1]]:
            await clock.until_asleep()
            await clock.advance(1)
            await send(workflow, "flush", run="flush")
    assert kept(workflow) == []


async def test_a_handler_that_fails_for_good_keeps_nothing(workflow):
    @workflow.on("a")
    async def take(event, ctx):
        found = ctx.collect("k", "a", count=2)
        if event.data == "bad":
            raise ValueError("no")
        ctx.state["found"] = found and [each.data for each in found]

    @workflow.on("error")
    async def on_error(event, ctx):
        pass

    async with workflow:
        for data in ("one", "bad", "two"):
            await send(workflow, "a", data, id=data)
    assert await state(workflow) == {"found": ["one", "two"]}


@pytest.mark.parametrize("ending", ["close", "crash"])
async def test_the_process_may_end_between_any_two(make, ending):
    for number, name in enumerate("cba"):
        workflow = collecting(make(), ["a", "b", "c"])
        async with workflow:
            await send(workflow, name, number)
            if ending == "crash":
                await crash(workflow)
        await workflow.close()
    assert await state(make()) == {"lists": [[["a", 2], ["b", 1], ["c", 0]]]}


async def test_closing_the_run_ends_the_collection(workflow):
    collecting(workflow, ["a", "b"])
    async with workflow:
        await send(workflow, "a")
        await workflow.run("r").cancel("no longer wanted")
        assert kept(workflow) == []


async def test_a_handler_that_has_collected_can_wait(workflow):
    """The list is what it was, and the events of the next round are not in it."""
    got = []

    async def take(event, ctx):
        found = ctx.collect("k", ["a", "b"])
        if found is None:
            return
        await ctx.wait_for("go")
        again = ctx.collect("own", "b", count=1)
        await ctx.wait_for("go")
        got.append([[each.data for each in found], [each.data for each in again]])

    workflow.register("a", take, name="a").register("b", take, name="b")
    async with workflow:
        for name, data in (("a", 1), ("b", 2), ("a", 3), ("go", 0), ("a", 4), ("go", 0)):
            await send(workflow, name, data, id=f"id{data}" if data else None)
        assert await workflow.run("r").status() == "waiting"
        assert [event_id for _, event_id in kept(workflow)] == ["id3", "id4"]
    assert got == [[[1, 2], [2]]]


async def test_what_is_collected_behind_a_wait_has_its_place_by_its_event(make):
    """Whoever loads the run finds the same order as who had it in memory."""

    async def late(event, ctx):
        if event.data == 1:
            await ctx.wait_for("go")
        found = ctx.collect("k", "a", count=2)
        if found:
            ctx.state["found"] = [each.data for each in found]

    for is_restarted in (False, True):
        workflow = make(":memory:" if not is_restarted else None).register("a", late)
        async with workflow:
            for number in (1, 2):
                await send(workflow, "a", number, id=f"x{number}")
            await send(workflow, "go")
        assert await state(workflow) == {"found": [1, 2]}


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        ("a", {}),
        ("a", {"count": 0}),
        ("a", {"count": -1}),
        ("a", {"count": 1_000_001}),
        ("a", {"count": 10**30}),
        ("a", {"count": True}),
        ("a", {"count": 2.0}),
        (["a"], {"count": 1}),
        ([], {}),
        (["b"], {}),
        ([""], {}),
        (Part, {"count": 1}),
    ],
)
async def test_wrong_arguments_are_refused(workflow, wanted, options):
    errors = []

    @workflow.on("a")
    async def take(event, ctx):
        with pytest.raises(ConfigurationError) as caught:
            ctx.collect("k", wanted, **options)
        errors.append(caught.value)

    async with workflow:
        assert await send(workflow, "a") == "idle"
    assert len(errors) == 1


async def test_what_collecting_an_event_costs_does_not_grow_with_what_is_kept(tmp_path):
    """G11."""
    count, costs = 4_000, []
    workflow = WorkflowManager(tmp_path / "runs.db")

    @workflow.on("part")
    async def join(event, ctx):
        started = time.perf_counter()
        parts = ctx.collect("all", "part", count=count)
        costs.append(time.perf_counter() - started)
        if parts is not None:
            ctx.complete(len(parts))

    async with workflow:
        parts = [WorkflowEvent("part", n, correlation_id="r", id=f"p{n}") for n in range(count)]
        await workflow.send_many(parts)
        record = await workflow.run("r").wait(60)
    assert (record.status, record.result) == ("completed", str(count))
    assert statistics.median(costs[-501:-1]) < 3 * statistics.median(costs[:500])
