"""The engine of one process: which runs it handles, and the loop of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

from flowstore.engine.active import ActiveRun
from flowstore.engine.alarm import Alarm
from flowstore.engine.decide import announce, commit_event, pass_over, record_step
from flowstore.engine.handle import handle_event
from flowstore.engine.watch import Waiter, Watcher
from flowstore.errors import FlowstoreError, LeaseLostError, StoreError
from flowstore.state import State
from flowstore.store import base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.hooks import Hooks
    from flowstore.routing import Routes
    from flowstore.state import StateKind
    from flowstore.store.base import Append, Appended, Commit, Committed, Grant, Store, StoredEvent

AnyWatcher = TypeVar("AnyWatcher", bound=Watcher)

logger = logging.getLogger("flowstore")

_CACHED_STATES = 2048
_CACHED_BYTES = 64 * 1024 * 1024
_PAGE = 256
_MOST_READY = 4096
"""Names of waiting runs kept in memory; beyond that they are looked for in the store."""

PATROL_SECONDS = 1.0
"""How often a worker looks for runs whose owner has died, and for what it may have missed."""

STORE_RETRY_MICROSECONDS = 1_000_000
"""How long a run is left alone after the store failed under it."""


class Engine:
    """Handles runs on one event loop.

    Args:
        concurrency: how many runs are handled at a time at most; others wait in the store.
    """

    def __init__(
        self,
        *,
        workflow: str,
        store: Store,
        routes: Routes,
        codec: Codec,
        kind: StateKind,
        clock: Clock,
        resources: Mapping[str, Any],
        concurrency: int,
        hooks: Hooks,
    ) -> None:
        self.workflow = workflow
        self.store = store
        self.routes = routes
        self.codec = codec
        self.kind = kind
        self.clock = clock
        self.resources = resources
        self.concurrency = concurrency
        self.hooks = hooks
        self._active: dict[str, ActiveRun] = {}
        self._claims = 0
        self._ready: dict[str, None] = {}
        self._wanted: Counter[str] = Counter()
        self._has_more = False
        self._is_claiming_any = False
        self._fill_is_planned = False
        self._is_serving = False
        self._is_stopping = False
        self._watchers: dict[str, list[Watcher]] = {}
        self._states: OrderedDict[str, tuple[int, State]] = OrderedDict()
        self._state_bytes = 0
        self._alarm = Alarm(clock, self._rung)
        self._patrol: asyncio.Task[None] | None = None
        self._stop_listening: Callable[[], None] | None = None

    # --- starting and stopping -----------------------------------------------------------

    async def serve(self) -> None:
        """Take over everything that is pending in this workflow, from now on."""
        await self.store.become_worker()
        self._is_serving = True
        self._is_stopping = False
        self._has_more = True
        self._keep_watch()
        self._plan_fill()

    async def stop(self, grace: float) -> None:
        """Let every run finish the event at hand, then give the runs back.

        Args:
            grace: seconds; what takes longer is cancelled and handled again later.
        """
        self._is_serving = False
        self._is_stopping = True
        self._ready.clear()
        self._wanted.clear()
        self._has_more = False
        tasks = [run.task for run in self._active.values() if run.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._active.clear()
        self._stop_watch()
        self._alarm.stop()
        await self.store.perform(base.Release(self.store.worker_id))
        self._is_stopping = False

    @property
    def is_serving(self) -> bool:
        """Whether every pending run of the workflow is handled here."""
        return self._is_serving

    def _keep_watch(self) -> None:
        """Notice other processes: their commits within 50 ms, their deaths within a second."""
        if self._stop_listening is None:
            self._stop_listening = self.store.listen(self._heard)
        if self._patrol is None or self._patrol.done():
            self._patrol = asyncio.get_running_loop().create_task(self._patrolling())

    def _stop_watch(self) -> None:
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self._patrol is not None:
            self._patrol.cancel()
            self._patrol = None

    def _relax(self) -> None:
        if not (self._is_serving or self._wanted or self._watchers):
            self._stop_watch()

    # --- sending ---------------------------------------------------------------------------

    def submit(
        self, operation: Append, deliver: Callable[[Appended | None, BaseException | None], None]
    ) -> None:
        """Append an event; with room to spare its run is claimed in the same transaction."""
        name = operation.correlation_id
        claims = (
            (self._is_serving or name in self._wanted)
            and name not in self._active
            and len(self._active) + self._claims < self.concurrency
        )
        if claims:
            self._claims += 1
            operation.claim_for = self.store.worker_id
            cached = self._states.get(name)
            if cached is not None:
                operation.cached_version = cached[0]

        def appended(result: Appended | None, error: BaseException | None) -> None:
            if claims:
                self._claims -= 1
            if result is not None:
                self._appended(name, result)
            deliver(result, error)

        self.store.submit(operation, appended)

    def _appended(self, name: str, result: Appended) -> None:
        if result.event is None:
            return
        run = self._active.get(name)
        if run is not None:
            run.absorb((result.event,))
        elif result.grant is not None:
            self._start(result.grant)
        elif name in self._wanted or (self._is_serving and len(self._ready) < _MOST_READY):
            self._ready[name] = None
            self._plan_fill()
        elif self._is_serving:
            self._has_more = True
            self._plan_fill()
        self._show(name, result.event)

    # --- claiming --------------------------------------------------------------------------

    async def want(self, names: Iterable[str]) -> None:
        """Handle these runs here, as soon as no one else does and there is room."""
        await self.store.become_worker()
        for name in names:
            self._wanted[name] += 1
            if name not in self._active:
                self._ready[name] = None
        self._keep_watch()
        self._plan_fill()

    async def prepare(self, name: str) -> None:
        """Get ready to handle a run whose event is about to be appended."""
        await self.store.become_worker()
        self._wanted[name] += 1

    def unwant(self, name: str) -> None:
        """Handle this run no longer than what is under way."""
        self._wanted[name] -= 1
        if self._wanted[name] <= 0:
            del self._wanted[name]
        self._relax()

    def _plan_fill(self) -> None:
        if not self._fill_is_planned and not self._is_stopping:
            self._fill_is_planned = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._fill_is_planned = False
        room = self.concurrency - len(self._active) - self._claims
        if room <= 0 or self._is_stopping:
            return
        names: list[str] = []
        while self._ready and len(names) < room:
            name = next(iter(self._ready))
            del self._ready[name]
            if name not in self._active:
                names.append(name)
        if names:
            self._claim(names, len(names))
            room -= len(names)
        if self._has_more and room > 0 and not self._is_claiming_any:
            self._is_claiming_any = True
            self._claim(None, room)

    def _claim(self, names: list[str] | None, limit: int) -> None:
        cached = (
            {name: version for name, (version, _) in self._states.items()}
            if names is None
            else {name: self._states[name][0] for name in names if name in self._states}
        )
        operation = base.Claim(
            self.workflow, self.store.worker_id, self.clock.now(), limit, names, cached
        )
        self._claims += limit

        def claimed(grants: list[Grant] | None, error: BaseException | None) -> None:
            self._claims -= limit
            if names is None:
                self._is_claiming_any = False
            if grants is None:
                self._failed_to_claim(names, error)
                return
            if names is None:
                self._has_more = self._is_serving and len(grants) == limit
            for grant in grants:
                self._start(grant)
            if names is not None and len(grants) < len(names):
                self._left_out(set(names) - {grant.run.correlation_id for grant in grants})

        self.store.submit(operation, claimed)

    def _failed_to_claim(self, names: list[str] | None, error: BaseException | None) -> None:
        logger.error("runs could not be claimed: %s", error)
        for name in names or ():
            for watcher in self._watchers.get(name, ()):
                if error is not None:
                    watcher.fail(error)
        if self._is_serving:
            self._alarm.set(self.clock.now() + STORE_RETRY_MICROSECONDS, None)

    def _left_out(self, names: set[str]) -> None:
        """Runs that were not to be had: settled, another's, or waiting for a time."""
        self._keep_watch()
        for name in names:
            for watcher in self._watchers.get(name, ()):
                watcher.look()
        self._survey()

    def _start(self, grant: Grant) -> None:
        name = grant.run.correlation_id
        cached = self._states.pop(name, None)
        if cached is not None:
            self._state_bytes -= cached[1].saved_bytes
        loaded = grant.loaded
        if loaded.state_is_cached and cached is not None:
            state = cached[1]
        else:
            state = State(self.kind, loaded.state, loaded.changes)
        run = ActiveRun.from_grant(grant, state)
        self._active[name] = run
        run.task = asyncio.get_running_loop().create_task(self._drive(run))

    # --- the loop of one run -----------------------------------------------------------------

    async def _drive(self, run: ActiveRun) -> None:
        try:
            while (stored := await self._next(run)) is not None:
                done = await handle_event(self, run, stored)
                await self.commit(
                    run,
                    commit_event(run, stored.position, done, self._is_routed, self.clock.now()),
                )
                if self._is_stopping:
                    break
        except LeaseLostError as error:
            self._lose(run, error)
        except FlowstoreError as error:
            self._break(run, error)
        except asyncio.CancelledError:
            self._drop(run)
            raise
        except Exception as error:
            logger.exception("the engine failed on run %r", run.correlation_id)
            self._break(run, error)

    async def _next(self, run: ActiveRun) -> StoredEvent | None:
        """Return the next event that has a handler; None when the run has settled."""
        while self._active.get(run.correlation_id) is run:
            for stored in run.pending:
                if self._is_routed(stored.name):
                    return stored
                self._pass(run, stored)
            run.pending.clear()
            if run.loaded < run.head:
                page = await self.store.perform(base.Load(run.id, run.loaded, _PAGE))
                run.absorb(page)
                if page:
                    continue
            await self.commit(run, pass_over(run, self.clock.now()))
        return None

    def _is_routed(self, name: str) -> bool:
        return bool(self.routes.handlers(name))

    def _pass(self, run: ActiveRun, stored: StoredEvent) -> None:
        if stored.name not in {"progress", "error"}:
            logger.debug("no handler for event %r in run %r", stored.name, run.correlation_id)
            if self.hooks:
                self.hooks.tell(
                    "unhandled",
                    correlation_id=run.correlation_id,
                    position=stored.position,
                    name=stored.name,
                )

    # --- commits ---------------------------------------------------------------------------

    def commit(self, run: ActiveRun, commit: Commit) -> asyncio.Future[Committed]:
        """Record something; the run's memory is up to date before the future is done."""
        recorded = _Recorded(self, run, commit)
        self.store.submit(commit, recorded)
        return recorded.future

    def committed(self, run: ActiveRun, commit: Commit, result: Committed) -> None:
        run.follow(result)
        if commit.transitions:
            run.number = commit.transitions[-1].number
        if self._active.get(run.correlation_id) is not run:
            return
        watchers = self._watchers.get(run.correlation_id)
        if watchers:
            for event in result.events:
                for watcher in tuple(watchers):
                    watcher.feed(event)
        if result.status != "running":
            self._retire(run)
            self._settled(run, result)
        elif commit.ready_at is not None:
            self._retire(run)
            self._alarm.set(commit.ready_at, run.correlation_id)

    def _retire(self, run: ActiveRun) -> None:
        """Let go of a run whose lease the last commit gave back; its state may be wanted soon."""
        del self._active[run.correlation_id]
        size = run.state.saved_bytes
        self._states[run.correlation_id] = (run.number, run.state)
        self._state_bytes += size
        while len(self._states) > _CACHED_STATES or self._state_bytes > _CACHED_BYTES:
            _, (_, state) = self._states.popitem(last=False)
            self._state_bytes -= state.saved_bytes
        if self._ready or self._has_more:
            self._plan_fill()

    def _settled(self, run: ActiveRun, result: Committed) -> None:
        for watcher in tuple(self._watchers.get(run.correlation_id, ())):
            watcher.settle(result.head)
        if self.hooks:
            self.hooks.tell("settled", correlation_id=run.correlation_id, status=result.status)

    def announce(self, run: ActiveRun, event: base.NewEvent, *, repeats: bool) -> None:
        """Append a progress event now; whether that went well shows at the handler's commit."""
        commit = announce(run, event, self.clock.now(), repeats=repeats)
        self.commit(run, commit).add_done_callback(_retrieve)

    async def record_step(self, run: ActiveRun, step: base.StepRow) -> None:
        """Put a step's result on disk."""
        await self.commit(run, record_step(run, step, self.clock.now()))

    # --- when a run cannot go on here ----------------------------------------------------------

    def _drop(self, run: ActiveRun) -> None:
        if self._active.get(run.correlation_id) is run:
            del self._active[run.correlation_id]
        if self._ready or self._has_more:
            self._plan_fill()

    def _lose(self, run: ActiveRun, error: LeaseLostError) -> None:
        logger.warning("%s", error)
        self._drop(run)
        if self.hooks:
            self.hooks.tell("lease_lost", correlation_id=run.correlation_id, reason=str(error))
        self._keep_watch()
        for watcher in self._watchers.get(run.correlation_id, ()):
            watcher.look()

    def _break(self, run: ActiveRun, error: Exception) -> None:
        logger.error("run %r cannot go on: %s", run.correlation_id, error)
        self._drop(run)
        for watcher in self._watchers.get(run.correlation_id, ()):
            watcher.fail(error)
        if self._is_serving:
            self._alarm.set(self.clock.now() + STORE_RETRY_MICROSECONDS, run.correlation_id)

    # --- other processes, and time ---------------------------------------------------------------

    def _heard(self) -> None:
        """Another process has written."""
        for name, watchers in self._watchers.items():
            if name not in self._active:
                for watcher in watchers:
                    watcher.look()
        if self._is_serving or self._active or self._wanted:
            self._survey()

    async def _patrolling(self) -> None:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            if self._is_serving or self._wanted:
                self._survey()

    def _survey(self) -> None:
        epochs = {run.id: run.epoch for run in self._active.values()}
        operation = base.Survey(self.workflow, self.store.worker_id, self.clock.now(), epochs)
        self.store.submit(operation, self._surveyed)

    def _surveyed(self, seen: base.Surveyed | None, error: BaseException | None) -> None:
        if seen is None:
            logger.error("the store could not be read: %s", error)
            return
        lost = set(seen.lost)
        for run in tuple(self._active.values()):
            if run.id in lost and run.task is not None:
                run.task.cancel()
        if seen.due is not None:
            self._alarm.set(seen.due, None)
        if seen.pending:
            self._look_for_work()

    def _look_for_work(self) -> None:
        if self._is_serving:
            self._has_more = True
        for name in self._wanted:
            if name not in self._active:
                self._ready[name] = None
        self._plan_fill()

    def _rung(self, names: set[str | None]) -> None:
        for name in names:
            if name is not None and (self._is_serving or name in self._wanted):
                self._ready[name] = None
        if None in names:
            self._look_for_work()
        self._plan_fill()

    # --- watching ----------------------------------------------------------------------------

    def _show(self, name: str, event: StoredEvent) -> None:
        for watcher in tuple(self._watchers.get(name, ())):
            watcher.feed(event)

    @contextlib.contextmanager
    def watch(self, watcher: AnyWatcher) -> Iterator[AnyWatcher]:
        """Feed a watcher for as long as the block lasts."""
        name = watcher.correlation_id
        self._watchers.setdefault(name, []).append(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[name]
            watchers.remove(watcher)
            if not watchers:
                del self._watchers[name]
            self._relax()

    def closed(self, run: base.RunRow) -> None:
        """Take note that a run was closed from outside; its handler is stopped."""
        active = self._active.get(run.correlation_id)
        if active is not None and active.task is not None:
            active.task.cancel()
        for watcher in tuple(self._watchers.get(run.correlation_id, ())):
            watcher.settle(run.head)

    async def follow(self, watcher: Watcher) -> AsyncIterator[StoredEvent]:
        """Yield a run's events from what the store has, and on, until the run has settled."""
        with self.watch(watcher):
            self._keep_watch()
            watcher.look()
            while (event := await watcher.next(self.store.reader)) is not None:
                yield event

    async def wait(self, waiter: Waiter, worker_id: str | None = None) -> bool:
        """Return true when the run has settled; see `Waiter.wait`."""
        with self.watch(waiter):
            self._keep_watch()
            waiter.look()
            return await waiter.wait(self.store.reader, worker_id)

    async def settle(self, names: list[str]) -> list[str]:
        """Handle these runs until they have settled; return those that no one else had."""
        continued: list[str] = []
        with contextlib.ExitStack() as stack:
            waiters = [stack.enter_context(self.watch(Waiter(name, 0))) for name in names]
            await self.want(names)
            try:
                for waiter in waiters:
                    if await waiter.wait(self.store.reader, self.store.worker_id):
                        continued.append(waiter.correlation_id)
            finally:
                for name in names:
                    self.unwant(name)
        return continued


class _Recorded:
    """Waits for one commit; a class, since a closure costs the collector a cell a variable."""

    __slots__ = ("_commit", "_engine", "_run", "future")

    def __init__(self, engine: Engine, run: ActiveRun, commit: Commit) -> None:
        self._engine = engine
        self._run = run
        self._commit = commit
        self.future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        run.in_flight += len(commit.events)

    def __call__(self, result: Committed | None, error: BaseException | None) -> None:
        run = self._run
        run.in_flight -= len(self._commit.events)
        if result is not None:
            self._engine.committed(run, self._commit, result)
        if self.future.done():
            return
        if result is not None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error or StoreError())


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
