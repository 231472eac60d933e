"""Timers: events that are appended when their time has come."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from flowstore.engine.alarm import Alarm
from flowstore.engine.claims import STORE_RETRY_MICROSECONDS
from flowstore.store import base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.clock import Clock
    from flowstore.store.base import Appended, Fired, Store, TimerRow

logger = logging.getLogger("flowstore")

MOST_FIRED: Final = 256
"""Timers fired in one transaction at most, so that no one waits long for it."""


class Owner(Protocol):
    """What timers need of the engine."""

    workflow: str
    store: Store
    clock: Clock

    @property
    def is_serving(self) -> bool:
        """Whether what is due is fired here."""
        ...

    def arrived(self, name: str, appended: Appended) -> None:
        """Take in an event that a timer has appended."""
        ...


class Timers:
    """Fires what is due while the workflow is served.

    Every process that serves it may fire a timer; the transaction that appends its event
    removes it, so it fires once. The time that counts is the clock's when someone looks: one
    that is set back delays what is due, one that is set ahead brings it forward.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._alarm = Alarm(owner.clock, self._ring)
        self._is_firing = False
        self._next: int | None = None

    def serve(self) -> None:
        """Fire from now on what is due."""
        self._fire()

    def stop(self) -> None:
        """Fire no more."""
        self._next = None
        self._alarm.stop()

    def set(self, timers: Sequence[TimerRow]) -> None:
        """Take note of timers that a commit has set."""
        if timers:
            self.expect(min(timer.due_at for timer in timers))

    def expect(self, due: int | None) -> None:
        """Look at this moment, in microseconds since 1970, whether a timer is due."""
        if self._owner.is_serving and due is not None and (self._next is None or due < self._next):
            self._next = due
            self._alarm.set(due, None)

    def _ring(self, _: object) -> None:
        self._next = None
        self._fire()

    def _fire(self) -> None:
        if self._is_firing or not self._owner.is_serving:
            return
        self._is_firing = True
        owner = self._owner
        owner.store.submit(base.Fire(owner.workflow, owner.clock.now(), MOST_FIRED), self._fired)

    def _fired(self, fired: Fired | None, error: BaseException | None) -> None:
        self._is_firing = False
        if fired is None:
            logger.error("timers could not be fired: %s", error)
            self.expect(self._owner.clock.now() + STORE_RETRY_MICROSECONDS)
            return
        for name, appended in fired.appended:
            self._owner.arrived(name, appended)
        self.expect(fired.due)
