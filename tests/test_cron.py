"""Crons: moments that recur, each fired once, whatever clocks, processes and summer time do."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from watching import drops, names, query

from flowstore import WorkflowEvent
from flowstore.clock import to_microseconds
from flowstore.errors import InvalidValueError
from flowstore.testing import VirtualClock

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
TICK = WorkflowEvent("tick", {"a": 1})


@dataclass
class Tick:
    text: str


class WallClock(VirtualClock):
    """A clock that can be set; who sleeps does not notice."""

    ahead = timedelta()

    def now(self):
        return super().now() + self.ahead // timedelta(microseconds=1)


@pytest.fixture
def clock():
    return WallClock()


def served(make, clock, expression="0 9 * * *", **options):
    """Make a manager with one cron, whose firings go to the run ``r``."""
    workflow = make(clock=clock)
    options = {"name": "n", "correlation_id": "r", **options}
    workflow.cron(expression, TICK, **options)
    workflow.on("tick")(lambda event: None)
    return workflow


async def settled(workflow):
    """Return when what is due has been fired and handled."""
    # One firing leads to the next: two events go through the writer behind each.
    count = -1
    while (found := len(query_ticks(workflow))) != count:
        count = found
        for _ in range(3):
            await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
    await workflow.run("flush").wait()


async def later(workflow, clock, seconds, step=DAY):
    """Let time pass, in steps, and return the moments that have been fired."""
    await settled(workflow)
    for _ in range(round(seconds / step)):
        await clock.advance(step)
        await settled(workflow)
    return moments(workflow)


def query_ticks(workflow):
    path = workflow._runtime.url.path
    if not path.exists():
        return []
    return query(path, "SELECT id FROM event WHERE name = 'tick' ORDER BY seq")


def moments(workflow):
    return [event_id.removeprefix("cron/n/") for (event_id,) in query_ticks(workflow)]


# --- firing ------------------------------------------------------------------------------


async def test_each_firing_is_a_run_of_its_own_if_none_is_named(make, clock):
    workflow = make(clock=clock)
    workflow.cron("0 9 * * *", Tick("tea"), timezone="Europe/Berlin")
    got = []
    workflow.register(Tick, got.append)
    async with workflow:
        await later(workflow, clock, DAY, HOUR)
        await workflow.run("cron/Tick 0 9 * * */2030-01-01T08:00:00Z").wait()
    assert got == [Tick("tea")]
    record, _ = await workflow.runs()
    assert record.correlation_id == "cron/Tick 0 9 * * */2030-01-01T08:00:00Z"
    (event,) = [each async for each in workflow.run(record.correlation_id).events()]
    assert (event.id, event.data) == (record.correlation_id, {"text": "tea"})
    assert event.created_at == datetime(2030, 1, 1, 8, tzinfo=UTC)


async def test_all_firings_go_to_the_run_that_is_named(make, clock):
    workflow = served(make, clock)
    async with workflow:
        found = await later(workflow, clock, 3 * DAY)
    assert found == [f"2030-01-0{day}T09:00:00Z" for day in (1, 2, 3)]
    assert await names(workflow.run("r").events()) == ["tick"] * 3


async def test_no_one_else_can_use_its_ids(make, workflow):
    """G5: else someone could keep a moment from firing."""
    for event_id in ("cron/n/2030-01-01T09:00:00Z", "cron/a/b/2030-01-01T09:00:00Z"):
        with pytest.raises(InvalidValueError):
            await workflow.send(TICK, correlation_id="r", id=event_id)
    for event_id in ("cron/n", "cron/n/2030", "x/cron/n/2030-01-01T09:00:00Z"):
        assert (await workflow.send(TICK, correlation_id="r", id=event_id)).status == "accepted"


async def test_it_begins_when_it_is_first_served(make, clock):
    """What was before is no one's loss."""
    workflow = served(make, clock, missed="all")
    async with workflow:
        assert await later(workflow, clock, 0) == []
        assert await later(workflow, clock, DAY) == ["2030-01-01T09:00:00Z"]


async def test_two_managers_fire_each_moment_once(make, clock):
    one, two = (served(make, clock, "*/5 * * * *") for _ in range(2))
    async with one, two:
        await later(one, clock, HOUR, MINUTE)
        await settled(two)
    assert moments(one) == [f"2030-01-01T00:{minute:02}:00Z" for minute in range(5, 60, 5)] + [
        "2030-01-01T01:00:00Z"
    ]
    assert await drops(one, "r") == []


async def test_two_managers_whose_clocks_differ_fire_each_moment_once(make, clock):
    """One is four hours ahead: the other finds its moments fired, but for those passed over."""
    ahead = VirtualClock(clock.moment + timedelta(hours=4), prefix="ahead-")
    one, two = served(make, clock, "0 * * * *"), served(make, ahead, "0 * * * *")
    async with one, two:
        await settled(one)
        await settled(two)
        for _ in range(10):
            await ahead.advance(HOUR)
            await settled(two)
            await clock.advance(HOUR)
            await settled(one)
    assert sorted(moments(one)) == [f"2030-01-01T{hour:02}:00:00Z" for hour in range(1, 15)]
    assert await drops(one, "r") == []


# --- what was missed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("last", ["2030-01-05T09:00:00Z"]),
        ("skip", []),
        ("all", [f"2030-01-0{day}T09:00:00Z" for day in (2, 3, 4, 5)]),
    ],
)
@pytest.mark.parametrize("is_serving", [True, False])
async def test_what_was_missed(make, clock, missed, expected, is_serving):
    """Because nothing served the workflow, or because the clock was set ahead by days."""
    workflow = served(make, clock, missed=missed)
    async with workflow:
        assert await later(workflow, clock, DAY) == ["2030-01-01T09:00:00Z"]
        if is_serving:
            clock.ahead = timedelta(days=4)
            await clock.advance(MINUTE)
            await settled(workflow)
    if not is_serving:
        await clock.advance(4 * DAY)
    async with workflow:
        assert (await later(workflow, clock, 0))[1:] == expected
        assert (await later(workflow, clock, DAY))[1:] == [*expected, "2030-01-06T09:00:00Z"]


async def test_a_moment_that_is_over_by_less_than_a_minute_is_not_missed(make, clock):
    workflow = served(make, clock, missed="skip")
    async with workflow:
        await later(workflow, clock, 0)
    await clock.advance(9 * HOUR + 59)
    async with workflow:
        assert await later(workflow, clock, 0) == ["2030-01-01T09:00:00Z"]
    await clock.advance(DAY + 2)
    async with workflow:
        assert await later(workflow, clock, 0) == ["2030-01-01T09:00:00Z"]


async def test_all_that_was_missed_has_an_end(make, clock):
    """The last thousand, in order."""
    workflow = served(make, clock, "* * * * *", missed="all")
    async with workflow:
        await later(workflow, clock, 0)
    await clock.advance(30 * DAY)
    async with workflow:
        found = await later(workflow, clock, 0)
    assert len(found) == 1000
    assert found == sorted(found)
    assert found[-1] == "2030-01-31T00:00:00Z"


@pytest.mark.parametrize("missed", ["last", "skip", "all"])
async def test_a_clock_that_is_set_back_by_days_fires_nothing_twice(make, clock, missed):
    """G5."""
    workflow = served(make, clock, missed=missed)
    async with workflow:
        before = await later(workflow, clock, 5 * DAY)
        clock.ahead = -timedelta(days=3)
        assert await later(workflow, clock, 3 * DAY, DAY / 4) == before
        clock.ahead = -timedelta(days=6)
        assert await later(workflow, clock, DAY, DAY / 4) == before
    async with workflow:  # a new start knows it too
        found = await later(workflow, clock, 4 * DAY, DAY / 4)
    assert found == [f"2030-01-0{day}T09:00:00Z" for day in range(1, 8)]
    assert await drops(workflow, "r") == []


@pytest.mark.parametrize("missed", ["last", "skip", "all"])
async def test_a_clock_that_is_set_ahead_by_days_for_a_while_loses_nothing(make, clock, missed):
    """What it passed over while it was ahead comes when it is time."""
    workflow = served(make, clock, missed=missed)
    async with workflow:
        await later(workflow, clock, DAY)
        clock.ahead = timedelta(days=3)
        await later(workflow, clock, HOUR, HOUR)
        clock.ahead = timedelta()
        if missed == "skip":
            assert moments(workflow) == ["2030-01-01T09:00:00Z"]
        found = await later(workflow, clock, 5 * DAY, HOUR)
    assert sorted(found) == [f"2030-01-0{day}T09:00:00Z" for day in range(1, 7)]
    assert await drops(workflow, "r") == []


async def test_what_is_left_out_is_told(make, clock, caplog):
    """G7."""
    workflow = served(make, clock)
    async with workflow:
        await later(workflow, clock, DAY)
        clock.ahead = timedelta(days=4)
        await later(workflow, clock, HOUR, HOUR)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "from 2030-01-02 09:00:00+00:00 to 2030-01-05 09:00:00+00:00" in record.message


async def test_a_run_that_is_closed_gets_no_more_and_that_is_recorded(make, clock):
    """G6, G7."""
    workflow = served(make, clock)
    async with workflow:
        await later(workflow, clock, DAY)
        await workflow.run("r").cancel()
        assert await later(workflow, clock, DAY) == ["2030-01-01T09:00:00Z"]
    assert await drops(workflow, "r") == [("cron/n/2030-01-02T09:00:00Z", "stale")]


async def test_a_run_of_another_workflow_is_left_alone(make, clock, caplog):
    """Nothing of it is lost: it says so, and a start under another name makes up for it."""
    other = make(clock=clock, name="other")
    await other.send(TICK, correlation_id="r")
    workflow = served(make, clock)
    async with workflow:
        assert await later(workflow, clock, 2 * DAY) == [other_id(other)]
        assert "belongs to workflow 'other'" in caplog.text
    assert query(workflow._runtime.url.path, "SELECT last_at FROM cron") == [
        (to_microseconds(datetime(2030, 1, 1, tzinfo=UTC)),)
    ]


def other_id(other):
    ((event_id,),) = query(other._runtime.url.path, "SELECT id FROM event WHERE name = 'tick'")
    return event_id


async def test_an_upcaster_that_is_registered_later_leaves_its_events_alone(make, clock):
    workflow = make(clock=clock)
    workflow.cron("0 9 * * *", Tick("new"), name="n", correlation_id="r")
    workflow.upcaster(Tick, 1)(lambda data: {"text": f"old {data}"})
    got = []
    workflow.register(Tick, got.append)
    async with workflow:
        await later(workflow, clock, DAY)
        await workflow.run("r").wait()
    assert got == [Tick("new")]
