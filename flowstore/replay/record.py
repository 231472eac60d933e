"""What an archive says of a run, arranged for executing it again."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Final

from flowstore.errors import StoreCorruptError
from flowstore.events import PROGRESS
from flowstore.store import arranged
from flowstore.store.base import DEAD, EXPIRED, PARKED, POSTPONED, RETRIED, STALE, began_at
from flowstore.store.lineage import ancestors, edited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import (
        ChunkRow,
        StepRow,
        StoredEvent,
        StreamRow,
        TransitionRow,
    )

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")

_NONE: Final[Mapping[str, TransitionRow]] = {}

Place = tuple[int, str]

EDITED: Final = "edited"
"""The outcome of what is no handler's attempt: a fork's edit of the state."""


class Record:
    """What an archive says of a run.

    Raises:
        StoreCorruptError: events are missing.

    Attributes:
        archive: all there is of it.
        last: the last position that has been through all its handlers.
        steps: results of finished steps, by position, handler, name and number.
        failures: what failed steps raised, likewise.
        retried: attempts that were made again: position and handler.
        caused: events by the id of the one that caused them.
        refused: ids of events that were refused before, or without, any handler.
        closed_at: the position whose handlers completed the run; 0 if none did.
        pending: the event behind ``last`` whose handlers are to be tried again; 0 if none is.
        edited: positions of events that a fork has edited, so that no handler emits them so.
    """

    def __init__(self, archive: Archive) -> None:
        _check(archive)
        self.archive = archive
        self.steps: dict[tuple[int, str, str, int], str | None] = {}
        self.failures: dict[tuple[int, str, str, int], str] = {}
        for step in archive.steps:
            key = (step.position, step.handler, step.name, step.number)
            if step.error is None:
                self.steps[key] = step.result
            else:
                self.failures[key] = step.error
        self.retried: set[Place] = set()
        self._rows: dict[int, dict[str, TransitionRow]] = {}
        for row in archive.transitions:
            rows = self._rows.setdefault(row.position, {})
            rows.pop(row.handler, None)  # so that the rows stay in the order of their numbers
            rows[row.handler] = row
            if row.outcome == RETRIED:
                self.retried.add((row.position, row.handler))
        self.caused: dict[str, list[StoredEvent]] = defaultdict(list)
        for event in archive.events:
            if event.causation_id is not None:
                self.caused[event.causation_id].append(event)
        self.refused = {
            drop.event_id
            for drop in archive.drops
            if drop.handler is None and drop.reason in (STALE, EXPIRED)
        }
        handled = archive.transitions[-1].position if archive.transitions else 0
        is_closed = archive.run.status in ("completed", "failed", "cancelled")
        self.closed_at = handled if archive.run.status == "completed" else 0
        self.ancestors = ancestors(archive.run.lineage)
        self.edited = frozenset(edited(archive.run.lineage))
        self.last = handled if is_closed else archive.run.cursor
        self.pending = 0 if is_closed or handled <= self.last else handled

    @cached_property
    def events(self) -> dict[str, StoredEvent]:
        """The run's events by id."""
        return {event.id: event for event in self.archive.events}

    @cached_property
    def refusals(self) -> dict[Place, list[str | None]]:
        """What handlers said of the events that they found to be stale."""
        found: dict[Place, list[str | None]] = {}
        for drop in self.archive.drops:
            if drop.reason == STALE and drop.position is not None and drop.handler is not None:
                found.setdefault((drop.position, drop.handler), []).append(drop.detail)
        return found

    @cached_property
    def told(self) -> set[str]:
        """The ids of events that are told of by handlers that waited, or were retried."""
        each = (arranged.read_told(row.arranged) for row in self.archive.transitions)
        return {event for told in each if told is not None for event in told.events}

    @cached_property
    def chunks(self) -> dict[str, list[ChunkRow]]:
        """The chunks of each stream, in order."""
        found: dict[str, list[ChunkRow]] = {}
        for row in self.archive.chunks:
            found.setdefault(row.stream_id, []).append(row)
        return found

    @cached_property
    def streams(self) -> dict[str, StreamRow]:
        """The streams by their ids."""
        return {row.id: row for row in self.archive.streams}

    @cached_property
    def _steps(self) -> dict[Place, list[StepRow]]:
        found: dict[Place, list[StepRow]] = {}
        for step in self.archive.steps:
            found.setdefault((step.position, step.handler), []).append(step)
        return found

    def steps_of(self, place: Place) -> Sequence[StepRow]:
        """Return the steps of a handler, those that failed as well."""
        return self._steps.get(place, ()) if self.archive.steps else ()

    def has_told_in_steps(self, stored: StoredEvent, handler: str, prefix: str) -> bool:
        """Tell whether events of this prefix may have been announced by a step's function."""
        steps = self.steps_of((stored.position, handler))
        return bool(steps) and any(
            event.id.startswith(prefix)
            and event.name == PROGRESS
            and any(0 <= event.created_at - step.started_at <= step.duration for step in steps)
            for event in self.caused.get(stored.id, ())
        )

    @cached_property
    def tokens(self) -> dict[str, str]:
        """What looks like tokens of external tasks in the record, by all but its signature."""
        archive = self.archive
        texts: list[str | None] = [archive.run.result]
        for row in archive.transitions:
            texts += (row.change, row.arranged)
        for event in archive.events:
            texts += (event.data, event.metadata)
        texts += [step.result for step in archive.steps]
        found = (token for text in texts if text for token in _TOKEN.finditer(text))
        return {token[1]: token[0] for token in found}

    def at(self, position: int) -> StoredEvent:
        """Return the event at a position."""
        return self.archive.events[position - 1]

    def rows(self, position: int) -> Mapping[str, TransitionRow]:
        """Return the last attempt of each handler at an event, in their order."""
        return self._rows.get(position, _NONE)

    def row(self, position: int, handler: str) -> TransitionRow | None:
        """Return the last attempt of a handler at an event."""
        return self._rows.get(position, _NONE).get(handler)

    def name_at(self, position: int) -> str:
        """Return the run that this was then: up to its beginning, a fork is another one."""
        for name, until in self.ancestors:
            if position <= until:
                return name
        return self.archive.run.correlation_id

    def changes(self) -> list[tuple[int, str]]:
        """Return each change of the state, in order, with the number of its transition."""
        return [
            (row.number, row.change) for row in self.archive.transitions if row.change is not None
        ]

    def origin(self, position: int, handler: str, known: Sequence[str]) -> Place:
        """Return the event that a handler handles, and its name: one that waited goes on elsewhere.

        Args:
            position: where it is recorded.
            handler: under which name.
            known: names of the handlers that the event there has.
        """
        return (position, handler) if handler in known else began_at(handler, position)


def _check(archive: Archive) -> None:
    """Refuse a record that lacks events: positions are gapless."""
    places = [archive.run.cursor]
    places += [event.position for event in archive.events[-1:]]
    places += [row.position for row in archive.transitions[-1:]]
    if max(places) > len(archive.events):
        raise StoreCorruptError(
            f"run {archive.run.correlation_id!r} has {len(archive.events)} events and should have "
            f"{max(places)}: its record is damaged; `flowstore verify` says where"
        )


def is_repeatable(row: TransitionRow) -> bool:
    """Tell whether calling the handler again can end as this attempt did.

    An attempt that is to be made again has not ended; one that took too long, whose commit
    was refused, or of which an iterator raised, did not fail by what the handler does.
    """
    if row.outcome == RETRIED:
        return False
    return row.outcome != DEAD or not arranged.is_blameless(row.arranged)


def is_over(row: TransitionRow) -> bool:
    """Tell whether the handler has done with the event."""
    return row.outcome not in (RETRIED, PARKED, POSTPONED)
