"""The engine of one process on one event loop: the loop of each run, and its commits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from flowstore.engine.active import ActiveRun
from flowstore.engine.around import Live
from flowstore.engine.attendance import Attendance
from flowstore.engine.claims import Claims
from flowstore.engine.cron import CronTimers
from flowstore.engine.decide import (
    announce,
    give_back,
    record_step,
)
from flowstore.engine.drive import drive
from flowstore.engine.recording import Appending, Batch, Recording, ignore, retrieve, tell
from flowstore.engine.states import StateCache
from flowstore.engine.streams import Streams
from flowstore.engine.tasks import TaskRunner
from flowstore.engine.timers import Timers
from flowstore.engine.watch import Watchers
from flowstore.errors import (
    FlowstoreError,
    LeaseLostError,
    StoreClosedError,
    StoreError,
)
from flowstore.state import State
from flowstore.store import base
from flowstore.store.base import CLOSED, WORKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.engine.recording import Outcome
    from flowstore.hooks import Hooks
    from flowstore.kind import StateKind
    from flowstore.routing import Routes
    from flowstore.schedule import Crons
    from flowstore.store.base import (
        Append,
        Appended,
        Commit,
        Committed,
        EndTask,
        Grant,
        Operation,
        Store,
    )
    from flowstore.task import Tasks

logger = logging.getLogger("flowstore")

_PAGE = 256

CLOSED_WHILE_WATCHED = "the WorkflowManager was closed while this run was watched"

UNREADABLE_MICROSECONDS = 60_000_000
"""How long a run is left alone whose state could not be read."""


class Engine(Live):
    """Handles runs.

    Args:
        workflow: whose runs.
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
        crons: Crons,
        tasks: Tasks,
    ) -> None:
        self.workflow = workflow
        self.store = store
        self.routes = routes
        self.codec = codec
        self.clock = clock
        self.resources = resources
        self.concurrency = concurrency
        self.hooks = hooks
        self.crons = crons
        self.tasks = tasks
        self.logger = logger
        self.loop = asyncio.get_running_loop()
        self.states = StateCache()
        self.active: dict[str, ActiveRun] = {}
        # Epochs of leases still held for runs that could not go on here.
        self.orphans: dict[str, int] = {}
        self._kind = kind
        self._watchers = Watchers()
        self.streams = Streams(self, self._watchers)
        self._claims = Claims(self)
        self._timers = Timers(self)
        self._task_runner = TaskRunner(self)
        self._cron_timers = CronTimers(self)
        self.attendance = Attendance(self, self._watchers, self._claims)

    # --- starting and stopping -----------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether runs are to be given back after the event at hand."""
        return self._claims.is_stopping

    @property
    def is_serving(self) -> bool:
        """Whether every pending run of the workflow is handled here."""
        return self._claims.is_serving

    async def serve(self) -> None:
        """Take over everything that is pending in this workflow, from now on."""
        await self.store.become_worker()
        self._claims.serve()
        self._timers.serve()
        self._cron_timers.serve()

    async def stop(self, grace: float) -> None:
        """Let every run finish the event at hand, then give the runs back, for good.

        Args:
            grace: seconds; what takes longer is cancelled and handled again later.
        """
        self._claims.stop()
        self._timers.stop()
        self._cron_timers.stop()
        jobs = self._task_runner.stop()
        loops = {run.task for run in self.active.values() if run.task is not None}
        if loops or jobs:
            _, late = await asyncio.wait(loops | jobs, timeout=grace)
            for task in late:
                task.cancel()
            # Tasks are the user's code, which may ignore that it is cancelled.
            await asyncio.gather(*loops, return_exceptions=True)
        self._task_runner.close()
        self.active.clear()
        self._watchers.fail_all(StoreClosedError(CLOSED_WHILE_WATCHED))
        if self.store.is_worker:
            try:
                await self.store.perform(base.Release(self.store.worker_id))
            except StoreError as error:
                # Closing the store ends this worker, which frees its runs as well.
                logger.warning("runs could not be given back one by one: %s", error)

    def abandon(self) -> None:
        """Leave no process behind: the event loop has ended, so nothing else can be done."""
        self._task_runner.close()

    # --- sending ---------------------------------------------------------------------------

    def check_open(self) -> None:
        """Refuse to wait for what will not come.

        Raises:
            StoreClosedError: the engine has been stopped.
        """
        if self._claims.is_stopping:
            raise StoreClosedError(CLOSED_WHILE_WATCHED)

    def append(self, *operations: Append | EndTask) -> asyncio.Future[list[Outcome]]:
        """Append events; with room to spare their runs are claimed in the same transaction.

        Returns:
            what became of each, once all are on disk or refused.
        """
        batch = Batch(len(operations))
        for index, operation in enumerate(operations):
            name = operation.correlation_id
            kept: State | None = None
            claims = self._claims.claims_with_append(name)
            if claims:
                operation.claim_for = self.store.worker_id
                operation.cached_version, kept = self.states.get(name)
            self.store.submit(operation, Appending(self, name, kept, batch, index, claims=claims))
        return batch.future

    def appended(
        self, name: str, result: Appended | None, kept: State | None, *, claims: bool
    ) -> None:
        """Take in what became of an append."""
        if claims:
            self._claims.append_ended(name)
        if result is None or result.event is None:
            return
        if result.grant is not None:
            self.start(result.grant, kept)
            self._watchers.feed(name, (result.event,))
        else:
            self.arrived(name, result)

    def arrived(self, name: str, appended: Appended) -> None:
        """Take in an event that is in the log; its run goes on where it is, or is claimed."""
        if appended.event is None:
            return
        run = self.active.get(name)
        if run is not None:
            run.absorb((appended.event,))
        elif appended.run_status == "running":
            self._claims.waits(name)
        self._watchers.feed(name, (appended.event,))

    def runs_with_tasks(self) -> Sequence[int]:
        """Return the runs with tasks under way here that have not been asked about lately."""
        return self._task_runner.runs_to_ask_about()

    def closed_elsewhere(self, runs: Collection[int]) -> None:
        """Take note that runs with tasks under way here were closed."""
        self.left_out(self._task_runner.closed_elsewhere(runs))

    def take_tasks(self, runs: Collection[str] | None) -> None:
        """Take over what dead workers were at, in these runs or in any."""
        self._task_runner.take(runs)

    def expect(self, due: int | None) -> None:
        """Take note that a timer is due then, whoever has set it."""
        self._timers.expect(due)

    # --- the loop of one run -----------------------------------------------------------------

    def start(self, grant: Grant, kept: State | None) -> None:
        """Go on with a run.

        Args:
            grant: its lease.
            kept: the state whose version the claim named; it counts if it is still the run's.
        """
        if self._claims.is_stopping:
            return  # the lease is given back with the others
        name = grant.run.correlation_id
        loaded = grant.loaded
        self.states.discard(name)
        self.orphans.pop(name, None)
        try:
            if loaded.state_is_cached and kept is not None:
                state = kept
                state.unpack()
            else:
                state = State(self._kind, loaded.state, loaded.changes)
        except FlowstoreError as error:
            self._refuse(grant.run, error)
            return
        run = self.active[name] = ActiveRun.from_grant(grant, state)
        run.task = self.loop.create_task(drive(self, run))

    # --- commits ---------------------------------------------------------------------------

    def perform(self, operation: Operation) -> asyncio.Future[Any]:
        """Have the store do something."""
        return self.store.perform(operation)

    def commit(self, run: ActiveRun, commit: Commit) -> asyncio.Future[Committed]:
        """Record something; the run's memory is up to date before the future is done."""
        recorded = Recording(self, run, commit)
        self.store.submit(commit, recorded)
        return recorded.future

    def committed(self, run: ActiveRun, commit: Commit, result: Committed) -> None:
        """Take in what a commit came to."""
        run.follow(result)
        if commit.transitions:
            run.number = commit.transitions[-1].number
        run.failure = commit.reason
        name = run.correlation_id
        if commit.outstanding is not None:
            self._timers.set(commit.outstanding.timers)
            self._task_runner.submitted(name, commit.outstanding.tasks)
        if self.hooks:
            tell(self.hooks, commit)
        if self.active.get(name) is not run:
            return
        if result.events:
            self._watchers.feed(name, result.events)
        if result.status != "running":
            self._retire(run)
            self._settled(name, result)
        elif commit.ready_at is not None:
            self._retire(run)
            self._claims.wait_until(commit.ready_at, name)

    def _settled(self, name: str, result: Committed) -> None:
        if result.status == WORKING:
            self._claims.watch_over_tasks()
            if not self._task_runner.has(name):
                self._claims.survey()  # others are at its tasks, or were
            return
        if result.status in CLOSED:
            self._task_runner.closed(name)
        self._watchers.settle(name, result.head)
        if self.hooks:
            self.hooks.tell("settled", correlation_id=name, status=result.status)

    def _retire(self, run: ActiveRun) -> None:
        """Let go of a run whose lease the last commit gave back; its state may be wanted soon."""
        del self.active[run.correlation_id]
        if not run.is_state_void:
            self.states.put(run.correlation_id, run.number, run.state)
        self._claims.plan()

    def announce(
        self, run: ActiveRun, event: base.NewEvent, *, repeats: bool
    ) -> asyncio.Future[Committed]:
        """Append an event now; whether that went well shows at the handler's commit."""
        commit = announce(run, event, self.clock.now(), repeats=repeats)
        future = self.commit(run, commit)
        future.add_done_callback(retrieve)
        return future

    async def record_step(self, run: ActiveRun, step: base.StepRow) -> None:
        """Put a step's result on disk."""
        await self.commit(run, record_step(run, step, self.clock.now()))

    # --- when a run cannot go on here ----------------------------------------------------------

    def let_go(self, run: ActiveRun) -> None:
        """Stop handling the run; its lease is still held."""
        if self.active.get(run.correlation_id) is run:
            del self.active[run.correlation_id]
            self.orphans[run.correlation_id] = run.epoch
        self._claims.plan()

    def lose(self, run: ActiveRun, error: LeaseLostError) -> None:
        """Another worker has the run, or it was closed."""
        logger.warning("%s", error)
        self.let_go(run)
        if self.hooks:
            self.hooks.tell("lease_lost", correlation_id=run.correlation_id, reason=str(error))
        self._claims.keep_watch()
        self._watchers.look(run.correlation_id)

    def give_up(self, run: ActiveRun, error: Exception) -> None:
        """The run cannot go on here."""
        logger.error("run %r cannot go on here: %s", run.correlation_id, error)
        self.let_go(run)
        self._watchers.fail(run.correlation_id, error)
        self._claims.try_later(run.correlation_id)

    def _refuse(self, run: base.RunRow, error: FlowstoreError) -> None:
        """Give back a run whose state this code cannot read; only other code can help it."""
        name = run.correlation_id
        logger.error("run %r cannot go on here: %s", name, error)
        now = self.clock.now()
        self.store.submit(give_back(run, now, now + UNREADABLE_MICROSECONDS), ignore)
        self._watchers.fail(name, error)
        self._claims.plan()

    def left_out(self, names: Iterable[str]) -> None:
        """These runs were not to be had: settled, another's, or waiting for a time."""
        for name in names:
            self._watchers.leave_out(name)

    def failed(self, names: Iterable[str], error: BaseException) -> None:
        """The store failed before these runs could be claimed."""
        for name in names:
            self._watchers.fail(name, error)

    def heard(self) -> None:
        """Another process has written."""
        self._watchers.look_beyond(self.active)

    def lost(self, run: ActiveRun) -> None:
        """Another worker has this run, or it was closed: its handler is stopped."""
        if run.task is not None:
            run.task.cancel()
        if self.hooks:
            name = run.correlation_id
            reason = f"the lease of epoch {run.epoch} has ended"
            self.hooks.tell("lease_lost", correlation_id=name, reason=reason)

    def closed(self, run: base.RunRow) -> None:
        """Take note that a run was closed from outside; its handler is stopped."""
        active = self.active.get(run.correlation_id)
        if active is not None and active.task is not None:
            active.task.cancel()
        self._task_runner.closed(run.correlation_id)
        self._watchers.settle(run.correlation_id, run.head)

    # --- watching ----------------------------------------------------------------------------

    def is_watched(self) -> bool:
        """Tell whether someone watches a run."""
        return bool(self._watchers)
