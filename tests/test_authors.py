"""At which event a handler that waits again and again has left what it left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from calls import calls_of
from hypothesis import given
from hypothesis import strategies as st

from flowstore.replay.authors import NEVER, Authors
from flowstore.replay.origins import Origins, origin_of
from flowstore.store.archive import Archive
from flowstore.store.arranged import Told, to_text
from flowstore.store.base import Outstanding, RunRow, StepRow, StoredEvent, TransitionRow
from flowstore.store.excerpt import Excerpt

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = RunRow(1, "r", "w", "idle", 9, 9, 1, 1, None, None, None, None, None, 0, 0)


def transition(number: int, outcome: str, told: Told | None) -> TransitionRow:
    name = "work" if number == 1 else "work@1"
    text = to_text(Outstanding(), told)
    return TransitionRow(
        1, number, number, name, 1, outcome, None, None, None, number * 10, 5, None, text
    )


def step(number: int, started_at: int) -> StepRow:
    return StepRow(1, 1, "work", "ask", number, "1", started_at, 1)


def progress(number: int, position: int) -> StoredEvent:
    cells: dict[str, Any] = dict.fromkeys(StoredEvent._fields)
    cells |= {"id": f"1/work/p{number}", "position": position, "name": "progress", "created_at": 0}
    return StoredEvent(**{**cells, "causation_id": "sent"})


def waiting(tolds: list[Told | None], outcomes: list[str]) -> Archive:
    rows = [
        transition(number, outcome, told)
        for number, (told, outcome) in enumerate(zip(tolds, outcomes, strict=True), 1)
    ]
    return Archive(run=RUN, transitions=rows)


counts = st.integers(0, 4)
legs = st.tuples(
    st.sampled_from(["parked", "parked", "dead", "postponed"]),
    st.none() | st.builds(lambda p, s: Told([], p, 0, {"ask": s}), counts, counts),
)


@given(st.lists(legs, min_size=1, max_size=8), st.integers(1, 5), st.integers(10, 90))
def test_it_is_the_first_attempt_that_tells_of_it(
    found: list[tuple[str, Told | None]], number: int, moment: int
):
    outcomes, tolds = [each for each, _ in found], [told for _, told in found]
    tolds[0] = tolds[0] or Told([], 0, 0, {})
    archive = waiting(tolds, outcomes)
    never = NEVER if outcomes[-1] in {"parked", "postponed"} else len(found)

    def first(reached: list[int], is_not: list[bool]) -> int:
        each = zip(reached, is_not, strict=True)
        places = [
            place for place, (count, out) in enumerate(each, 1) if count >= number and not out
        ]
        return places[0] if places else never

    sent = [0 if told is None else told.progress for told in tolds]
    assert Authors(archive).of_event(progress(number, 50)) == first(sent, [False] * len(sent))
    come = [0 if told is None else told.steps.get("ask", 0) for told in tolds]
    # A dead letter may have come to a step and not have done it.
    left = [each == "dead" and moment > 10 * place + 5 for place, each in enumerate(outcomes, 1)]
    assert Authors(archive).of_step(step(number, moment)) == first(come, left)


def often(waits: int) -> Archive:
    """Return a run whose handler tells a bit of progress and does a step before each wait."""
    tolds: list[Told | None] = [Told([], each, 0, {"ask": each}) for each in range(1, waits + 1)]
    archive = waiting(tolds, ["parked"] * (waits - 1) + ["handled"])
    archive.steps = [step(each, each * 10) for each in range(1, waits + 1)]
    archive.events = [progress(each, waits + each) for each in range(1, waits + 1)]
    return archive


def calls_of_authors(waits: int) -> int:
    archive = often(waits)
    authors, places = Authors(archive), list(range(1, waits + 1))

    def look() -> None:
        assert list(map(authors.of_step, archive.steps)) == places
        assert list(map(authors.of_event, archive.events)) == places

    return calls_of(look)[0]


def calls_of_history(waits: int) -> int:
    archive = often(waits)
    page = Excerpt(
        events=[], transitions=archive.transitions, steps=archive.steps, caused=archive.events
    )
    origins = Origins()

    def look() -> None:
        origins.turn(page)
        came = [origins.take(row, *origin_of(row)) for row in archive.transitions]
        assert came == [
            ([event], [step]) for event, step in zip(archive.events, archive.steps, strict=True)
        ]

    return calls_of(look)[0]


@pytest.mark.parametrize("calls", [calls_of_authors, calls_of_history])
def test_a_handler_that_waits_often_is_gone_through_in_linear_time(calls: Callable[[int], int]):
    """G11: counted in calls of functions."""
    assert calls(400) < 5 * calls(100)
