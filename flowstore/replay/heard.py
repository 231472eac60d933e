"""What the record says of which attempt emitted an event or did a step.

The ids of both name the handler, and the event that it began with. Attempts at events further on,
of a handler that waits or of a dead letter that is retried, tell what came of them. Between several
attempts at one event only the times decide: a clock that was set back can mislead there, and
nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from flowstore.store.arranged import read_failed
from flowstore.store.base import DEAD

if TYPE_CHECKING:
    from flowstore.store.arranged import Told
    from flowstore.store.base import StepRow, TransitionRow

_EMITTED: Final = re.compile(r"(\d+)/(.+)/([pc]?)(\d+)", re.DOTALL)

Place = tuple[int, str]
"""A handler: the position of the event that it began with, and its name."""


class Emitted(NamedTuple):
    """What the id of an emitted event says.

    Attributes:
        place: whose it is.
        kind: ``p`` for progress and ``c`` for one with streams: they are sent off at once, and
            once; empty for one that came with its attempt's commit.
        number: of the handler's events of that kind.
    """

    place: Place
    kind: str
    number: int


def emitted(event_id: str) -> Emitted | None:
    """Return what an id says; None if no handler's event has such a one, but by its choice."""
    found = _EMITTED.fullmatch(event_id)
    if found is None:
        return None
    position, handler, kind, number = found.groups()
    return Emitted((int(position), handler), kind, int(number))


def sent(told: Told, kind: str) -> int:
    """Return how many events of a kind a handler had sent off at once when an attempt ended."""
    return told.progress if kind == "p" else told.streams


def has_come_to(told: Told, step: StepRow) -> bool:
    """Tell whether a handler had come to a step when an attempt ended."""
    return told.steps.get(step.name, 0) >= step.number


def was_left(row: TransitionRow, step: StepRow) -> bool:
    """Tell whether an attempt that has come to a step failed for good without having done it.

    The one that has done it is then the retry of the dead letter.
    """
    if row.outcome != DEAD:
        return False
    failed = (step.name, step.number) in read_failed(row.arranged)
    return (failed and step.error is None) or step.started_at > row.started_at + row.duration
