"""Steps of a dead letter that was retried: which were not done yet when it failed.

A retry names its steps as the attempt did that failed for good. The result of one that succeeds
then takes the place of what was raised before; what that was is left in the attempt's traceback.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import orjson

from flowstore.replay.authors import Authors
from flowstore.store.base import DEAD

if TYPE_CHECKING:
    from flowstore.store.archive import Archive
    from flowstore.store.base import StepRow, TransitionRow

Key = tuple[int, str, str, int]

_IN_STEP: Final = re.compile(r'^ *File ".*context\.py", line \d+, in step$', re.MULTILINE)
_RAISED: Final = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$", re.MULTILINE)
_NEXT: Final = re.compile(
    r"\n\n(The above exception was the direct cause|During handling of the above exception)"
)


class LaterSteps:
    """Tells which steps were done by a later attempt than one that failed for good.

    Args:
        archive: all there is of the run.
    """

    def __init__(self, archive: Archive) -> None:
        self._steps: dict[tuple[int, str], list[StepRow]] = {}
        self._dead = {row.number for row in archive.transitions if row.outcome == DEAD}
        if self._dead:
            for step in archive.steps:
                self._steps.setdefault((step.position, step.handler), []).append(step)
            self._authors = Authors(archive)

    def done_after(self, row: TransitionRow, place: tuple[int, str]) -> list[Key]:
        """Return the steps that an attempt had not done yet when it ended.

        Args:
            row: the attempt.
            place: the event that its handler handles, and the handler's name there.
        """
        if row.number not in self._dead:
            return []
        return [
            (step.position, step.handler, step.name, step.number)
            for step in self._steps.get(place, ())
            if step.error is None and self._authors.of_step(step) > row.position
        ]


def raised_in_step(row: TransitionRow) -> str | None:
    """Return what a step of an attempt raised, as `flowstore.engine.raised` has it.

    None if the attempt did not fail of a step, as far as its traceback says.
    """
    text = row.traceback or ""
    frame = _IN_STEP.search(text)
    raised = None if frame is None else _RAISED.search(text, frame.end())
    if raised is None:
        return None
    following = _NEXT.search(text, raised.end())
    if following is None:
        message = row.error or ""
    else:
        rest = text[raised.end() : following.start()]
        message = (raised["message"] or "") + rest
    return orjson.dumps({"type": raised["type"], "message": message, "args": [message]}).decode()
