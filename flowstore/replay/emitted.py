"""Compares the events that handlers emit now with those that are recorded."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from flowstore.door import decode_json
from flowstore.errors import FlowstoreError
from flowstore.events import ERROR, PROGRESS
from flowstore.replay.difference import ABSENT, Difference, child, differences
from flowstore.replay.heard import emitted, sent
from flowstore.replay.order import swapped
from flowstore.replay.record import is_over
from flowstore.replay.report import diverged
from flowstore.replay.users_code import first_of
from flowstore.store.arranged import read_told
from flowstore.store.base import DEAD, PARKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowstore.codec import Codec
    from flowstore.engine.decide import Done
    from flowstore.replay.difference import Ignored
    from flowstore.replay.record import Record
    from flowstore.replay.report import Divergence
    from flowstore.replay.scene import Scene
    from flowstore.store.arranged import Told
    from flowstore.store.base import NewEvent, StoredEvent, TransitionRow

_ORDINAL: Final = re.compile(r"\d+")
_ANNOUNCED: Final = re.compile(r"[pc]\d+")
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_ENGINES: Final = re.compile(r"\d+/.+/\w+", re.DOTALL)


class Emissions:
    """Compares the events of one run with its record.

    Args:
        record: the run.
        codec: reads the events.
        ignored: paths that do not count.
    """

    def __init__(self, record: Record, codec: Codec, ignored: Ignored) -> None:
        self._record = record
        self._codec = codec
        self._ignored = ignored
        self._seen: set[str] = set()

    def compare(
        self, scene: Scene, stored: StoredEvent, name: str, done: Done
    ) -> Iterator[Divergence]:
        """Compare the events of one handler, those that it announced among them."""
        if not (done.events or scene.announced or self._record.caused):
            return
        where, base = scene.origin_of(stored.position, name)
        prefix = f"{where}/{base}/"
        failure = f"{stored.position}/{name}/{ERROR}"
        # What a step has shown is not shown again, nor what another attempt has.
        origin = self._record.at(where)
        is_partial = (stored.position, name) in self._record.retried or (
            self._record.has_told_in_steps(origin, base, prefix)
        )
        is_unsure = is_partial or where != stored.position
        for event in scene.announced:
            if event.id.startswith(prefix):
                yield from self._announced(stored, name, event, is_unsure=is_unsure)
        mine: list[NewEvent] = []
        for event in done.events:
            by = done.choosers.get(event.id)
            is_mine = event.id.startswith(prefix) if by is None else by.recorded_as == name
            if is_mine or event.id == failure:
                mine.append(event)
        if done.choosers:  # other ids say themselves which comes first
            yield from self._swapped(stored, name, mine)
        for event in mine:
            yield from self._event(stored, name, event)
        was = self._record.row(stored.position, name)
        if was is not None:
            yield from self._missing(stored, was, where, prefix)
            if not is_partial:
                yield from self._unannounced(stored, was, origin, prefix)

    def _swapped(
        self, stored: StoredEvent, name: str, mine: Sequence[NewEvent]
    ) -> Iterator[Divergence]:
        found = swapped(mine, self._record.events, self._seen)
        if found is not None and not self._ignored.covers(child("emitted", found[0].name)):
            first, other = found
            problem = (
                f"handler {name!r} emits {first.name!r} ({first.id!r}) before {other.name!r} "
                f"({other.id!r}), and did it the other way round"
            )
            then = [other.id, first.id]
            yield diverged(stored, name, "emitted", problem, (then, then[::-1]))

    def _announced(
        self, stored: StoredEvent, name: str, event: NewEvent, *, is_unsure: bool
    ) -> Iterator[Divergence]:
        """Compare what was sent off at once; an attempt that was made again may have sent it."""
        self._seen.add(event.id)
        original = self._record.events.get(event.id)
        row = self._record.row(stored.position, name)
        if is_unsure or row is None:
            return
        if original is None or original.created_at >= row.started_at:
            yield from self._event(stored, name, event)

    def _event(self, stored: StoredEvent, name: str, event: NewEvent) -> Iterator[Divergence]:
        self._seen.add(event.id)
        original = self._record.events.get(event.id)
        edited = self._record.edited
        if original and (event[1:6] == original[3:8] or original.position in edited):
            return
        actual = self._shown(event)
        expected = None if original is None else self._shown(original)
        if original is None:
            path = child("emitted", event.name)
            found = self._ignored.kept([Difference(path, ABSENT, actual)])
            problem = f"handler {name!r} emits {event.name!r}, which it did not then"
        else:
            path = child("emitted", original.name)
            found = self._ignored.kept(differences(expected, actual, path))
            problem = f"handler {name!r} emits something else: {first_of(found)}"
        if found:
            yield diverged(stored, name, "emitted", problem, (expected, actual), found)

    def _missing(
        self, stored: StoredEvent, was: TransitionRow, where: int, prefix: str
    ) -> Iterator[Divergence]:
        """Find what a handler emitted then, and not now."""
        told = read_told(was.arranged)
        if told is not None and was.outcome != DEAD:
            mine = [self._record.events[each] for each in told.events if each not in self._seen]
        elif is_over(was):
            cause = self._record.at(where).id
            failure = f"{stored.position}/{was.handler}/{ERROR}"
            # What bears the name of one that failed for good was emitted when it was retried.
            begin = prefix if was.outcome != DEAD else failure
            mine = [
                event
                for event in self._record.caused.get(cause, ())
                if event.id not in self._seen and _is_of(event.id, begin, failure)
            ]
        else:
            mine = []
        for original in mine:
            yield from self._gone(stored, was.handler, original)

    def _unannounced(
        self, stored: StoredEvent, was: TransitionRow, origin: StoredEvent, prefix: str
    ) -> Iterator[Divergence]:
        # Behind the end of one that goes on at another event it was announced there.
        is_last = origin is stored and was.outcome != DEAD and is_over(was)
        end = math.inf if is_last else was.started_at + was.duration
        told = read_told(was.arranged)
        for original in self._record.caused.get(origin.id, ()):
            if (
                original.id not in self._seen
                and was.started_at <= original.created_at <= end
                and original.id.startswith(prefix)
                and _ANNOUNCED.fullmatch(original.id, len(prefix))
                and (told is None or _is_sent(told, original.id))
            ):
                yield from self._gone(stored, was.handler, original)

    def _gone(
        self, stored: StoredEvent, name: str | None, original: StoredEvent
    ) -> Iterator[Divergence]:
        expected = self._shown(original)
        found = self._ignored.kept([Difference(child("emitted", original.name), expected, ABSENT)])
        if found:
            who = "no handler emits" if name is None else f"handler {name!r} does not emit"
            problem = f"{who} {original.name!r} ({original.id!r}), which is recorded"
            yield diverged(stored, name, "emitted", problem, (expected, None), found)

    def _shown(self, event: NewEvent | StoredEvent) -> dict[str, Any]:
        """Return an event as it is compared, brought up to this code's version if that can be."""
        try:
            data = self._codec.decode(event.name, event.version, event.data)
        except FlowstoreError:
            data = decode_json(event.data)
        return {
            "name": event.name,
            "data": data,
            "metadata": decode_json(event.metadata),
            "error": lasting(event.error),
        }

    def chosen(self, stored: StoredEvent) -> Iterator[Divergence]:
        """Find events with ids of their handlers' choice that none of these emits any more.

        Args:
            stored: the event whose handlers have all been compared.
        """
        record = self._record
        rows = record.rows(stored.position).values()
        if not record.caused or not all(is_over(row) or row.outcome == PARKED for row in rows):
            return
        for original in record.caused.get(stored.id, ()):
            is_chosen = original.name != PROGRESS and not _ENGINES.fullmatch(original.id)
            # What a handler emits that waits, or is retried, is compared with what it has told.
            if is_chosen and original.id not in self._seen and original.id not in record.told:
                yield from self._gone(stored, None, original)


def lasting(text: str | None) -> str | None:
    """Return the text of an error without the addresses of objects, which are never the same."""
    return text and _ADDRESS.sub("0x…", text)


def _is_sent(told: Told, event_id: str) -> bool:
    """Tell whether an event had been sent off when an attempt ended; times can be equal."""
    named = emitted(event_id)
    return named is None or named.number <= sent(told, named.kind)


def _is_of(event_id: str, prefix: str, failure: str) -> bool:
    """Tell whether an event is one that a handler emitted, or that tells of its failure."""
    is_mine = event_id.startswith(prefix) and _ORDINAL.fullmatch(event_id, len(prefix)) is not None
    return is_mine or event_id == failure
