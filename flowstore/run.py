"""`Run`: a run, seen from outside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flowstore import token
from flowstore.change import replay
from flowstore.clock import to_microseconds
from flowstore.engine import Waiter, Watcher
from flowstore.errors import InvalidValueError, RunNotFoundError, WaitTimeoutError
from flowstore.events import TASK_COMPLETED, TASK_FAILED, Receipt, WorkflowEvent
from flowstore.store.base import SETTLED, Append, Close, DiscardDead, EndTask, NewEvent, RetryDead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from flowstore.replay.history import Transition
    from flowstore.runtime import Runtime
    from flowstore.store.archive import Archive
    from flowstore.store.base import Appended, OutstandingRecord, RunRecord

_PAGE = 500

MOST_REASON = 4096
"""How long a reason can be, in characters."""


class Run:
    """A run, seen from outside; made by `WorkflowManager.run`."""

    def __init__(self, runtime: Runtime, correlation_id: str) -> None:
        self._runtime = runtime
        self.correlation_id = correlation_id

    def __repr__(self) -> str:
        return f"<Run {self.correlation_id!r}>"

    async def send(
        self, event: object, *, id: str | None = None, expires_at: datetime | None = None
    ) -> Receipt:
        """Append an event to this run; see `WorkflowManager.send`."""
        runtime = self._runtime
        return await send(runtime, event, self.correlation_id, id, expires_at)

    async def events(self, *, after: int = 0, follow: bool = False) -> AsyncIterator[WorkflowEvent]:
        """Yield the run's events in order.

        Args:
            after: the position to start behind.
            follow: go on with what comes, in whatever process it is handled, until the run
                has settled.

        Raises:
            RunNotFoundError: there is no such run.
        """
        runtime, name = self._runtime, self.correlation_id
        engine = runtime.engine()
        reader = await runtime.reader()
        await self.info()
        if follow:
            watcher = Watcher(name, after)
            async for stored in engine.attendance.follow(watcher):
                yield engine.streams.event(stored, name, watcher.held.pop(stored.id, None))
            return
        while True:
            page = await reader.read_events(name, after=after, limit=_PAGE)
            for stored in page:
                yield engine.streams.event(stored, name)
            if len(page) < _PAGE:
                return
            after = page[-1].position

    async def info(self) -> RunRecord:
        """Return what the store says of the run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return await self._runtime.record(self.correlation_id)

    async def status(self) -> str:
        """Return the run's status: running, waiting, idle, completed, failed or cancelled.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return (await self.info()).status

    async def state(self, *, at: int | None = None) -> Any:
        """Return the run's state as it is, or as it was after a position.

        Args:
            at: a position from 0 to the run's head.

        Raises:
            RunNotFoundError: there is no such run.
            InvalidValueError: the run has no such position.
        """
        record = await self.info()
        if at is not None and not (type(at) is int and 0 <= at <= record.head):
            raise InvalidValueError(
                "at", f"{at!r} is not a position of the run: 0 to {record.head}"
            )
        reader = await self._runtime.reader()
        snapshot, changes = await reader.read_state(self.correlation_id, at=at)
        return self._runtime.kind.restore(replay(snapshot, changes))

    async def history(
        self, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[Transition]:
        """Yield what every attempt of every handler found and did, in order.

        It is read page by page, also of a run that goes on; nothing is run or written.

        Args:
            after: the position to start behind.
            until: the position to end with; None for the run's last.

        Raises:
            RunNotFoundError: there is no such run.
        """
        from flowstore.replay.history import read_history  # noqa: PLC0415 - a worker needs none of it

        await self.info()
        runtime, reader = self._runtime, await self._runtime.reader()
        envelope = runtime.engine().streams.event
        found = read_history(
            reader, self.correlation_id, after=after, until=until, envelope=envelope
        )
        async for transition in found:
            yield transition

    async def wait(self, timeout: float | None = None) -> RunRecord:
        """Return when the run has settled, whoever handles it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            RunNotFoundError: there is no such run.
            WaitTimeoutError: it has not settled in time.
        """
        engine = self._runtime.engine()
        if self.correlation_id not in engine.active:
            await self.info()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await engine.attendance.wait(Waiter(self.correlation_id, 0))
                    record = await self.info()
                    if record.status in SETTLED:  # a timer or a sender may have been faster
                        return record
        except TimeoutError:
            record = await self.info()
            if record.status in SETTLED:
                return record
            owner = "no worker has it" if record.owner is None else f"worker {record.owner} has it"
            raise WaitTimeoutError(
                f"run {self.correlation_id!r} has not settled in {timeout:g} s: "
                f"{record.head - record.cursor} events are pending and {owner}; runs are handled "
                "in `async with workflow:` and by workflow.process and workflow.resume"
            ) from None

    async def outstanding(self, *, limit: int | None = None) -> list[OutstandingRecord]:
        """Return what the run waits for: timers, tasks, parked handlers, collected events.

        What began first comes first. Tokens of external tasks are not shown to anyone.

        Args:
            limit: how many at most.

        Raises:
            RunNotFoundError: there is no such run.
        """
        await self.info()
        reader = await self._runtime.reader()
        return await reader.list_outstanding(self.correlation_id, limit=limit)

    async def fork(
        self,
        *,
        at: int,
        edit_event: Mapping[str, Any] | None = None,
        edit_state: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        from_now: bool = False,
    ) -> Run:
        """Make a new run with the same history up to an event, which goes on from there.

        It goes on with the handlers of whoever serves the workflow: what comes behind the event
        in this run is done again by the fork, with whatever it does outside. See
        ``docs/forks.md``.

        Args:
            at: the position of the last event that comes along as handled.
            edit_event: a JSON merge patch (RFC 7396) for the event at this position: ``name``,
                ``data``, ``metadata``, ``error``. Those before it then count as handled, and it
                is handled anew; an empty one changes nothing else.
            edit_state: a JSON merge patch for the state that the fork goes on from.
            correlation_id: the fork's; None for ``<run>~<at>``, with a number if that is taken.
            from_now: timers are due in as long as they were when the event had been handled;
                else they keep their times, and those that have passed are due at once.

        Raises:
            RunNotFoundError: there is no such run.
            RunExistsError: there is one with the fork's correlation_id.
            ForkError: the run cannot be forked there.
            InvalidValueError: what is edited cannot be stored; says where.
        """
        from flowstore.replay.fork import Edits, fork  # noqa: PLC0415 - a worker needs none of it
        from flowstore.replay.fork_writing import place  # noqa: PLC0415

        runtime, name = self._runtime, self.correlation_id
        await self.info()
        store, edits = runtime.store(), Edits(event=edit_event, state=edit_state)
        found = await store.reader.read_archives([name])
        if not found:
            raise RunNotFoundError(f"run {name!r} has just been removed from {runtime.place}")

        def make(new: str) -> Archive:
            return fork(
                found[0],
                at=at,
                name=new,
                now=runtime.clock.now(),
                codec=runtime.codec,
                edits=edits,
                kind=runtime.kind,
                from_now=from_now,
            )

        made = await place(store, runtime.codec, make, source=name, at=at, name=correlation_id)
        runtime.engine().attendance.look_around()
        return Run(runtime, made.run.correlation_id)

    async def retry_dead(self, position: int, handler: str | None = None) -> Receipt:
        """Have a handler called again that failed for good, and no other handler of its event.

        Whoever serves the workflow calls it, or the next `resume`. A run that failed because of
        it is open again, without the timers, tasks and waits that ended when it failed.

        Args:
            position: where the dead letter is recorded, as ``flowstore dead`` lists it.
            handler: under which name; None if it is the only one there.

        Returns:
            the receipt of the event at which it is called, ``dead.retried``.

        Raises:
            RunNotFoundError: there is no such run.
            DeadLetterError: there is no such dead letter, or none any more, or the run is closed
                for another reason.
        """
        engine, name = self._runtime.engine(), self.correlation_id
        retry = RetryDead(name, position, handler, self._runtime.clock.now())
        done = await engine.perform(retry)
        engine.arrived(name, done.appended)
        return Receipt(
            status="accepted",
            id=done.appended.event.id,
            correlation_id=name,
            position=done.appended.position,
        )

    async def discard_dead(
        self, position: int, handler: str | None = None, reason: str | None = None
    ) -> None:
        """Record that nothing is to be done about a dead letter, which is listed no more.

        Args:
            position: as for `retry_dead`.
            handler: as for `retry_dead`.
            reason: why, for the record.

        Raises:
            RunNotFoundError, DeadLetterError: as for `retry_dead`.
            InvalidValueError: the reason is no proper text.
        """
        if reason is not None:
            self._runtime.codec.check_text(reason, "reason", MOST_REASON)
        now = self._runtime.clock.now()
        discard = DiscardDead(self.correlation_id, position, handler, reason, now)
        await self._runtime.engine().perform(discard)

    async def cancel(self, reason: str | None = None) -> RunRecord:
        """Close the run as cancelled; a handler at work is stopped and cannot commit.

        Args:
            reason: why; kept with the run.

        Returns:
            the run as it then is; one that was closed before is left as it was.

        Raises:
            RunNotFoundError: there is no such run.
            InvalidValueError: the reason is no proper text.
        """
        if reason is not None:
            self._runtime.codec.check_text(reason, "reason", MOST_REASON)
        engine = self._runtime.engine()
        closed = await engine.store.perform(
            Close(self.correlation_id, "cancelled", reason, self._runtime.clock.now())
        )
        engine.closed(closed)
        return await self.info()


async def send(
    runtime: Runtime,
    event: object,
    correlation_id: str | None,
    event_id: str | None,
    expires_at: datetime | None,
) -> Receipt:
    """Append an event and return its receipt."""
    expiry = None if expires_at is None else _expiry(expires_at)
    operation = runtime.append(event, *identity(event, correlation_id, event_id), expiry)
    return receipt(operation, await runtime.engine().attendance.append(operation))


async def end_task(
    runtime: Runtime, text: str, outcome: dict[str, Any], error: str | None
) -> Receipt:
    """End the external task of a token and return the receipt of its event.

    Args:
        runtime: of the workflow whose task it is.
        text: the token.
        outcome: what the event's data says beside the task's id and name.
        error: what went wrong; None if it was completed.
    """
    engine = runtime.engine()
    task = token.read(await engine.store.read_secret(), text)
    data = {"task_id": task.task_id, "task": task.name, **outcome}
    name = TASK_COMPLETED if error is None else TASK_FAILED
    encoded = runtime.codec.encode(WorkflowEvent(name, data, error=error))
    now = runtime.clock.now()
    event = NewEvent(f"{task.task_id}/end", *encoded, None, now, None)
    operation = EndTask(task.correlation_id, runtime.name, task.task_id, event, None, now)
    return receipt(operation, await engine.attendance.append(operation))


def identity(
    event: object, correlation_id: str | None, event_id: str | None
) -> tuple[str | None, str | None]:
    """Return run and id of an event: what the sender says counts before what the event has."""
    if isinstance(event, WorkflowEvent):
        if correlation_id is None:
            correlation_id = event.correlation_id
        if event_id is None:
            event_id = event.id
    return correlation_id, event_id


def receipt(operation: Append | EndTask, appended: Appended) -> Receipt:
    """Return what the sender is told."""
    return Receipt(
        status=appended.status,
        id=operation.event.id,
        correlation_id=operation.correlation_id,
        position=appended.position,
        reason=appended.reason,
    )


def _expiry(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise InvalidValueError(
            "expires_at", "it has no timezone; write datetime.now(UTC) + timedelta(…)"
        )
    return to_microseconds(moment)
