"""Which attempt emitted which events and ran which steps.

The ids of both name the event and its handler. Which of the handler's attempts it was, if there
were several, is told by the time: attempts of one handler at one event follow one another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flowstore.store.base import DEAD, DROPPED, HANDLED, PARKED, POSTPONED, RETRIED, began_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from flowstore.store.base import StepRow, StoredEvent, TransitionRow
    from flowstore.store.excerpt import Excerpt

    _Item = TypeVar("_Item")

_EMITTED: Final = re.compile(r"(?P<position>\d+)/(?P<handler>.+)/(?P<letter>[pc]?)\d+", re.DOTALL)
"""Ids of emitted events: by number, or with a letter those that are sent off at once."""

_FAILURE: Final = re.compile(r"\d+/.+/error", re.DOTALL)
_CHOSEN: Final = ""
"""Stands for the handler of events with ids of its choice: these do not say which it was."""

Place = tuple[int, str]


def origin_of(row: TransitionRow) -> Place:
    """Return the position of the event that an attempt was for, and the handler's name.

    A handler that has waited, or has put its event off, goes on at another event, and is
    recorded there as ``name@position``.
    """
    return began_at(row.handler, row.position)


@dataclass(slots=True)
class _Came:
    """What came of one handler at one event and has not been told yet."""

    events: list[StoredEvent] = field(default_factory=list["StoredEvent"])
    steps: list[StepRow] = field(default_factory=list["StepRow"])


class Origins:
    """What came of the events of one page, and of those before it whose handlers wait."""

    def __init__(self) -> None:
        self._came: dict[Place, _Came] = {}
        self._failures: dict[str, StoredEvent] = {}
        self._waiting: set[Place] = set()

    def turn(self, page: Excerpt) -> None:
        """Go on to a page; what is left over of handlers that have ended is forgotten."""
        kept = {position for position, _ in self._waiting}
        self._came = {
            place: came
            for place, came in self._came.items()
            if place in self._waiting or (place[1] == _CHOSEN and place[0] in kept)
        }
        self._failures = {}
        self.add(page)

    def add(self, page: Excerpt, since: int = 0) -> None:
        """Take in what came of some events from a moment on, in microseconds since 1970."""
        positions = {event.id: event.position for event in page.events}
        for event in page.caused:
            if event.created_at < since:
                continue
            if _FAILURE.fullmatch(event.id):
                self._failures[event.id] = event
            elif found := _EMITTED.fullmatch(event.id):
                self._at(int(found["position"]), found["handler"]).events.append(event)
            elif event.causation_id in positions and not event.id.startswith(
                f"{positions[event.causation_id]}/"
            ):
                self._at(positions[event.causation_id], _CHOSEN).events.append(event)
        for step in page.steps:
            if step.started_at >= since:
                self._at(step.position, step.handler).steps.append(step)

    def _at(self, position: int, handler: str) -> _Came:
        return self._came.setdefault((position, handler), _Came())

    def has(self, position: int, handler: str) -> bool:
        """Tell whether it is known what came of a handler that waits or is to be tried again."""
        return (position, handler) in self._waiting

    def take(
        self, row: TransitionRow, position: int, handler: str
    ) -> tuple[list[StoredEvent], list[StepRow]]:
        """Return what came of one attempt, which must be asked for in order.

        Args:
            row: the attempt.
            position: the event that the handler handles.
            handler: its name.
        """
        end = row.started_at + row.duration
        place = (position, handler)
        goes_on = row.outcome in (PARKED, POSTPONED, RETRIED)
        (self._waiting.add if goes_on else self._waiting.discard)(place)
        is_last = row.outcome in (HANDLED, DROPPED)  # a dead letter can be retried
        counts = row.outcome not in (RETRIED, DEAD, POSTPONED)
        came = self._at(position, handler)

        def is_its(event: StoredEvent) -> bool:
            return (is_last or event.created_at <= end) and (counts or _is_sent_at_once(event))

        events, came.events = _split(came.events, is_its)
        steps, came.steps = _split(came.steps, lambda step: is_last or step.started_at <= end)
        if counts and (position, _CHOSEN) in self._came:
            chosen = self._at(position, _CHOSEN)
            found, chosen.events = _split(chosen.events, lambda event: event.created_at <= end)
            events = sorted([*events, *found], key=lambda event: event.position)
        failure = self._failures.get(f"{row.position}/{row.handler}/error")
        if failure is not None and row.outcome == DEAD:
            events.append(failure)
        return events, steps


def _is_sent_at_once(event: StoredEvent) -> bool:
    found = _EMITTED.fullmatch(event.id)
    return found is not None and found["letter"] != ""


def _split(
    items: list[_Item], is_wanted: Callable[[_Item], bool]
) -> tuple[list[_Item], list[_Item]]:
    """Return those that are wanted and the rest, both in order."""
    if not items:
        return items, items
    wanted = [item for item in items if is_wanted(item)]
    return wanted, [item for item in items if not is_wanted(item)]
