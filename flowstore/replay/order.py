"""Whether what handlers do comes in the order in which it came then."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from flowstore.store.base import NewEvent, StoredEvent, TransitionRow


def overtaken(
    called: Mapping[str, TransitionRow], made: Sequence[TransitionRow]
) -> tuple[list[str], list[str]] | None:
    """Return handlers of one event in their order of then and of now, None if it is one.

    Both begin where the two part.

    Args:
        called: how those that were called again ended then, in their order.
        made: what came of those that were called now, in their order.
    """
    if len(made) < 2 or len(called) < 2:  # noqa: PLR2004 - one has no order
        return None
    now = [row.handler for row in made if row.handler in called]
    then = [name for name in called if name in now]
    for place, (first, was) in enumerate(zip(now, then, strict=True)):
        if first != was:
            return then[place:], now[place:]
    return None


def swapped(
    made: Iterable[NewEvent], events: Mapping[str, StoredEvent], seen: Container[str]
) -> tuple[StoredEvent, StoredEvent] | None:
    """Return two events that now are emitted one behind the other, and lay the other way round.

    Args:
        made: what one handler emits.
        events: those of the record, by id. One that came of another event lies where it lies.
        seen: ids of those that others have emitted before.
    """
    new: dict[str, NewEvent] = {}
    for event in made:
        if event.id in events and event.id not in seen:
            new.setdefault(event.id, event)
    found = [(event, events[event.id]) for event in new.values()]
    mine = [was for event, was in found if was.causation_id == event.causation_id]
    for first, other in pairwise(mine):
        if first.position > other.position:
            return first, other
    return None
