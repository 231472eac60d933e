"""Steps of a dead letter that was retried: which were not done yet when it failed.

A retry names its steps as the attempt did that failed for good. The result of one that succeeds
then takes the place of what was raised before; what that was is left in the attempt's transition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.replay.authors import Authors
from flowstore.store.base import DEAD

if TYPE_CHECKING:
    from flowstore.store.archive import Archive
    from flowstore.store.base import StepRow, TransitionRow

Key = tuple[int, str, str, int]


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
