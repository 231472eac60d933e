"""Steps end in a replay in the order in which they ended then, also those beside one another."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowstore.store.base import StepRow, TransitionRow

    Key = tuple[int, str, str, int]

_PATIENCE: Final = 1000
"""For how many turns of the event loop something is waited for that changed code may not do."""


class InTurn:
    """Has the steps of an attempt wait for those that ended before them.

    Only steps that were called within the attempt take turns: what was done before it, by one that
    was killed or tried again, it was given at once then, too.

    Args:
        steps: the steps of the handler at its event.
        was: the attempt, if it is recorded.
        failed: the steps that failed in it, in order, if it failed for good: a retry may have put
            its own in the place of their rows.
    """

    def __init__(
        self,
        steps: Iterable[StepRow] = (),
        was: TransitionRow | None = None,
        failed: Iterable[Key] = (),
    ) -> None:
        self._before: dict[Key, Key] = {}
        self._done: set[Key] = set()
        if was is None:
            return
        end = was.started_at + was.duration
        own = [step for step in steps if was.started_at <= step.started_at <= end]
        own.sort(key=_end)
        last: StepRow | None = None
        for before, step in pairwise(own):
            # To wait for one is enough, as that one has waited for those before it. Whether they
            # were beside one another cannot be told: a result is given out behind its commit.
            if _end(before) < _end(step):
                last = before
            if last is not None:
                self._before[_key(step)] = _key(last)
        for earlier, later in pairwise(failed):
            self._before.setdefault(later, earlier)

    def take(self, key: Key) -> bool:
        """Tell whether it is the turn of a step; if so, it has ended."""
        before = self._before.get(key)
        if before is not None and before not in self._done:
            return False
        self._done.add(key)
        return True

    async def wait(self, key: Key) -> None:
        """Wait until the step that ended before this one has ended; it may never be called."""
        await patiently(lambda: self.take(key))
        self._done.add(key)


async def patiently(is_over: Callable[[], bool]) -> bool:
    """Let others go on until it is over; return whether it is."""
    for _ in range(_PATIENCE):
        if is_over():
            return True
        await asyncio.sleep(0)
    return is_over()


def _end(step: StepRow) -> int:
    return step.started_at + step.duration


def _key(step: StepRow) -> Key:
    return step.position, step.handler, step.name, step.number
