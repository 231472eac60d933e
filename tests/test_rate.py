"""How often tasks may start, compared with a plain model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowstore.rate import Limiter, Rate

SECOND = 1_000_000


@given(
    most=st.integers(1, 4),
    steps=st.lists(st.integers(0, 3 * SECOND) | st.just(SECOND), max_size=60),
)
def test_no_span_of_time_has_more_starts_than_may_be_and_none_waits_for_nothing(most, steps):
    limiter, now, starts = Limiter(Rate(most, 1.0)), 0, []
    for step in steps:
        now += step
        recent = [start for start in starts if start > now - SECOND]
        wait = limiter.wait(now)
        assert (wait == 0) == (len(recent) < most)
        if wait:
            assert limiter.wait(now + wait - 1) > 0
            now += wait
            assert limiter.wait(now) == 0
        limiter.start(now)
        starts.append(now)


def test_a_clock_that_is_set_back_stops_nothing():
    limiter = Limiter(Rate(2, 3600.0))
    now = 10**15
    for _ in range(2):
        limiter.start(now)
    assert limiter.wait(now) == 3600 * SECOND
    days = 3 * 24 * 3600 * SECOND
    assert limiter.wait(now - days) == 0
    limiter.start(now - days)
    limiter.start(now - days)
    assert limiter.wait(now - days) == 3600 * SECOND
