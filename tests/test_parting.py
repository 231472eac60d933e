"""Where two runs part: what counts as a difference, and what does not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from calls import calls_of

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.replay.difference import ABSENT
from flowstore.replay.parting import MOST_STATES, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.store.archive import Archive

    Make = Callable[..., WorkflowManager]


def shop(make: Make, price: int = 3) -> WorkflowManager:
    workflow = make()
    workflow.register("done", note)

    @workflow.on("order", retry=Retry(attempts=2, delay=0))
    async def order(event: WorkflowEvent, ctx: Context):
        ctx.state["run"] = ctx.correlation_id
        ctx.state["costs"] = await ctx.step("ask", lambda: price * event.data["count"])
        if event.data.get("fails") and ctx.attempt == 1:
            raise ConnectionError("no answer")
        ctx.schedule(WorkflowEvent("remind"), delay=event.data.get("delay", 60), key="k")
        yield WorkflowEvent(
            "done", {"of": f"{ctx.correlation_id}/1", "at": ctx.now().isoformat()[:3]}
        )

    return workflow


def note(event: WorkflowEvent, ctx: Context) -> None:
    ctx.state["done"] = event.data


async def sold(workflow: WorkflowManager, name: str, *events: WorkflowEvent) -> Archive:
    for event in events:
        await workflow.run(name).send(event)
    await workflow.resume(name)
    return await archive_of(workflow, name)


async def archive_of(workflow: WorkflowManager, name: str) -> Archive:
    [found] = await (await workflow._runtime.reader()).read_archives([name])
    return found


def order(count: int = 1, **more: Any) -> WorkflowEvent:
    return WorkflowEvent("order", {"count": count, **more})


async def test_a_run_does_not_differ_from_itself(make: Make):
    archive = await sold(shop(make), "a", order())
    found = part(archive, archive)
    assert (found.is_same, found.same, found.places, found.run) == (True, 2, (), ())


async def test_neither_times_nor_ids_that_were_made_up_nor_the_runs_own_ids_count(make: Make):
    workflow = shop(make)
    one, other = await sold(workflow, "a", order()), await sold(workflow, "b", order())
    assert one.events[0].id != other.events[0].id
    assert one.events[0].created_at != other.events[0].created_at
    assert await workflow.run("b").state() != await workflow.run("a").state()
    assert part(one, other).is_same


async def test_what_is_shown_of_a_run_is_what_it_has(make: Make):
    workflow = shop(make)
    one, other = await sold(workflow, "a", order(1)), await sold(workflow, "b", order(2))
    gone = replace(other, transitions=other.transitions[:1])
    places = part(one, gone).places
    assert places[0].other is not None
    assert places[0].other["event"]["data"] == {"count": 2}
    handled = next(each for each in places[1].differences if each.path == "state.done")
    assert (handled.expected["of"], handled.actual) == ("a/1", ABSENT)
    back = next(each for each in part(gone, one).places[1].differences if each.path == "state.done")
    assert (back.expected, back.actual["of"]) == (ABSENT, "a/1")


async def test_an_id_that_a_sender_chose_counts(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", order())
    event = order()
    event.id = "mail-1"
    other = await sold(workflow, "b", event)
    [place] = part(one, other).places
    [difference] = place.differences
    assert (difference.path, difference.expected, difference.actual) == (
        "event.id",
        ABSENT,
        "mail-1",
    )


async def test_the_first_difference_is_found_with_all_that_follows(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", WorkflowEvent("note"), order(1))
    other = await sold(workflow, "b", WorkflowEvent("note"), order(2))
    found = part(one, other)
    assert (found.same, [place.position for place in found.places]) == (1, [2])
    assert [each.path for each in found.places[0].differences] == [
        "event.data.count",
        "steps['order/ask/1'].result",
        "state.costs",
    ]


async def test_a_difference_of_the_states_is_told_where_it_begins(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", order(1), order(1))
    other = await sold(workflow, "b", order(2), order(2))
    first, second = part(one, other).places
    assert [each.path for each in first.differences if each.path.startswith("state")] == [
        "state.costs"
    ]
    assert not [each for each in second.differences if each.path.startswith("state")]


async def test_attempts_waits_and_the_end_count(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", order(fails=True))
    calm = replace(one, transitions=one.transitions[1:])
    [place] = part(one, calm).places
    assert [each.path for each in place.differences] == ["attempts[0]"]
    assert place.differences[0].expected["outcome"] == "retried"
    gone = replace(one, timers=[], run=replace(one.run, status="idle"))
    assert [each.path for each in part(one, gone).run] == ["status", "waiting"]


async def test_all_of_what_is_arranged_counts_but_ids_that_were_made_up(make: Make):
    workflow = make()

    @workflow.on("half")
    async def join(event: WorkflowEvent, ctx: Context):
        if ctx.collect("pair", "half", count=2) is None:
            ctx.schedule(WorkflowEvent("late", None, event.data), delay=60, key="k")
            ctx.schedule(WorkflowEvent("gone"), delay=60, key="gone")
        else:
            ctx.cancel("gone")

    runs = {
        (name, by): await sold(
            workflow, f"{name}{by}", *(WorkflowEvent("half", {"by": by}) for _ in range(2))
        )
        for name, by in (("a", 1), ("b", 1), ("c", 2))
    }
    one, other, third = runs.values()
    assert [row.arranged is None for row in one.transitions] == [False, False]
    assert part(one, other).is_same
    found = part(one, third)
    assert [each.path for each in found.places[0].differences] == [
        "event.data.by",
        "arranged.join.timers.k.metadata.by",
    ]
    assert [each.path for each in found.run] == ["waiting.timers.k.metadata.by"]


async def test_a_longer_run_differs_where_the_other_has_no_event(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", order())
    await sold(workflow, "b", order())
    other = await sold(workflow, "b", WorkflowEvent("note"))
    [place] = part(one, other).places
    assert (place.position, place.one) == (3, None)
    assert place.other is not None
    assert place.other["event"] == {"name": "note"}
    assert place.to_json()["one"] is None


async def test_what_is_pending_differs_from_what_is_handled(make: Make):
    workflow = shop(make)
    one = await sold(workflow, "a", order())
    copy = await workflow.run("a").fork(at=1)
    other = await archive_of(workflow, copy.correlation_id)
    found = part(one, other)
    assert (found.same, [each.path for each in found.run]) == (1, ["status"])
    assert [each.path for each in found.places[0].differences] == [
        "attempts[0]",
        "pending",
        "state.done",
    ]


async def test_chunks_of_streams_count(make: Make):
    workflow = make()

    async def letters(text: str):
        for letter in text:
            yield letter

    @workflow.on("go")
    async def go(event: WorkflowEvent):
        yield WorkflowEvent("text", {"body": letters(event.metadata["text"])})

    runs = [
        await sold(workflow, f"run {text}", WorkflowEvent("go", metadata={"text": text}))
        for text in ("abc", "abd")
    ]
    assert [each.path for place in part(*runs).places for each in place.differences] == [
        "event.metadata.text",
        "streams['1/go/c1/body'][2]",
    ]


async def test_long_runs_that_part_early_are_compared_in_linear_time(tmp_path):
    """G11: whole states are compared at the first places only, and as they are in the end."""
    workflow = WorkflowManager(f"sqlite:///{tmp_path}/long.db?synchronous=OFF")
    last = 399

    @workflow.on("add")
    def add(event: WorkflowEvent, state: dict[str, Any]):
        late = {"late": event.metadata} if event.data in {last, last + 1} else {}
        return {"seen": [*state.get("seen", []), event.data], **late}

    sizes = (last // 4, last)
    async with workflow:
        for size in sizes:
            for name, first in (("one", 0), ("other", 1)):
                run = f"{name}-{size}"
                events = [
                    WorkflowEvent("add", each + first, {"run": name}, correlation_id=run)
                    for each in range(1, size + 1)
                ]
                await workflow.send_many(events)
                await workflow.run(run).wait()
    reader = await workflow._runtime.reader()
    counts: list[int] = []
    for size in sizes:
        one, other = await reader.read_archives([f"one-{size}", f"other-{size}"])
        count, found = calls_of(partial(part, one, other))
        counts.append(count)
        assert len(found.places) == size
        told = [each.path for place in found.places for each in place.differences]
        assert f"state.seen[{MOST_STATES - 1}]" in told
        assert f"state.seen[{MOST_STATES}]" not in told
        rest = [each.path for each in found.run]
        assert f"state.seen[{MOST_STATES}]" in rest
        assert ("state.late.run" in rest) == (size == last)
        assert "state.seen[0]" not in rest
    await workflow.close()
    assert counts[1] < 6 * counts[0]
