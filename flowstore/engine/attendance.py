"""Those who wait for what comes of a run: they are fed as long as they attend."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from flowstore.engine.watch import AnyWatcher, Waiter, Watcher, Watchers
from flowstore.errors import StaleEventError, StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Generator

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.claims import Claims
    from flowstore.engine.recording import Outcome
    from flowstore.store.base import Append, Appended, EndTask, Store, StoredEvent


class Host(Protocol):
    """What attending needs of the engine."""

    store: Store
    active: dict[str, ActiveRun]

    def check_open(self) -> None:
        """Refuse to wait once the engine has been stopped."""
        ...

    def append(self, *operations: Append | EndTask) -> asyncio.Future[list[Outcome]]:
        """Append events."""
        ...


class Attendance:
    """Processing, following and waiting, for callers outside of handlers."""

    def __init__(self, host: Host, watchers: Watchers, claims: Claims) -> None:
        self._host = host
        self._watchers = watchers
        self._claims = claims

    async def append(self, operation: Append | EndTask) -> Appended:
        """Append an event.

        Raises:
            EventConflictError: the run has an event with its id and other content.
            StoreError: it could not be written.
        """
        [(appended, error)] = await self._host.append(operation)
        if appended is None:
            raise error or StoreError
        return appended

    async def attend(self, operation: Append, watcher: Watcher) -> None:
        """Append an event, handle its run here, and feed the watcher from that event on.

        Whatever comes of it, `leave` has to be called.

        Raises:
            StaleEventError: the event was refused.
        """
        name = watcher.correlation_id
        self._claims.want(name)
        self._watchers.enter(watcher)
        await self._host.store.become_worker()
        appended = await self.append(operation)
        if appended.position is None:
            raise StaleEventError(
                f"{operation.event.name!r} was refused by run {name!r}: {appended.reason}"
            )
        watcher.start_at(appended.position)
        if appended.status == "duplicate":
            watcher.look()
            self._claims.want_now(name)
            self._claims.unwant(name)

    def leave(self, watcher: Watcher) -> None:
        """End what `attend` began."""
        self._watchers.leave(watcher)
        self._claims.unwant(watcher.correlation_id)

    async def follow(self, watcher: Watcher) -> AsyncIterator[StoredEvent]:
        """Yield a run's events from what the store has, and on, until the run has settled."""
        try:
            with self._watchers.add(watcher):
                self._host.check_open()
                self._claims.keep_watch()
                watcher.look()
                while (event := await watcher.next(self._host.store.reader)) is not None:
                    yield event
        finally:
            self._claims.relax()

    @contextlib.contextmanager
    def watch(self, watcher: AnyWatcher) -> Generator[AnyWatcher]:
        """Tell a watcher when it should look, as long as the block lasts."""
        try:
            with self._watchers.add(watcher):
                self._host.check_open()
                if watcher.correlation_id not in self._host.active:
                    self._claims.keep_watch()
                yield watcher
        finally:
            self._claims.relax()

    async def wait(self, waiter: Waiter) -> None:
        """Return when the run has settled, whoever handles it."""
        with self.watch(waiter):
            if waiter.correlation_id not in self._host.active:
                waiter.look()
            await waiter.wait(self._host.store.reader)

    def look_around(self) -> None:
        """Take up what has come into the store in another way than by being sent."""
        if self._claims.is_serving:
            self._claims.survey()

    async def settle(self, names: list[str]) -> tuple[list[str], dict[str, Exception]]:
        """Handle these runs until they have settled.

        Returns:
            those that have and that no one else had; and why others cannot go on here.
        """
        await self._host.store.become_worker()
        self._host.check_open()
        continued: list[str] = []
        failures: dict[str, Exception] = {}
        with contextlib.ExitStack() as stack:
            waiters = [stack.enter_context(self._watchers.add(Waiter(name, 0))) for name in names]
            for name in names:
                self._claims.want_now(name)
                stack.callback(self._claims.unwant, name)
            for waiter in waiters:
                try:
                    is_ours = await waiter.wait(self._host.store.reader, self._host.store.worker_id)
                except Exception as error:  # noqa: BLE001 - the others are waited for all the same
                    failures[waiter.correlation_id] = error
                else:
                    continued += [waiter.correlation_id] if is_ours else []
        return continued, failures
