"""Compares what handlers did now with what is recorded, one event after another."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from flowstore.change import copied
from flowstore.door import decode_json
from flowstore.errors import FlowstoreError
from flowstore.events import ERROR, PROGRESS
from flowstore.replay import arranged, users_code
from flowstore.replay.difference import ABSENT, Difference, child, covers, differences
from flowstore.replay.folding import Folded
from flowstore.replay.order import overtaken, swapped
from flowstore.replay.record import is_over
from flowstore.replay.report import diverged
from flowstore.replay.unreached import not_called
from flowstore.store.arranged import read, read_told
from flowstore.store.base import DEAD, DROPPED, RETRIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flowstore.codec import Codec
    from flowstore.engine.decide import Done
    from flowstore.replay.record import Record
    from flowstore.replay.report import Divergence
    from flowstore.replay.scene import Scene
    from flowstore.store.base import NewEvent, StoredEvent, TransitionRow

_ORDINAL: Final = re.compile(r"\d+")
_ANNOUNCED: Final = re.compile(r"[pc]\d+")
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_ENGINES: Final = re.compile(r"\d+/.+/\w+", re.DOTALL)


class Judge:
    """Compares one run with its record.

    Args:
        ignore: paths that do not count.

    Attributes:
        is_adrift: the state differs from the recorded one in what does not count.
    """

    def __init__(self, record: Record, codec: Codec, ignore: Sequence[str]) -> None:
        self._record = record
        self._codec = codec
        # What is emitted has the path of its name; `event` stands for whatever name.
        self._ignore = [
            f"emitted.*{path[5:]}" if path.startswith("event.") else path for path in ignore
        ]
        self._seen: set[str] = set()
        self._then = Folded()
        self._now = Folded()
        self._changes: list[tuple[int, str]] | None = None
        self.is_adrift = False
        self._is_moved = False

    def ignores(self, path: str) -> bool:
        """Tell whether differences at this path do not count."""
        return any(covers(pattern, path) for pattern in self._ignore)

    # --- one event -----------------------------------------------------------------------

    def compare(
        self, scene: Scene, stored: StoredEvent, done: Done, rows: Mapping[str, TransitionRow]
    ) -> Iterator[Divergence]:
        """Yield what differs, in the order of the handlers.

        Args:
            scene: where the handlers were called.
            stored: the event.
            done: what its handlers did now.
            rows: how each of those that were called ended then.
        """
        actual = {row.handler: row for row in done.transitions}
        self._is_moved = (moved := overtaken(rows, done.transitions)) is not None
        if moved is not None:
            yield from self._moved(scene, stored, moved, max(row.number for row in rows.values()))
        for name, was in rows.items():
            now = actual.pop(name, None)
            found = self._outcome(scene, stored, name, was, now)
            if found is not None:
                yield found
            yield from self._emitted(scene, stored, name, done)
            if now is not None:
                yield from self._details(scene, stored, was, now, done)
        for name, now in actual.items():
            problem = f"handler {name!r} was not called then, and now is {now.outcome}"
            if not self.ignores("outcome"):
                yield diverged(stored, name, "outcome", problem, (None, _ended(now)))
        yield from self._end(stored, done)

    def _outcome(
        self,
        scene: Scene,
        stored: StoredEvent,
        name: str,
        was: TransitionRow,
        now: TransitionRow | None,
    ) -> Divergence | None:
        if now is None:
            problem = f"handler {name!r} was {was.outcome} then, and now is not called"
            if self.ignores("outcome"):
                return None
            return diverged(stored, name, "outcome", problem, (_ended(was), None))
        if now.outcome == was.outcome:
            if now.outcome not in (DEAD, RETRIED) or _lasting(now.error) == _lasting(was.error):
                return None
            path = "error"
        else:
            path = "outcome"
        if self.ignores(path):
            return None
        then = f"was {was.outcome}" + (f" ({was.error})" if was.error else "")
        if now.error is None:
            what = f"now is {now.outcome}"
        else:
            what = f"now is {now.outcome}: {users_code.described(now)}"
        if now.error is not None and name not in scene.entered:
            problem = f"{stored.name!r} does not fit this code: {now.error}"
            return diverged(stored, name, "error", problem, (_ended(was), _ended(now)))
        found = Difference(path, getattr(was, path), getattr(now, path))
        problem = f"handler {name!r} {then} then, and {what}"
        return diverged(stored, name, "outcome", problem, (_ended(was), _ended(now)), (found,))

    def _details(
        self, scene: Scene, stored: StoredEvent, was: TransitionRow, now: TransitionRow, done: Done
    ) -> Iterator[Divergence]:
        """Compare its steps, what it arranged, the reason of a drop, and the state behind it."""
        name = was.handler
        if was.outcome == now.outcome and (left := not_called(scene, stored, was, self._kept)):
            yield left
        is_old = was.code is None is was.arranged  # from before this was recorded
        if was.arranged != now.arranged and not is_old:
            expected, actual = (
                arranged.shown(read(row.arranged, row.run_id), codec=self._codec)
                for row in (was, now)
            )
            found = self._kept(differences(expected, actual, "arranged"))
            if found:
                problem = f"handler {name!r} arranged something else: {_told(found)}"
                yield diverged(stored, name, "arranged", problem, (expected, actual), found)
        if was.outcome == DROPPED == now.outcome:
            found = self._kept(self._drops(stored, name, done))
            if found:
                problem = f"handler {name!r} dropped the event for another reason: {_told(found)}"
                sides = (found[0].expected, found[0].actual)
                yield diverged(stored, name, "outcome", problem, sides, found)
        if was.change != now.change and not self._is_moved:
            state = self._state(scene, stored, was)
            if state is not None:
                yield state

    def _drops(self, stored: StoredEvent, name: str, done: Done) -> Iterable[Difference]:
        expected = self._record.refusals.get((stored.position, name))
        actual = [drop.detail for drop in done.drops if drop.handler == name]
        return differences(expected, actual, "drop.detail") if expected and actual else ()

    # --- the state -----------------------------------------------------------------------

    def _state(self, scene: Scene, stored: StoredEvent, was: TransitionRow) -> Divergence | None:
        """Compare the states themselves: other changes can come to the same."""
        expected = self.recorded(was.number)
        actual = self._now.up_to(scene.past.changes, was.number)
        found = tuple(differences(expected, actual, "state"))
        kept = self._kept(found)
        self.is_adrift = self.is_adrift or len(kept) < len(found)
        if not kept:
            return None
        problem = f"handler {was.handler!r} leaves another state: {_told(kept)}"
        sides = (copied(expected), copied(actual))
        return diverged(stored, was.handler, "state", problem, sides, kept)

    def _moved(
        self, scene: Scene, stored: StoredEvent, moved: tuple[list[str], list[str]], number: int
    ) -> Iterator[Divergence]:
        """Tell that handlers had another order; compare the state behind the last of them."""
        then, now = moved
        self.is_adrift = True
        if not self.ignores(f"handler.{now[0]}"):
            problem = (
                f"handler {now[0]!r} is called before {then[0]!r} now, and was called behind it; "
                f"if that is intended, ignore handler.{now[0]}"
            )
            yield diverged(stored, now[0], "handler", problem, (then, now))
        expected, actual = self.recorded(number), scene.state()
        found = self._kept(differences(expected, actual, "state"))
        if found:
            problem = f"the handlers, in another order, leave another state: {_told(found)}"
            sides = (copied(expected), actual)
            yield diverged(stored, now[0], "state", problem, sides, found)

    def recorded(self, number: int) -> dict[str, Any]:
        """Return the state as it was recorded behind a transition; this only ever goes on."""
        if self._changes is None:
            self._changes = self._record.changes()
        return self._then.up_to(self._changes, number)

    def adopt(self, scene: Scene, document: dict[str, Any]) -> None:
        """Take note that the replay goes on with this state."""
        self._now = Folded(copied(document), len(scene.past.changes))
        self.is_adrift = False

    # --- events --------------------------------------------------------------------------

    def _emitted(
        self, scene: Scene, stored: StoredEvent, name: str, done: Done
    ) -> Iterator[Divergence]:
        """Compare the events of one handler, those that it announced among them."""
        if not (done.events or scene.announced or self._record.caused):
            return
        where, base = scene.origin_of(stored.position, name)
        prefix = f"{where}/{base}/"
        failure = f"{stored.position}/{name}/{ERROR}"
        # What a step has shown is not shown again, nor what another attempt has.
        is_unsure = (
            (stored.position, name) in self._record.retried
            or where != stored.position
            or self._record.has_told_in_steps(stored, name, prefix)
        )
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
            if is_over(was) and not is_unsure:
                yield from self._unannounced(stored, was, prefix)

    def _swapped(
        self, stored: StoredEvent, name: str, mine: Sequence[NewEvent]
    ) -> Iterator[Divergence]:
        found = swapped(mine, self._record.events, self._seen)
        if found is not None and not self.ignores(child("emitted", found[0].name)):
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
            found = self._kept([Difference(path, ABSENT, actual)])
            problem = f"handler {name!r} emits {event.name!r}, which it did not then"
        else:
            path = child("emitted", original.name)
            found = self._kept(differences(expected, actual, path))
            problem = f"handler {name!r} emits something else: {_told(found)}"
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
        self, stored: StoredEvent, was: TransitionRow, prefix: str
    ) -> Iterator[Divergence]:
        # Behind the end of one that failed for good it was announced when it was retried.
        end = was.started_at + was.duration if was.outcome == DEAD else math.inf
        for original in self._record.caused.get(stored.id, ()):
            if (
                original.id not in self._seen
                and was.started_at <= original.created_at <= end
                and original.id.startswith(prefix)
                and _ANNOUNCED.fullmatch(original.id, len(prefix))
            ):
                yield from self._gone(stored, was.handler, original)

    def _gone(
        self, stored: StoredEvent, name: str | None, original: StoredEvent
    ) -> Iterator[Divergence]:
        expected = self._shown(original)
        found = self._kept([Difference(child("emitted", original.name), expected, ABSENT)])
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
            "error": _lasting(event.error),
        }

    # --- the end of an event, and of the run ---------------------------------------------

    def _end(self, stored: StoredEvent, done: Done) -> Iterator[Divergence]:
        """Compare whether the run was completed, with which result, and ids that were chosen."""
        record = self._record
        rows = record.rows(stored.position).values()
        # A handler that has gone on at another event may emit there.
        if record.caused and all(map(is_over, rows)) and stored.position not in record.left:
            for original in record.caused.get(stored.id, ()):
                is_chosen = original.name != PROGRESS and not _ENGINES.fullmatch(original.id)
                if is_chosen and original.id not in self._seen:
                    yield from self._gone(stored, None, original)
        was, now = record.closed_at == stored.position, done.completed
        if was != now and not self.ignores("completed"):
            problem = "the run was completed here, and now it is not"
            if now:
                problem = "the run is completed here, which it was not then"
            yield diverged(stored, None, "outcome", problem, (was, now))
        if was and now:
            expected = decode_json(record.archive.run.result)
            actual = decode_json(done.result)
            found = self._kept(differences(expected, actual, "result"))
            if found:
                problem = f"the run comes to another result: {_told(found)}"
                yield diverged(stored, None, "outcome", problem, (expected, actual), found)

    def _kept(self, found: Iterable[Difference]) -> tuple[Difference, ...]:
        return tuple(each for each in found if not self.ignores(each.path))


def _lasting(text: str | None) -> str | None:
    """Return the text of an error without the addresses of objects, which are never the same."""
    return text and _ADDRESS.sub("0x…", text)


def _is_of(event_id: str, prefix: str, failure: str) -> bool:
    """Tell whether an event is one that a handler emitted, or that tells of its failure."""
    is_mine = event_id.startswith(prefix) and _ORDINAL.fullmatch(event_id, len(prefix)) is not None
    return is_mine or event_id == failure


def _ended(row: TransitionRow) -> dict[str, Any]:
    return {"outcome": row.outcome, "error": row.error}


def _told(found: Sequence[Difference]) -> str:
    """Name the first difference, and say how many there are."""
    if not found:
        return ""
    more = len(found) - 1
    return f"{users_code.shortened(found[0])}" + (f" (and {more} more)" if more else "")
