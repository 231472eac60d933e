"""The moments of cron expressions against a walk through every minute, where clocks change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from flowstore.clock import to_datetime, to_microseconds
from flowstore.schedule import Schedule

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CHANGES = [
    ("Europe/Berlin", datetime(2030, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2030, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2030, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2030, 11, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2030, 4, 5, tzinfo=UTC)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2030, 10, 4, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 2, tzinfo=UTC)),  # at midnight
    ("America/Sao_Paulo", datetime(2018, 2, 16, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 28, tzinfo=UTC)),  # a whole day is left out
    ("UTC", datetime(2030, 3, 29, tzinfo=UTC)),
]
FIELDS = (
    ("0", "30", "*/15", "*", "0,30", "15", "*/20", "5-10"),
    ("*", "2", "0", "1-3", "*/2", "3", "23", "0,2", "1,2,3"),
    ("*", "*", "*", "1-31", "28-31", "*/2", "L"),
    ("*",),
    ("*", "*", "*", "0", "1-5", "6,0"),
)


@pytest.mark.parametrize(("timezone", "around"), CHANGES)
def test_the_moments_are_those_of_a_walk_through_every_minute(timezone, around):
    chance = random.Random(f"{timezone}{around}")
    for _ in range(25):
        expression = " ".join(map(chance.choice, FIELDS))
        start = around + chance.randint(0, 2000) * MINUTE
        schedule, found, at = Schedule(expression, timezone), [], to_microseconds(start)
        while (at := schedule.after(at)) <= to_microseconds(start + 4 * DAY):
            found.append(to_datetime(at))
        expected = walk(expression, ZoneInfo(timezone), start, start + 4 * DAY)
        assert found == expected, expression
        if expected:
            last = schedule.last(to_microseconds(start), to_microseconds(start + 4 * DAY), 5)
            assert list(map(to_datetime, last)) == expected[-5:]


def walk(expression, zone, start, end):
    """Return the moments with ``start < moment <= end``, the slow and plain way."""
    fields, (minutes, hours, *_) = CronSim(expression, start), expression.split()

    def fits(wall):
        return (
            wall.minute in fields.minutes
            and wall.hour in fields.hours
            and fields.match_day(wall.date())
        )

    if minutes.startswith("*") or hours.startswith("*"):
        every = (start + number * MINUTE for number in range((end - start) // MINUTE + 1))
        return [at for at in every if at > start and fits(at.astimezone(zone))]
    first = (start - 2 * DAY).astimezone(zone).replace(tzinfo=None)
    walls = (first + number * MINUTE for number in range((end - start + 4 * DAY) // MINUTE))
    once = {_first(wall, zone) for wall in walls if fits(wall)}
    return sorted(at for at in once if start < at <= end)


def _first(wall, zone):
    """Return when a clock on the wall first shows this, or leaves it out."""
    while True:
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) == wall:
            return at
        wall += MINUTE
