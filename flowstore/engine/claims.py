"""Which runs this process handles: those asked for, or all that no live worker has."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from flowstore.engine.alarm import Alarm
from flowstore.store import base

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from flowstore.clock import Clock
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.states import StateCache
    from flowstore.state import State
    from flowstore.store.base import Grant, Store

    Kept = dict[str, tuple[int, State | None]]

logger = logging.getLogger("flowstore")

MOST_READY = 4096
"""Names of waiting runs kept in memory; beyond that they are looked for in the store."""

PATROL_SECONDS = 1.0
"""How often a worker looks for runs whose owner has died, and for what it may have missed."""

STORE_RETRY_MICROSECONDS = 1_000_000
"""How long a run is left alone after the store failed under it."""


class Owner(Protocol):
    """What claims need of the engine."""

    workflow: str
    concurrency: int
    store: Store
    clock: Clock
    states: StateCache
    active: dict[str, ActiveRun]
    orphans: dict[str, int]

    def start(self, grant: Grant, kept: State | None) -> None:
        """Go on with a run."""
        ...

    def lost(self, run: ActiveRun) -> None:
        """Another worker has this run, or it was closed."""
        ...

    def left_out(self, names: Iterable[str]) -> None:
        """These runs were not to be had: settled, another's, or waiting for a time."""
        ...

    def failed(self, names: Iterable[str], error: BaseException) -> None:
        """The store failed before these runs could be claimed."""
        ...

    def heard(self) -> None:
        """Another process has written."""
        ...

    def expect(self, due: int | None) -> None:
        """Take note that a timer is due then."""
        ...

    def take_tasks(self, runs: Collection[str] | None) -> None:
        """Take over what dead workers were at, in these runs or in any."""
        ...

    def runs_with_tasks(self) -> Sequence[int]:
        """Return the runs with tasks under way here that have not been asked about lately."""
        ...

    def closed_elsewhere(self, runs: Collection[int]) -> None:
        """Take note that runs with tasks under way here were closed."""
        ...

    def is_watched(self) -> bool:
        """Tell whether someone watches a run."""
        ...


class Claims:
    """Keeps the engine in work, up to its concurrency."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.is_serving = False
        self.is_stopping = False
        self._in_flight = 0
        self._claiming: set[str] = set()
        self._ready: dict[str, None] = {}
        self._wanted: Counter[str] = Counter()
        self._has_more = False
        self._is_claiming_any = False
        self._is_planned = False
        self._alarm = Alarm(owner.clock, self._rung)
        self._patrol: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], None] | None = None

    # --- what is wanted --------------------------------------------------------------

    def serve(self) -> None:
        """Take every pending run of the workflow from now on."""
        self.is_serving = True
        self.is_stopping = False
        self._has_more = True
        self.keep_watch()
        self.plan()
        self.survey()

    def stop(self) -> None:
        """Take no more runs."""
        self.is_serving = False
        self.is_stopping = True
        self._ready.clear()
        self._wanted.clear()
        self._has_more = False
        self._alarm.stop()
        self._stop_watch()

    def want(self, name: str) -> None:
        """Handle this run here as long as it is wanted; claim it when its event is appended."""
        self._wanted[name] += 1

    def want_now(self, name: str) -> None:
        """Handle this run here, as soon as no one else does and there is room."""
        self.want(name)
        if name not in self._owner.active:
            self._ready[name] = None
        self.keep_watch()
        self.plan()

    def unwant(self, name: str) -> None:
        """Handle this run no longer than what is under way."""
        self._wanted[name] -= 1
        if self._wanted[name] <= 0:
            del self._wanted[name]
        self.relax()

    def wait_until(self, moment: int, name: str | None) -> None:
        """Take this run again at this moment, in microseconds since 1970."""
        self._alarm.set(moment, name)

    def try_later(self, name: str | None) -> None:
        """Come back to a run after the store failed under it."""
        if self.is_serving:
            self.wait_until(self._owner.clock.now() + STORE_RETRY_MICROSECONDS, name)

    # --- claims ----------------------------------------------------------------------

    def claims_with_append(self, name: str) -> bool:
        """Tell whether an append should claim the run too, and count it as under way."""
        owner = self._owner
        if (
            (self.is_serving or name in self._wanted)
            and name not in owner.active
            and name not in self._claiming  # that one gets the run, and this event with it
            and len(owner.active) + self._in_flight < owner.concurrency
        ):
            self._in_flight += 1
            self._claiming.add(name)
            return True
        return False

    def append_ended(self, name: str) -> None:
        """Take note that an append which claims has been carried out."""
        self._in_flight -= 1
        self._claiming.discard(name)

    def waits(self, name: str) -> None:
        """Take note of a pending run that no one here handles yet."""
        if name in self._wanted or (self.is_serving and len(self._ready) < MOST_READY):
            self._ready[name] = None
            self.plan()
        elif self.is_serving:
            self._has_more = True
            self.plan()

    def plan(self) -> None:
        """Fill the free places once this turn of the loop is over."""
        if not (self._is_planned or self.is_stopping) and (self._ready or self._has_more):
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._is_planned = False
        owner = self._owner
        room = owner.concurrency - len(owner.active) - self._in_flight
        if room <= 0 or self.is_stopping:
            return
        names: list[str] = []
        while self._ready and len(names) < room:
            name = next(iter(self._ready))
            del self._ready[name]
            if name not in owner.active:
                names.append(name)
        if names:
            self._claim(names, len(names), {name: owner.states.get(name) for name in names})
            room -= len(names)
        if self._has_more and room > 0 and not self._is_claiming_any:
            self._is_claiming_any = True
            self._claim(None, room, owner.states.items())

    def _claim(self, names: list[str] | None, limit: int, kept: Kept) -> None:
        owner = self._owner
        operation = base.Claim(
            owner.workflow,
            owner.store.worker_id,
            owner.clock.now(),
            limit,
            names,
            {name: version for name, (version, _) in kept.items()},
            dict(owner.orphans),
        )
        self._in_flight += limit

        def claimed(grants: list[Grant] | None, error: BaseException | None) -> None:
            self._in_flight -= limit
            if names is None:
                self._is_claiming_any = False
            if error is not None:
                logger.error("runs could not be claimed: %s", error)
                owner.failed(names or (), error)
                self.try_later(None)
            else:
                self._claimed(names, limit, grants or [], kept)

        owner.store.submit(operation, claimed)

    def _claimed(
        self, names: list[str] | None, limit: int, grants: list[Grant], kept: Kept
    ) -> None:
        for grant in grants:
            _, state = kept.get(grant.run.correlation_id, (-1, None))
            self._owner.start(grant, state)
        if names is None:
            self._has_more = self.is_serving and len(grants) == limit
        elif len(grants) < len(names):
            self.keep_watch()
            self._owner.left_out(set(names) - {grant.run.correlation_id for grant in grants})
            self.survey()
        self.plan()

    # --- other processes, and time -----------------------------------------------------

    def keep_watch(self) -> None:
        """Notice other processes: their commits within 50 ms, their deaths within a second."""
        if self._stop_listening is None:
            self._stop_listening = self._owner.store.listen(self._heard)
        if self._patrol is None or self._patrol.done():
            self._patrol = asyncio.get_running_loop().create_task(self._patrolling())

    def watch_over_tasks(self) -> None:
        """Notice it when another process closes a run that only waits for its tasks."""
        if self._wanted:
            self.keep_watch()

    def relax(self) -> None:
        """Stop looking around when there is nothing to look for."""
        if not (self.is_serving or self._wanted or self._owner.is_watched()):
            self._stop_watch()

    def _stop_watch(self) -> None:
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self._patrol is not None:
            self._patrol.cancel()
            self._patrol = None

    async def _patrolling(self) -> None:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            if self.is_serving or self._wanted:
                self.survey()

    def _heard(self) -> None:
        self._owner.heard()
        if self.is_serving or self._wanted or self._owner.active:
            self.survey()

    def survey(self) -> None:
        """See what other processes have done, and what has become due."""
        owner = self._owner
        epochs = {run.id: run.epoch for run in owner.active.values()}
        operation = base.Survey(
            owner.workflow,
            owner.store.worker_id,
            owner.clock.now(),
            epochs,
            owner.runs_with_tasks(),
        )
        owner.store.submit(operation, self._surveyed)

    def _surveyed(self, seen: base.Surveyed | None, error: BaseException | None) -> None:
        if seen is None:
            logger.error("the store could not be read: %s", error)
            return
        lost = set(seen.lost)
        for run in tuple(self._owner.active.values()):
            if run.id in lost:
                self._owner.lost(run)
        if seen.due is not None:
            self.wait_until(seen.due, None)
        self._owner.expect(seen.timer)
        if seen.closed:
            self._owner.closed_elsewhere(seen.closed)
        if seen.tasks and (self.is_serving or self._wanted):
            self._owner.take_tasks(None if self.is_serving else tuple(self._wanted))
        if seen.pending:
            self._look_for_work()

    def _look_for_work(self) -> None:
        if self.is_serving:
            self._has_more = True
        for name in self._wanted:
            if name not in self._owner.active:
                self._ready[name] = None
        self.plan()

    def _rung(self, names: set[str | None]) -> None:
        for name in names:
            if name is not None and (self.is_serving or name in self._wanted):
                self._ready[name] = None
        if None in names:
            self._look_for_work()
        self.plan()
