"""Steps that an attempt had done, and that its handler does not come to now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.change import copied
from flowstore.door import decode_json
from flowstore.replay.difference import ABSENT, Difference, child
from flowstore.replay.heard import has_come_to
from flowstore.replay.report import diverged
from flowstore.store.arranged import read_told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flowstore.replay.record import Record
    from flowstore.replay.report import Divergence
    from flowstore.replay.scene import Scene
    from flowstore.store.base import StepRow, StoredEvent, TransitionRow


def not_called(
    scene: Scene,
    stored: StoredEvent,
    was: TransitionRow,
    kept: Callable[[Iterable[Difference]], tuple[Difference, ...]],
) -> Divergence | None:
    """Return that a handler leaves steps out which it called then, if it does.

    Args:
        scene: where the handler was called.
        stored: the event.
        was: how the attempt ended then, which is how it ends now.
        kept: leaves those differences out that do not count.
    """
    attempt = scene.entered.get(was.handler)
    if attempt is None or not scene.record.archive.steps:
        return None
    used = attempt.told.steps
    if scene.steps.are_live(used):  # what really runs may be in the place of another
        return None
    place = scene.origin_of(stored.position, was.handler)
    found = kept(_unreached(scene.record, was, place, used))
    if not found:
        return None
    path, more = found[0].path, f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    problem = (
        f"handler {was.handler!r} does not come to {path}{more}, which it called then; "
        f"if that is intended, ignore {path}"
    )
    return diverged(stored, was.handler, "step", problem, (None, None), found)


def _unreached(
    record: Record, was: TransitionRow, place: tuple[int, str], used: Mapping[str, int]
) -> Iterator[Difference]:
    """Yield each step that was called within an attempt, and is not now.

    One that was done before it, by an attempt that failed or was killed, need not be reached by the
    next one, which may take another way.
    """
    told = read_told(was.arranged)
    # By a clock that stands still, as in tests, all attempts are at the same time.
    begin = was.started_at + ((was.position, was.handler) in record.retried)
    end = was.started_at + was.duration
    for step in record.steps_of(place):
        is_its = begin <= step.started_at <= end and (told is None or has_come_to(told, step))
        if is_its and step.number > used.get(step.name, 0):
            yield Difference(child("steps", step.name), _result(step), ABSENT)


def _result(step: StepRow) -> object:
    return copied(decode_json(step.result)) if step.error is None else {"error": step.error}
