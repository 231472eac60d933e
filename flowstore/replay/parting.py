"""Where two runs part: their records, event by event. Pure.

Neither times nor code count, nor the runs' own ids, nor ids of events that were made up for
senders who named none. Two events are put beside one another if they have the same position.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flowstore.change import apply
from flowstore.door import decode_json
from flowstore.replay import arranged
from flowstore.replay.authors import Authors
from flowstore.replay.difference import ABSENT, Difference, differences
from flowstore.store.arranged import read
from flowstore.store.base import PENDING, Outstanding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.store.archive import Archive
    from flowstore.store.base import StepRow, StoredEvent, TransitionRow

_MADE_UP: Final = re.compile(r"[0-9a-f]{32}")

MOST_STATES: Final = 50
"""At so many places that differ the states are compared, too: whole states take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What two runs have at one position, where it differs.

    Attributes:
        position: of the event.
        one: what the one run has there: ``event``, ``attempts``, ``steps``, ``arranged``,
            ``streams``, and ``pending`` if it has not been handled; as JSON values. None if the
            run has no such event.
        other: the same of the other run.
        differences: at which places these differ, and how the states do behind it that did not
            differ so before; that for the first `MOST_STATES` places only.
    """

    position: int
    one: dict[str, Any] | None
    other: dict[str, Any] | None
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        found = [each.to_json() for each in self.differences]
        return {
            "position": self.position,
            "one": self.one,
            "other": self.other,
            "differences": found,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two runs part.

    Attributes:
        same: how many events are the same from the beginning, with all that became of them.
        places: where they differ, in order.
        run: how the runs differ as they stand: status, result, reason, what they wait for; and
            their states, in what was not told of the first `MOST_STATES` places.
    """

    same: int
    places: tuple[Place, ...]
    run: tuple[Difference, ...]

    @property
    def is_same(self) -> bool:
        """Whether they do not differ at all."""
        return not self.places and not self.run


def part(one: Archive, other: Archive) -> Parting:
    """Compare two runs."""
    left, right = _Told(one), _Told(other)
    names = (one.run.correlation_id, other.run.correlation_id)
    places: list[Place] = []
    same, is_late, states = 0, False, _States(names)
    for position in range(1, max(one.run.head, other.run.head) + 1):
        here, there = left.at(position), right.at(position)
        found = [*_apart(here or ABSENT, there or ABSENT, "", names)]
        # What is done alike makes no new difference.
        if left.changes != right.changes:
            is_late = len(places) >= MOST_STATES
            if not is_late:
                found += states.new(left.state, right.state)
        if found:
            places.append(Place(position=position, one=here, other=there, differences=tuple(found)))
        elif not places:
            same = position
    run = [*_apart(left.standing(), right.standing(), "", names)]
    if is_late:
        run += states.new(left.state, right.state)
    return Parting(same=same, places=tuple(places), run=tuple(run))


class _States:
    """Tells how two states differ that did not differ so before."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        self._known: set[str] = set()

    def new(self, one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
        """Compare the states as they are now."""
        found = {str(each): each for each in _apart(one, other, "state", self._names)}
        new = [each for text, each in found.items() if text not in self._known]
        self._known = set(found)
        return new


def _apart(one: Any, other: Any, path: str, names: tuple[str, str]) -> Iterator[Difference]:
    """Compare two JSON values; that each has its own run's id in it is no difference."""
    name, other_name = names
    for each in differences(one, other, path):
        if (
            name == other_name
            or each.actual is ABSENT
            or any(differences(each.expected, _renamed(each.actual, other_name, name)))
        ):
            yield each


class _Told:
    """A run as it is compared: JSON values by position."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._places = {event.id: event.position for event in archive.events}
        self._attempts: dict[int, list[TransitionRow]] = defaultdict(list)
        for row in archive.transitions:
            self._attempts[row.position].append(row)
        authors = Authors(archive)
        self._steps: dict[int, list[StepRow]] = defaultdict(list)
        for step in archive.steps:
            self._steps[authors.of_step(step)].append(step)
        self._chunks: dict[str, list[Any]] = defaultdict(list)
        for chunk in archive.chunks:
            self._chunks[chunk.stream_id] += decode_json(chunk.data)
        self._streams: dict[int, list[str]] = defaultdict(list)
        for stream in archive.streams:
            self._streams[self._places.get(stream.id.rpartition("/")[0], 0)].append(stream.id)
        self.state: dict[str, Any] = {}
        self.changes: list[str] = []

    def at(self, position: int) -> dict[str, Any] | None:
        """Return what there is at a position; positions must be asked for in order."""
        rows = self._attempts.get(position, ())
        self.changes = [row.change for row in rows if row.change is not None]
        for change in self.changes:
            apply(self.state, change)
        if position > self._archive.run.head:
            return None
        found = {
            "event": self._event(self._archive.events[position - 1]),
            "attempts": [
                {"handler": row.handler, "outcome": row.outcome, "error": row.error} for row in rows
            ],
            "steps": {
                f"{step.handler}/{step.name}/{step.number}": {
                    "result": decode_json(step.result),
                    "error": decode_json(step.error),
                }
                for step in self._steps.get(position, ())
            },
            "arranged": {
                row.handler: begun
                for row in rows
                if row.arranged is not None and (begun := self._arranged(row))
            },
            "streams": {name: self._chunks[name] for name in self._streams.get(position, ())},
            "pending": position > self._archive.run.cursor,
        }
        return {name: value for name, value in found.items() if value or name == "attempts"}

    def _event(self, event: StoredEvent) -> dict[str, Any]:
        cause = event.causation_id
        found = {
            "name": event.name,
            "id": None if _MADE_UP.fullmatch(event.id) else event.id,
            "data": decode_json(event.data),
            "metadata": decode_json(event.metadata),
            "error": event.error,
            "cause": None if cause is None else self._places.get(cause, cause),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _arranged(self, row: TransitionRow) -> dict[str, Any]:
        """Return what an attempt began and ended."""
        return arranged.shown(read(row.arranged, row.run_id), places=self._places)

    def standing(self) -> dict[str, Any]:
        """Return how the run stands."""
        archive, run = self._archive, self._archive.run
        waiting = Outstanding(
            timers=archive.timers,
            tasks=[task for task in archive.tasks if task.status == PENDING],
            parked=archive.parked,
            collected=archive.collected,
        )
        found = {
            "workflow": run.workflow,
            "status": run.shown_status,
            "result": decode_json(run.result),
            "reason": run.reason,
            "waiting": arranged.shown(waiting, places=self._places) or None,
        }
        return {name: value for name, value in found.items() if value is not None}


def _renamed(value: Any, name: str, new: str) -> Any:
    """Put another name where a text is a run's id, or begins with it and a slash."""
    given: object = value
    if type(given) is str:
        if given == name:
            return new
        return new + given[len(name) :] if given.startswith(f"{name}/") else given
    if type(given) is list:
        return [_renamed(item, name, new) for item in value]
    if type(given) is dict:
        return {key: _renamed(item, name, new) for key, item in value.items()}
    return value
