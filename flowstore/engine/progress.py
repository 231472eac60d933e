"""How far a task is: what its function is given to tell it, and how often others are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowstore.errors import InvalidValueError
from flowstore.events import PROGRESS, WorkflowEvent
from flowstore.routing import is_finite

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from flowstore.clock import Clock
    from flowstore.codec import Codec, Encoded
    from flowstore.engine.turns import At, Work

INTERVAL: Final = 100_000
"""Microseconds between two reports of one task; of those that come faster the last counts."""


def no_progress(done: float, total: float | None = None, description: str = "") -> None:
    """Take a report and do nothing with it: there is no way back from another process."""


class Progress:
    """A function's way to say how far it is; can be called in any thread.

    Args:
        tell: has an encoded progress event appended.
        at: has something done at a moment.
    """

    def __init__(
        self,
        work: Work,
        codec: Codec,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        tell: Callable[[Work, Encoded], None],
        at: At,
    ) -> None:
        self._work = work
        self._codec = codec
        self._clock = clock
        self._loop = loop
        self._append = tell
        self._at = at
        self._latest: Encoded | None = None
        self._is_due = False
        self._is_closed = False
        self._next = 0

    def __call__(self, done: float, total: float | None = None, description: str = "") -> None:
        """Report.

        Args:
            done: how much is done, in any unit.
            total: how much there is to do; None if that is not known.
            description: in words.

        Raises:
            InvalidValueError: it cannot be stored.
        """
        for name, number in (("done", done), ("total", total)):
            if number is not None and not is_finite(number):
                raise InvalidValueError(name, f"{number!r} is not a number")
        row = self._work.row
        data = {
            "step": row.name,
            "description": description,
            "task_id": row.id,
            "done": done,
            "total": total,
        }
        self._latest = self._codec.encode(WorkflowEvent(PROGRESS, data))
        if not self._is_due and not self._is_closed:
            self._is_due = True
            try:
                self._loop.call_soon_threadsafe(self._tell)
            except RuntimeError:  # the loop is closed: no one listens any more
                return

    def _tell(self) -> None:
        if self._is_closed:
            return
        now = self._clock.now()
        if 0 < self._next - now <= INTERVAL:
            self._at(self._next, self._tell)
            return
        # In this order: whoever reports meanwhile, in a thread, finds it due or is heard here.
        self._is_due = False
        latest, self._latest = self._latest, None
        if latest is not None:
            self._next = now + INTERVAL
            self._append(self._work, latest)

    def finish(self) -> None:
        """Tell the last report, and take no more: the attempt has ended."""
        if not self._is_closed:
            self._is_closed = True
            if self._latest is not None:
                self._append(self._work, self._latest)

    def close(self) -> None:
        """Take no more: what the function still does is of no use."""
        self._is_closed = True
