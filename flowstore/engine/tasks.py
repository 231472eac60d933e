"""Tasks: what runs beside the handlers, from the commit that submits it to its last event."""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson

from flowstore.codec import Encoded
from flowstore.engine.alarm import Alarm
from flowstore.engine.claims import STORE_RETRY_MICROSECONDS
from flowstore.engine.progress import Progress, no_progress
from flowstore.engine.takeover import TakeOver
from flowstore.engine.turns import Turns, Work
from flowstore.engine.words import storable, told
from flowstore.errors import (
    FlowstoreError,
    RemoteTaskError,
    StoreClosedError,
    StoreError,
    TaskTimeoutError,
)
from flowstore.events import TASK_COMPLETED, TASK_FAILED
from flowstore.executors import ASYNCIO, THREADS
from flowstore.parameters import IDEMPOTENCY_KEY
from flowstore.store.base import INTERNAL, Append, EndTask, NewEvent, RetryTask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.engine.recording import Outcome
    from flowstore.routing import Routes
    from flowstore.store.base import Store, TaskRow
    from flowstore.task import Tasks

    class Owner(Protocol):
        """What tasks need of the engine."""

        workflow: str
        store: Store
        routes: Routes
        codec: Codec
        clock: Clock
        tasks: Tasks
        loop: asyncio.AbstractEventLoop

        def append(self, *operations: Append | EndTask) -> asyncio.Future[list[Outcome]]:
            """Append events."""
            ...

        def left_out(self, names: Iterable[str]) -> None:
            """Have those who watch these runs look in the store."""
            ...


logger = logging.getLogger("flowstore")

SECONDS_BETWEEN_LOOKS: Final = 0.9
"""How often it is seen whether runs with tasks were closed: less than a patrol's round."""

CANCELLED: Final = "CancelledError"


class TaskRunner:
    """Runs the tasks that this process has submitted or taken over."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._runs: dict[str, dict[str, Work]] = {}
        self._take_over = TakeOver(owner, self._add)
        self._turns = Turns(owner.clock, self._start, self._at)
        self._alarm = Alarm(owner.clock, self._ring)
        self._actions: dict[str, Callable[[], None]] = {}
        self._keys = itertools.count(1)
        self._is_stopped = False
        self._guard: asyncio.Task[None] | None = None
        self._ask_at = 0.0

    def has(self, correlation_id: str) -> bool:
        """Tell whether tasks of this run are under way here."""
        return correlation_id in self._runs

    # --- what is to be done ------------------------------------------------------------

    def submitted(self, correlation_id: str, rows: Sequence[TaskRow]) -> None:
        """Start what a commit has submitted; other workers leave it to this one."""
        for row in rows:
            if row.kind == INTERNAL:
                self._add(correlation_id, row)

    def take(self, runs: Collection[str] | None) -> None:
        """Take over tasks that no live worker is at.

        Args:
            runs: only those of these runs; None for any of the workflow.
        """
        if not self._is_stopped:
            self._take_over.take(runs)

    def _add(self, correlation_id: str, row: TaskRow) -> None:
        if self._is_stopped or row.id in self._runs.get(correlation_id, ()):
            return  # it stays in the store, for whoever comes next
        work = Work(correlation_id, row, self._owner.tasks.get(row.name))
        self._runs.setdefault(correlation_id, {})[row.id] = work
        if row.ready_at is not None and row.ready_at > self._owner.clock.now():
            self._at(row.ready_at, partial(self._try_again, work))
        else:
            self._turns.put(work)

    # --- an attempt ----------------------------------------------------------------------

    def _start(self, work: Work) -> None:
        task, lane = work.task, work.lane
        if lane is None:
            return
        try:
            args, kwargs = task.decode_arguments(work.row.arguments or "")
            for name in task.not_given(args, kwargs):
                kwargs[name] = self._injected(work, name)
        except Exception as error:  # noqa: BLE001 - annotations bring code of the user's
            self._release(work)
            self._fail_attempt(work, error)
            return
        self._guard_loop()
        attempt = lane.place.runner.run(task.function, args, kwargs)
        work.job = self._owner.loop.create_task(cast("Any", attempt))
        work.job.add_done_callback(partial(self._done, work))
        if task.timeout is not None:
            moment = self._owner.clock.now() + round(task.timeout * 1_000_000)
            work.alarm = self._at(moment, partial(self._time_out, work))

    def _injected(self, work: Work, name: str) -> Any:
        owner = self._owner
        if name == IDEMPOTENCY_KEY:
            return f"{work.correlation_id}/{work.row.id}"
        if work.task.executor not in (ASYNCIO, THREADS):
            return no_progress
        work.progress = Progress(
            work, owner.codec, owner.clock, owner.loop, tell=self._tell_progress, at=self._at
        )
        return work.progress

    def _done(self, work: Work, job: asyncio.Task[Any]) -> None:
        """Take in how an attempt ended, unless it was given up before."""
        error: BaseException | None = None
        if job.cancelled():
            error = FlowstoreError("the task was cancelled from within")
        elif job.exception() is not None:
            error = job.exception()
        if work.job is not job or (job.cancelled() and self._is_loop_ending):
            return
        self._release(work)
        if error is not None:
            self._fail_attempt(work, error)
            return
        try:
            result = work.task.encode_result(job.result())
        except Exception as refused:  # noqa: BLE001 - annotations bring code of the user's
            self._fail_attempt(work, refused)
        else:
            self._complete(work, result)

    def _time_out(self, work: Work) -> None:
        self._give_up(work)
        seconds = work.task.timeout or 0.0
        message = f"task {work.row.name!r} took more than its timeout of {seconds:g} s"
        self._fail_attempt(work, TaskTimeoutError(message))

    def _give_up(self, work: Work) -> None:
        """Let an attempt be; it is not waited for, as it may never end."""
        job = work.job
        if work.progress is not None:
            work.progress.close()
        self._release(work)
        if job is not None:
            job.cancel()

    def _release(self, work: Work) -> None:
        work.job = None
        if work.progress is not None:
            work.progress.finish()
            work.progress = None
        if work.alarm is not None:
            self._actions.pop(work.alarm, None)
            work.alarm = None
        self._turns.free(work)

    # --- how it ends ---------------------------------------------------------------------

    def _fail_attempt(self, work: Work, error: BaseException) -> None:
        owner, row, retry = self._owner, work.row, work.task.retry
        tried, seconds = row.attempt + 1, None
        if retry is not None:
            chance = owner.clock.random(f"{work.correlation_id}/{row.id}/{tried}")
            seconds = retry.seconds_after(tried, error, chance)
        kind = error.exception if isinstance(error, RemoteTaskError) else type(error).__name__
        text = storable(told(error))
        if seconds is None:
            self._fail(work, kind, text)
            return
        logger.warning(
            "task %r (%s) of run %r failed, next try in %.1f s: %s",
            row.name,
            row.id,
            work.correlation_id,
            seconds,
            text,
        )
        ready_at = owner.clock.now() + round(seconds * 1_000_000)
        operation = RetryTask(row.run_id, row.id, owner.store.worker_id, tried, text, ready_at)
        work.row = row._replace(attempt=tried, ready_at=ready_at)
        owner.store.submit(operation, partial(self._retried, work, kind, text))

    def _retried(
        self,
        work: Work,
        kind: str,
        text: str,
        is_ours: bool | None,  # noqa: FBT001 - the store delivers by position
        error: BaseException | None,
    ) -> None:
        if error is not None:
            logger.error("a failed attempt at task %r is not recorded: %s", work.row.id, error)
        if is_ours is False:
            self._fail(work, kind, text)  # the store says why it is not wanted
        elif not self._is_stopped:
            self._at(work.row.ready_at or 0, partial(self._try_again, work))

    def _try_again(self, work: Work) -> None:
        if not work.is_over:
            self._turns.put(work)

    def _complete(self, work: Work, result: str) -> None:
        row, codec = work.row, self._owner.codec
        names = orjson.dumps({"task_id": row.id, "task": row.name}).decode()
        version = codec.version_of(TASK_COMPLETED)
        data = f'{names[:-1]},"result":{result}}}'
        self._end(work, Encoded(TASK_COMPLETED, version, data, None, None))

    def _fail(self, work: Work, exception: str, text: str) -> None:
        row = work.row
        logger.error(
            "task %r (%s) of run %r failed: %s", row.name, row.id, work.correlation_id, text
        )
        self._end_failed(work, exception, text)

    def _end_failed(self, work: Work, exception: str, text: str) -> None:
        data = {"task_id": work.row.id, "task": work.row.name, "exception": exception}
        self._end(work, self._owner.codec.encode_own(TASK_FAILED, data, text))

    def _end(self, work: Work, encoded: Encoded) -> None:
        work.is_over = True
        row = work.row
        cause, now = row.causation_id, self._owner.clock.now()
        self._send(work, NewEvent(f"{row.id}/end", *encoded, cause, now, None))

    def _send(self, work: Work, event: NewEvent) -> None:
        owner = self._owner
        operation = EndTask(
            work.correlation_id,
            owner.workflow,
            work.row.id,
            event,
            owner.store.worker_id,
            owner.clock.now(),
        )
        owner.append(operation).add_done_callback(partial(self._sent, work, event))

    def _sent(self, work: Work, event: NewEvent, future: asyncio.Future[list[Outcome]]) -> None:
        [(appended, error)] = future.result()
        name, row = work.correlation_id, work.row
        if isinstance(error, StoreError) and not isinstance(error, StoreClosedError):
            logger.error(
                "the end of task %r of run %r waits for the store: %s", row.id, name, error
            )
            again = self._owner.clock.now() + STORE_RETRY_MICROSECONDS
            self._at(again, partial(self._send, work, event))
            return
        if appended is not None and appended.status == "stale":
            logger.info("task %r of run %r ended too late: %s", row.id, name, appended.reason)
            self._owner.left_out([name])  # it may have been closed from elsewhere
        elif error is not None:
            logger.error("the end of task %r of run %r was refused: %s", row.id, name, error)
        works = self._runs.get(name, {})
        works.pop(row.id, None)
        if not works:
            self._runs.pop(name, None)

    def _tell_progress(self, work: Work, encoded: Encoded) -> None:
        owner = self._owner
        now, cause = owner.clock.now(), work.row.causation_id
        event = NewEvent(owner.clock.new_id(), *encoded, cause, now, None)
        is_quiet = not owner.routes.handlers(encoded.name)
        operation = Append(
            work.correlation_id, owner.workflow, event, chosen_id=False, now=now, is_quiet=is_quiet
        )
        owner.append(operation)

    # --- the end of a run, and of the engine ------------------------------------------------

    def closed(self, correlation_id: str) -> None:
        """Give up the tasks of a run that was closed; the store records their ends as stale."""
        for work in tuple(self._runs.get(correlation_id, {}).values()):
            if not work.is_over:
                self._give_up(work)
                self._end_failed(work, CANCELLED, "the run was closed before the task had ended")

    def runs_to_ask_about(self) -> list[int]:
        """Return the runs of the tasks under way, once in a while: another may close them."""
        now = self._owner.loop.time()
        if now < self._ask_at:
            return []
        self._ask_at = now + SECONDS_BETWEEN_LOOKS
        return [next(iter(works.values())).row.run_id for works in self._runs.values()]

    def closed_elsewhere(self, runs: Collection[int]) -> list[str]:
        """Give up the tasks of runs that another process has closed; return those runs."""
        gone = [
            name
            for name, works in self._runs.items()
            if next(iter(works.values())).row.run_id in runs
        ]
        for name in gone:
            self.closed(name)
        return gone

    def stop(self) -> set[asyncio.Task[Any]]:
        """Start no more and cancel what runs, which stays pending in the store; return it."""
        self._is_stopped = True
        self._alarm.stop()
        self._turns.stop()
        jobs: set[asyncio.Task[Any]] = set()
        if self._guard is not None:
            self._guard.cancel()
        for work in [work for works in self._runs.values() for work in works.values()]:
            job = work.job
            if job is not None and not job.done():
                work.job = None
                if work.progress is not None:
                    work.progress.close()
                job.cancel()
                jobs.add(job)
        return jobs

    def close(self) -> None:
        """Give up threads and processes; wait for nothing."""
        self._is_stopped = True
        self._turns.close()

    @property
    def _is_loop_ending(self) -> bool:
        return self._guard is not None and self._guard.cancelling() > 0

    def _guard_loop(self) -> None:
        """Have a task on the loop that no one cancels but whoever cancels all there are."""
        if self._guard is None:
            self._guard = self._owner.loop.create_task(_wait_for_ever())
            self._guard.add_done_callback(self._end_with_loop)

    def _end_with_loop(self, _guard: asyncio.Task[None]) -> None:
        """The loop comes to its end without us: like a crash, but no process is left behind."""
        if not self._is_stopped:
            self.close()

    # --- time -----------------------------------------------------------------------------

    def _at(self, moment: int, action: Callable[[], None]) -> str:
        """Do something at a moment; return the key under which it can be taken back."""
        key = str(next(self._keys))
        if not self._is_stopped:
            self._actions[key] = action
            self._alarm.set(moment, key)
        return key

    def _ring(self, keys: set[str | None]) -> None:
        for key in sorted(int(key) for key in keys if key is not None):
            action = self._actions.pop(str(key), None)
            if action is not None:
                action()


async def _wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()
