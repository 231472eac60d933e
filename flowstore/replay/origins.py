"""Which attempt emitted which events and ran which steps, page by page.

What attempts have told is asked first, and where events lie in the run; the times count only
between several attempts at one event, and for records from before it was told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from flowstore.events import ERROR
from flowstore.replay.heard import emitted, has_come_to, sent, was_left
from flowstore.replay.record import EDITED
from flowstore.store.arranged import Told, read_told
from flowstore.store.base import (
    DEAD,
    DROPPED,
    HANDLED,
    PARKED,
    RETRIED,
    began_at,
    is_retry,
    retry_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.replay.heard import Place
    from flowstore.store.base import StepRow, StoredEvent, TransitionRow
    from flowstore.store.excerpt import Excerpt

_BRINGING: Final = (HANDLED, DROPPED, PARKED)
"""Outcomes of attempts whose commits bring what they have emitted."""

_FAILURE: Final = re.compile(r"\d+/.+/error", re.DOTALL)
_CHOSEN: Final = ""
"""Stands for the handler of events with ids of its choice: these do not say which it was."""


def origin_of(row: TransitionRow) -> Place:
    """Return the position of the event that an attempt was for, and the handler's name.

    A handler that has waited, or has put its event off, goes on at another event, and is
    recorded there as ``name@position``.
    """
    return began_at(row.handler, row.position)


@dataclass(slots=True)
class _Came:
    """What came of one handler at one event and has not been told yet.

    Attributes:
        events: by their ids.
        steps: by name and number.
        sent: how many of the events that were sent off at once have been told, by kind.
        done: how many of the steps of each name.
    """

    events: dict[str, StoredEvent] = field(default_factory=dict[str, "StoredEvent"])
    steps: dict[tuple[str, int], StepRow] = field(default_factory=dict[tuple[str, int], "StepRow"])
    sent: dict[str, int] = field(default_factory=dict[str, int])
    done: dict[str, int] = field(default_factory=dict[str, int])

    def split(self, share: _Share) -> tuple[list[StoredEvent], list[StepRow]]:
        """Take out what came of an attempt, going through all that there is."""
        events = [event for event in self.events.values() if share.has_event(event)]
        steps = [step for step in self.steps.values() if share.has_step(step)]
        for event in events:
            del self.events[event.id]
        for step in steps:
            del self.steps[step.name, step.number]
        return events, steps

    def split_told(
        self, share: _Share, told: Told, place: Place
    ) -> tuple[list[StoredEvent], list[StepRow]]:
        """Take out what an attempt has told, going through nothing else: it may wait often."""
        ids = list(told.events)
        keys: list[tuple[str, int]] = []
        for kind in "pc":
            new = range(self.sent.get(kind, 0) + 1, sent(told, kind) + 1)
            ids += [f"{place[0]}/{place[1]}/{kind}{number}" for number in new]
        for name, count in told.steps.items():
            keys += [(name, number) for number in range(self.done.get(name, 0) + 1, count + 1)]
        if share.row.outcome != DEAD:  # that may have come to more than it has done
            for kind in "pc":
                self.sent[kind] = max(self.sent.get(kind, 0), sent(told, kind))
            for name, count in told.steps.items():
                self.done[name] = max(self.done.get(name, 0), count)
        events = [self.events.pop(each) for each in ids if each in self.events]
        steps = [self.steps[key] for key in keys if key in self.steps]
        steps = [step for step in steps if share.has_step(step)]
        for step in steps:
            del self.steps[step.name, step.number]
        events.sort(key=attrgetter("position"))
        steps.sort(key=attrgetter("started_at", "number", "name"))
        return events, steps


class Origins:
    """What came of the events of one page, and of those before it whose handlers wait."""

    def __init__(self) -> None:
        self._came: dict[Place, _Came] = {}
        self._failures: dict[str, StoredEvent] = {}
        self._retries: dict[str, int] = {}
        self._waiting: set[Place] = set()
        self._attempts: dict[Place, list[TransitionRow]] = {}
        self._at_event: dict[int, list[TransitionRow]] = {}
        self._told: set[str] = set()

    def turn(self, page: Excerpt) -> None:
        """Go on to a page; what is left over of handlers that have ended is forgotten."""
        kept = {position for position, _ in self._waiting}
        self._came = {
            place: came
            for place, came in self._came.items()
            if place in self._waiting or (place[1] == _CHOSEN and place[0] in kept)
        }
        self._failures, self._retries = {}, {}
        self._attempts, self._at_event = defaultdict(list), defaultdict(list)
        self._told = set()
        for row in page.transitions:
            self._attempts[row.position, row.handler].append(row)
            told = read_told(row.arranged)
            self._told.update(() if told is None else told.events)
            if row.outcome in _BRINGING and told is None:
                self._at_event[origin_of(row)[0]].append(row)
        self.add(page)

    def add(self, page: Excerpt, since: TransitionRow | None = None) -> None:
        """Take in what came of some events.

        Args:
            page: has these events.
            since: leave out what came before this attempt.
        """
        positions = {event.id: event.position for event in page.events}
        moment, place = (0, 0) if since is None else (since.started_at, since.position)
        has_told = since is not None and self._share(since).told is not None
        for event in page.caused:
            named = emitted(event.id)
            is_named_by_record = has_told and not (named is not None and named.kind)
            if is_retry(event.name, event.id):
                self._retries[event.id] = event.position
            elif not is_named_by_record and (event.created_at < moment or event.position < place):
                continue
            elif _FAILURE.fullmatch(event.id):
                self._failures[event.id] = event
            elif named is not None:
                self._at(*named.place).events[event.id] = event
            elif event.causation_id in positions and not event.id.startswith(
                f"{positions[event.causation_id]}/"
            ):
                self._at(positions[event.causation_id], _CHOSEN).events[event.id] = event
        for step in page.steps:
            if step.started_at >= moment:
                self._at(step.position, step.handler).steps[step.name, step.number] = step

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
        if row.outcome == EDITED:
            return [], []
        came, share = self._at(position, handler), self._share(row)
        (self._waiting.discard if share.is_last else self._waiting.add)((position, handler))
        if share.told is None or share.is_last or row.outcome == RETRIED:
            events, steps = came.split(share)
        else:
            events, steps = came.split_told(share, share.told, (position, handler))
        chosen = self._came.get((position, _CHOSEN))
        if chosen is not None and share.brings:
            found = self._chosen(share, position, chosen.events)
            events = sorted([*events, *found], key=attrgetter("position"))
        failure = self._failures.get(f"{row.position}/{row.handler}/{ERROR}")
        if failure is not None and row.outcome == DEAD:
            events.append(failure)
        return events, steps

    def _chosen(
        self, share: _Share, position: int, events: dict[str, StoredEvent]
    ) -> list[StoredEvent]:
        """Take out the events with ids of its choice that came of an attempt."""
        if share.told is not None:
            return [events.pop(each) for each in share.ids if each in events]
        others = self._at_event[position]
        is_rest = share.row in others[-1:] and all(each != position for each, _ in self._waiting)
        found = [
            event
            for event in events.values()
            if event.id not in self._told and (is_rest or share.has_chosen(event, others))
        ]
        for event in found:
            del events[event.id]
        return found

    def _share(self, row: TransitionRow) -> _Share:
        attempts = self._attempts[row.position, row.handler]
        last = attempts[-1]
        end = None if last.outcome == RETRIED else last
        retried = None
        if end is not None and end.outcome == DEAD:
            retried = self._retries.get(retry_id(end.position, end.handler, end.number))
        told = None if end is None else read_told(end.arranged)
        ids = frozenset(() if told is None else told.events)
        later = [each for each in attempts if each.number > row.number]
        return _Share(row, told, ids, later, retried)


@dataclass(slots=True)
class _Share:
    """What of a handler's events and steps came of one of its attempts.

    Attributes:
        row: the attempt.
        told: what the last attempt at this event has told; None if the handler did not wait.
        ids: of the events that its commit brought, as it has told.
        later: the other attempts at this event that came behind it.
        retried: the position of the event that retries it, if it is a dead letter.
    """

    row: TransitionRow
    told: Told | None
    ids: frozenset[str]
    later: Sequence[TransitionRow]
    retried: int | None

    @property
    def brings(self) -> bool:
        """Whether its commit brought what it had emitted."""
        return self.row.outcome in _BRINGING

    @property
    def is_last(self) -> bool:
        """Whether nothing can have come of the handler behind it."""
        outcome = self.row.outcome
        return outcome in (HANDLED, DROPPED) or (outcome == DEAD and self.retried is None)

    def has_event(self, event: StoredEvent) -> bool:
        """Tell whether an event that the handler has emitted came of this attempt."""
        named = emitted(event.id)
        if named is None or not named.kind:
            if self.told is None or not self.brings:
                return self.brings and (self.is_last or event.created_at <= _end(self.row))
            return event.id in self.ids
        if event.position < self.row.position or event.position > (self.retried or event.position):
            return False
        if self.row.outcome == DEAD and self.told is None:
            return True
        is_told = None if self.told is None else named.number <= sent(self.told, named.kind)
        return self._is_its(event.created_at, is_told=is_told)

    def has_step(self, step: StepRow) -> bool:
        """Tell whether a step of the handler was done, or has failed, in this attempt."""
        if self.retried is not None and was_left(self.row, step):
            return False
        if self.row.outcome == DEAD and self.told is None:
            return True
        is_told = None if self.told is None else has_come_to(self.told, step)
        return self._is_its(step.started_at, is_told=is_told)

    def _is_its(self, moment: int, *, is_told: bool | None) -> bool:
        """Tell whether something came of this attempt.

        Args:
            moment: when it came, in microseconds since 1970.
            is_told: whether the last attempt here has told that it had come by then, None if it
                has told nothing.
        """
        if self.row.outcome == RETRIED:
            if _covers(self.row, moment):
                return True
            is_of_another = is_told is False or any(_covers(each, moment) for each in self.later)
            return moment <= _end(self.row) and not is_of_another
        if self.is_last:
            return True
        return moment <= _end(self.row) if is_told is None else is_told

    def has_chosen(self, event: StoredEvent, others: Sequence[TransitionRow]) -> bool:
        """Tell by the time whether an event with an id of the handler's choice came of this.

        Args:
            event: it.
            others: attempts for the same event whose commits may have brought it.
        """
        if _covers(self.row, event.created_at):
            return True
        is_of_another = any(_covers(each, event.created_at) for each in others)
        return event.created_at <= _end(self.row) and not is_of_another


def _end(row: TransitionRow) -> int:
    return row.started_at + row.duration


def _covers(row: TransitionRow, moment: int) -> bool:
    """Tell whether an attempt was under way at a moment, by the clock."""
    return row.started_at <= moment <= _end(row)
