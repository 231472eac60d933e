"""Compares what handlers did now with what is recorded, one event after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.change import copied
from flowstore.door import decode_json
from flowstore.replay import arranged
from flowstore.replay.difference import Difference, differences
from flowstore.replay.emitted import Emissions, lasting
from flowstore.replay.folding import Folded
from flowstore.replay.order import overtaken
from flowstore.replay.report import diverged
from flowstore.replay.unreached import not_called
from flowstore.replay.users_code import described, first_of
from flowstore.store.arranged import read
from flowstore.store.base import DEAD, DROPPED, RETRIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flowstore.codec import Codec
    from flowstore.engine.decide import Done
    from flowstore.replay.difference import Ignored
    from flowstore.replay.record import Record
    from flowstore.replay.report import Divergence
    from flowstore.replay.scene import Scene
    from flowstore.store.base import StoredEvent, TransitionRow


class Judge:
    """Compares one run with its record.

    Args:
        ignored: paths that do not count.

    Attributes:
        is_adrift: the state differs from the recorded one in what does not count.
    """

    def __init__(self, record: Record, codec: Codec, ignored: Ignored) -> None:
        self._record = record
        self._codec = codec
        self._ignored = ignored
        self._emissions = Emissions(record, codec, ignored)
        self._then = Folded()
        self._now = Folded()
        self._changes: list[tuple[int, str]] | None = None
        self.is_adrift = False
        self._is_moved = False

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
            yield from self._emissions.compare(scene, stored, name, done)
            if now is not None:
                yield from self._details(scene, stored, was, now, done)
        for name, now in actual.items():
            problem = f"handler {name!r} was not called then, and now is {now.outcome}"
            if not self._ignored.covers("outcome"):
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
            if self._ignored.covers("outcome"):
                return None
            return diverged(stored, name, "outcome", problem, (_ended(was), None))
        if now.outcome == was.outcome:
            if now.outcome not in (DEAD, RETRIED) or lasting(now.error) == lasting(was.error):
                return None
            path = "error"
        else:
            path = "outcome"
        if self._ignored.covers(path):
            return None
        then = f"was {was.outcome}" + (f" ({was.error})" if was.error else "")
        if now.error is None:
            what = f"now is {now.outcome}"
        else:
            what = f"now is {now.outcome}: {described(now)}"
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
        if was.outcome == now.outcome and (
            left := not_called(scene, stored, was, self._ignored.kept)
        ):
            yield left
        is_old = was.code is None is was.arranged  # from before this was recorded
        if was.arranged != now.arranged and not is_old:
            expected, actual = (
                arranged.shown(read(row.arranged, row.run_id), codec=self._codec)
                for row in (was, now)
            )
            found = self._ignored.kept(differences(expected, actual, "arranged"))
            if found:
                problem = f"handler {name!r} arranged something else: {first_of(found)}"
                yield diverged(stored, name, "arranged", problem, (expected, actual), found)
        if was.outcome == DROPPED == now.outcome:
            found = self._ignored.kept(self._drops(stored, name, done))
            if found:
                problem = (
                    f"handler {name!r} dropped the event for another reason: {first_of(found)}"
                )
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
        kept = self._ignored.kept(found)
        self.is_adrift = self.is_adrift or len(kept) < len(found)
        if not kept:
            return None
        problem = f"handler {was.handler!r} leaves another state: {first_of(kept)}"
        sides = (copied(expected), copied(actual))
        return diverged(stored, was.handler, "state", problem, sides, kept)

    def _moved(
        self, scene: Scene, stored: StoredEvent, moved: tuple[list[str], list[str]], number: int
    ) -> Iterator[Divergence]:
        """Tell that handlers had another order; compare the state behind the last of them."""
        then, now = moved
        self.is_adrift = True
        if not self._ignored.covers(f"handler.{now[0]}"):
            problem = (
                f"handler {now[0]!r} is called before {then[0]!r} now, and was called behind it; "
                f"if that is intended, ignore handler.{now[0]}"
            )
            yield diverged(stored, now[0], "handler", problem, (then, now))
        expected, actual = self.recorded(number), scene.state()
        found = self._ignored.kept(differences(expected, actual, "state"))
        if found:
            problem = f"the handlers, in another order, leave another state: {first_of(found)}"
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

    # --- the end of an event, and of the run ---------------------------------------------

    def _end(self, stored: StoredEvent, done: Done) -> Iterator[Divergence]:
        """Compare whether the run was completed, with which result, and ids that were chosen."""
        record = self._record
        yield from self._emissions.chosen(stored)
        was, now = record.closed_at == stored.position, done.completed
        if was != now and not self._ignored.covers("completed"):
            problem = "the run was completed here, and now it is not"
            if now:
                problem = "the run is completed here, which it was not then"
            yield diverged(stored, None, "outcome", problem, (was, now))
        if was and now:
            expected = decode_json(record.archive.run.result)
            actual = decode_json(done.result)
            found = self._ignored.kept(differences(expected, actual, "result"))
            if found:
                problem = f"the run comes to another result: {first_of(found)}"
                yield diverged(stored, None, "outcome", problem, (expected, actual), found)


def _ended(row: TransitionRow) -> dict[str, Any]:
    return {"outcome": row.outcome, "error": row.error}
