"""The clock that tests use is itself to be trusted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from flowstore.clock import Clock, to_datetime
from flowstore.testing import VirtualClock


def sleepers(clock, *seconds):
    """Start one sleeper for each; they note when they woke."""
    woken = []

    async def sleep(number):
        before = clock.now()
        await clock.sleep(number)
        woken.append((number, (clock.now() - before) / 1_000_000))

    return woken, [asyncio.create_task(sleep(number)) for number in seconds]


async def test_it_begins_where_it_is_told_and_stands_still():
    start = datetime(2031, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    clock = VirtualClock(start)
    assert isinstance(clock, Clock)
    assert clock.moment == to_datetime(clock.now()) == start
    await asyncio.sleep(0)
    assert clock.moment == start


async def test_sleepers_wake_in_the_order_of_their_moments_each_at_its_own(clock):
    woken, tasks = sleepers(clock, 30, 10, 20, 10.5)
    await clock.advance(25)
    assert woken == [(10, 10), (10.5, 10.5), (20, 20)]
    assert clock.asleep == [5]
    await clock.advance(5)
    await asyncio.gather(*tasks)
    assert woken[-1] == (30, 30)


async def test_no_one_wakes_early(clock):
    woken, (task,) = sleepers(clock, 10)
    await clock.advance(9.999999)
    assert woken == []
    await clock.advance(0.000001)
    await task
    assert woken == [(10, 10)]


async def test_who_goes_back_to_sleep_is_woken_again_on_the_way(clock):
    ticks = []

    async def tick():
        for _ in range(5):
            await clock.sleep(2)
            ticks.append(clock.moment)

    start = clock.moment
    task = asyncio.create_task(tick())
    await clock.advance(7)
    assert ticks == [start + timedelta(seconds=n) for n in (2, 4, 6)]
    await clock.advance(3)
    await task


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_is_no_sleep(clock, seconds):
    await clock.sleep(seconds)
    assert clock.asleep == []


async def test_a_sleeper_that_was_cancelled_is_forgotten(clock):
    woken, (task,) = sleepers(clock, 10)
    await clock.until_asleep()
    task.cancel()
    await asyncio.wait([task])
    assert clock.asleep == []
    await clock.advance(20)
    assert woken == []


async def test_waiting_for_a_sleeper_of_a_certain_length(clock):
    waiting = asyncio.create_task(clock.until_asleep(60))
    _, tasks = sleepers(clock, 10)
    await clock.until_asleep()
    assert not waiting.done()
    _, more = sleepers(clock, 60)
    await waiting
    await clock.advance(60)
    await asyncio.gather(*tasks, *more)


async def test_an_automatic_clock_moves_on_by_itself():
    clock = VirtualClock(is_automatic=True)
    start = clock.now()
    woken, tasks = sleepers(clock, 3600, 60, 7200)
    await asyncio.gather(*tasks)
    assert woken == [(60, 60), (3600, 3600), (7200, 7200)]
    assert clock.now() - start == 7200 * 1_000_000


def test_ids_and_chances_are_known_beforehand():
    clock, other = VirtualClock(), VirtualClock(prefix="other-")
    assert [clock.new_id() for _ in range(3)] == ["id-1", "id-2", "id-3"]
    assert other.new_id() == "other-1"
    assert clock.random("seed").random() == other.random("seed").random()
    assert clock.random("seed").random() != clock.random("another").random()


def test_it_serves_one_event_loop_after_another():
    clock = VirtualClock()

    async def leave_a_sleeper():
        task = asyncio.create_task(clock.sleep(10))
        await clock.until_asleep()
        return task

    async def go_on():
        await clock.advance(20)
        return clock.asleep

    asyncio.run(leave_a_sleeper())
    assert asyncio.run(go_on()) == []
