"""The moments of a cron, across summer time, and expressions that make no sense."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from test_cron import TICK, Tick

from flowstore import WorkflowEvent
from flowstore.clock import to_datetime, to_microseconds
from flowstore.errors import ConfigurationError, EventTypeError, InvalidValueError
from flowstore.schedule import Schedule


def first(expression, timezone, start, count):
    """Return the first moments after a time of that zone, in UTC."""
    schedule, found = Schedule(expression, timezone), []
    at = to_microseconds(start.replace(tzinfo=ZoneInfo(timezone)))
    for _ in range(count):
        at = schedule.after(at)
        found.append(f"{to_datetime(at):%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03-31 01:00", "04-01 00:30"]),  # at the end of the gap
        ("0,30 2 * * *", ["03-31 01:00", "04-01 00:00"]),  # both fall into it: once
        ("30 1,2,3 * * *", ["03-31 00:30", "03-31 01:00", "03-31 01:30", "03-31 23:30"]),
        ("*/30 2 * * *", ["04-01 00:00", "04-01 00:30"]),  # there is no such hour
        ("30 * * * *", ["03-30 23:30", "03-31 00:30", "03-31 01:30"]),  # each hour that there is
    ],
)
def test_the_hour_that_is_left_out_in_berlin(expression, expected):
    assert first(expression, "Europe/Berlin", datetime(2030, 3, 31), len(expected)) == expected  # noqa: DTZ001


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["10-27 00:30", "10-28 01:30"]),  # the first of the two
        ("*/30 2 * * *", ["10-27 00:00", "10-27 00:30", "10-27 01:00", "10-27 01:30"]),
        ("30 * * * *", ["10-26 22:30", "10-26 23:30", "10-27 00:30", "10-27 01:30"]),
        ("0 3 * * *", ["10-27 02:00", "10-28 02:00"]),
    ],
)
def test_the_hour_that_comes_twice_in_berlin(expression, expected):
    assert first(expression, "Europe/Berlin", datetime(2030, 10, 27), len(expected)) == expected  # noqa: DTZ001


def test_summer_time_in_new_york():
    spring, autumn = datetime(2030, 3, 10), datetime(2030, 11, 3)  # noqa: DTZ001
    zone = "America/New_York"
    assert first("30 2 * * *", zone, spring, 2) == ["03-10 07:00", "03-11 06:30"]
    assert first("30 1 * * *", zone, autumn, 2) == ["11-03 05:30", "11-04 06:30"]
    assert first("0 9 * * mon-fri", zone, spring, 2) == ["03-11 13:00", "03-12 13:00"]
    assert first("0 9 * * 1-5", zone, autumn, 1) == ["11-04 14:00"]
    assert first("*/20 1 * * *", zone, autumn, 6)[3:] == [
        "11-03 06:00",
        "11-03 06:20",
        "11-03 06:40",
    ]


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
)
def test_moments_are_the_same_from_wherever_one_looks(zone):
    """Walking over both changes of the year, and asking from any moment on the way."""
    chance = random.Random(5)
    start, end = (to_microseconds(datetime(2030, month, 1, tzinfo=UTC)) for month in (3, 5))
    for expression in ("30 2 * * *", "*/20 1-3 * * *", "15 * * * *", "0,30 1,2,3 * * *"):
        schedule, walked, at = Schedule(expression, zone), [], start
        for month in (3, 10):
            at = to_microseconds(datetime(2030, month, 1, tzinfo=UTC))
            end = to_microseconds(datetime(2030, month + 1, 15, tzinfo=UTC))
            begin, walked = at, []
            while (at := schedule.after(at)) <= end:
                walked.append(at)
            assert walked == sorted(set(walked))
            for _ in range(300):
                asked = chance.randint(begin, walked[-2])
                assert schedule.after(asked) == next(each for each in walked if each > asked)
            assert schedule.last(begin, end, 7) == walked[-7:]
            assert schedule.last(begin, end, 10_000) == walked


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "0 0 30 2 *", "* * */20 * 1L",
     "soon", "* * * * 1#2/2", "9" * 4400 + " * * * *", "*" * 300, None, 5, "\ud800 * * * *"],
)  # fmt: skip
def test_an_expression_that_makes_no_sense_is_refused(make, expression):
    with pytest.raises(ConfigurationError, match="cron"):
        make().cron(expression, TICK)


@pytest.mark.parametrize(
    "timezone", ["Mars/Base", "", "Europe", "/etc/passwd", "../x", "a\0b", None]
)
def test_a_timezone_that_there_is_not_is_refused(make, timezone):
    with pytest.raises(ConfigurationError, match="timezone"):
        make().cron("0 9 * * *", TICK, timezone=timezone)


async def test_what_is_wrong_is_refused_when_it_is_declared(make):
    """G10."""
    workflow = make()
    with pytest.raises(InvalidValueError, match=r"data\.x"):
        workflow.cron("0 9 * * *", WorkflowEvent("tick", {"x": {1}}))
    with pytest.raises(EventTypeError):
        workflow.cron("0 9 * * *", "tick")
    with pytest.raises(ConfigurationError, match="correlation_id="):
        workflow.cron("0 9 * * *", WorkflowEvent("tick", id="mine"))
    with pytest.raises(ConfigurationError, match="missed"):
        workflow.cron("0 9 * * *", TICK, missed="some")
    with pytest.raises(InvalidValueError):
        workflow.cron("0 9 * * *", TICK, name="")
    with pytest.raises(InvalidValueError):
        workflow.cron("0 9 * * *", TICK, correlation_id="x" * 256)
    with pytest.raises(InvalidValueError):
        workflow.cron("0 9 * * *", TICK, name="x" * 230)
    assert workflow.cron("0 9 * * *", TICK) is workflow
    with pytest.raises(ConfigurationError, match="two crons"):
        workflow.cron("0  9 * * *", TICK)
    workflow.cron("0 9 * * *", Tick("x"), name="x" * 229)
    async with workflow:
        with pytest.raises(ConfigurationError, match="served"):
            workflow.cron("0 10 * * *", TICK)
    workflow.cron("0 10 * * *", TICK)
