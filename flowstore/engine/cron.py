"""Crons: events that recur, each firing once, whoever serves the workflow."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from flowstore.clock import to_datetime
from flowstore.engine.alarm import Alarm
from flowstore.engine.claims import STORE_RETRY_MICROSECONDS
from flowstore.errors import StoreError
from flowstore.store.base import Append, BeginCron, FireCron, NewEvent

if TYPE_CHECKING:
    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.schedule import Cron, Crons
    from flowstore.store.base import Appended, Store

logger = logging.getLogger("flowstore")


class Owner(Protocol):
    """What crons need of the engine."""

    workflow: str
    store: Store
    clock: Clock
    codec: Codec
    crons: Crons

    @property
    def is_serving(self) -> bool:
        """Whether what is due is fired here."""
        ...

    def arrived(self, name: str, appended: Appended) -> None:
        """Take in an event that a firing has appended."""
        ...


class CronTimers:
    """Fires what is due while the workflow is served.

    Every process that serves it computes the same moments and tries to fire each; the
    transaction that appends the event finds out whether it is there. So a clock that is set
    back fires nothing twice, and what it had passed over when it was ahead gets its turn.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._alarm = Alarm(owner.clock, self._ring, self._turned_back)
        self._last: dict[str, int] = {}
        """Up to where each cron has been looked at."""

    def serve(self) -> None:
        """Fire from now on what is due."""
        self._owner.crons.is_served = True
        for name in self._owner.crons.by_name:
            self._begin(name)

    def stop(self) -> None:
        """Fire no more."""
        self._owner.crons.is_served = False
        self._alarm.stop()
        self._last.clear()

    def _ring(self, names: set[str | None]) -> None:
        for name in names:
            if name in self._last:
                self._look(name)
            elif name is not None:
                self._begin(name)

    def _turned_back(self) -> None:
        for name in self._last:
            self._look(name)

    # --- the beginning ---------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        owner = self._owner
        operation = BeginCron(owner.workflow, name, owner.clock.now())
        owner.store.submit(operation, partial(self._begun, name))

    def _begun(self, name: str, last: int | None, error: BaseException | None) -> None:
        if not self._owner.is_serving:
            return
        if last is None:
            self._try_later(name, error)
            return
        self._last[name] = last
        self._look(name)

    def _try_later(self, name: str, error: BaseException | None) -> None:
        logger.error("cron %r could not be fired: %s", name, error)
        self._alarm.set(self._owner.clock.now() + STORE_RETRY_MICROSECONDS, name)

    # --- firing ------------------------------------------------------------------------------

    def _look(self, name: str) -> None:
        """Fire what is due, one after another; then wait for the next moment."""
        cron, now = self._owner.crons.by_name[name], self._owner.clock.now()
        last = min(self._last[name], now)
        due = cron.due(last, now)
        self._tell_missed(cron, last, due[0] if due else now)
        if due:
            self._fire(cron, due)
            return
        self._last[name] = now
        coming = cron.schedule.after(now)
        if coming is not None:
            self._alarm.set(coming, name)

    def _tell_missed(self, cron: Cron, last: int, until: int) -> None:
        first = cron.schedule.after(last)
        if first is not None and first < until:
            logger.warning(
                "cron %r: moments from %s to %s were missed and are left out (missed=%r)",
                cron.name,
                to_datetime(first),
                to_datetime(until),
                cron.missed,
            )

    def _fire(self, cron: Cron, due: list[int]) -> None:
        owner = self._owner
        at, now = due[0], owner.clock.now()
        event_id = cron.event_id(at)
        # It has the shape that the cron was declared with, so the version of today.
        encoded = cron.event._replace(version=owner.codec.version_of(cron.event.name))
        event = NewEvent(event_id, *encoded, None, now, None)
        name = cron.correlation_id or event_id
        append = Append(name, owner.workflow, event, chosen_id=False, now=now)
        operation = FireCron(owner.workflow, cron.name, at, append)
        owner.store.submit(operation, partial(self._fired, cron, due, name))

    def _fired(
        self,
        cron: Cron,
        due: list[int],
        run: str,
        appended: Appended | None,
        error: BaseException | None,
    ) -> None:
        owner = self._owner
        if appended is not None:
            owner.arrived(run, appended)
        if not owner.is_serving:
            return
        if error is not None:
            if isinstance(error, StoreError):
                self._try_later(cron.name, error)
                return
            # It would be refused again: the next moment may have more luck, or the next start.
            logger.error("cron %r at %s was refused: %s", cron.name, run, error)
        self._last[cron.name] = due[0]
        if due[1:]:
            self._fire(cron, due[1:])
        else:
            self._look(cron.name)
