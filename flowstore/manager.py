"""`WorkflowManager`: what users hold in their hands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from flowstore.change import replay
from flowstore.clock import Clock, SystemClock
from flowstore.codec import Codec
from flowstore.engine import Watcher
from flowstore.errors import (
    ConfigurationError,
    InvalidValueError,
    ResumeError,
    StoreCorruptError,
    StoreError,
)
from flowstore.hooks import Hooks
from flowstore.kind import StateKind
from flowstore.registering import Registering
from flowstore.registry import shown
from flowstore.routing import Routes
from flowstore.run import Run, end_task, identity, receipt, send
from flowstore.runtime import Runtime
from flowstore.store.base import SETTLED
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime
    from types import TracebackType

    from flowstore.door import Limits
    from flowstore.engine.program import Program
    from flowstore.events import Receipt, WorkflowEvent
    from flowstore.store.base import RunRecord
    from flowstore.store.flaws import Flaw

_PAGE = 500
DEFAULT_STORE = "flowstore.db"


class WorkflowManager(Registering):
    """Handlers for events, and the store in which their runs live.

    Args:
        store: a path, a URL (``sqlite:///path?synchronous=NORMAL``) or ``:memory:``; None for
            what the environment's FLOWSTORE_URL says, else ``./flowstore.db``. A mapping is
            taken as ``ctx``. The file is made when it is first needed.
        ctx: resources that all handlers share, such as clients; read through ``ctx[key]``.
        state: what a run's state is: ``dict``, a Pydantic model or a dataclass.
        concurrency: how many runs are handled at a time; others wait in the store.
        name: the workflow; processes that serve the same one share its runs.
        limits: how large events, states and results may be.
        clock: where time, ids and randomness come from.
        grace: seconds that leaving ``async with`` waits for handlers at work.
        code_version: what the record calls the code of the handlers, such as a release or a
            commit; None for a fingerprint of each handler's own code. Nothing is decided by it.

    Raises:
        StoreUrlError: the store cannot be understood.
        ConfigurationError: another option makes no sense.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        ctx: Mapping[str, Any] | None = None,
        state: type = dict,
        concurrency: int = 256,
        name: str = "workflow",
        limits: Limits | None = None,
        clock: Clock | None = None,
        grace: float = 10.0,
        code_version: str | None = None,
    ) -> None:
        if isinstance(store, Mapping):
            if ctx is not None:
                raise ConfigurationError("ctx is given twice: in first place and as ctx=")
            store, ctx = None, store
        if type(concurrency) is not int or concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency!r}: a whole number from 1")
        if ctx is not None and not isinstance(ctx, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users have no checker
            raise ConfigurationError("ctx: pass a mapping, such as a dict of shared resources")
        self.name = name
        self.ctx: Mapping[str, Any] = {} if ctx is None else ctx
        self.hooks = Hooks()
        codec = Codec(limits)
        codec.check_text(name, "name", codec.limits.name_length)
        if code_version is not None:
            codec.check_text(code_version, "code_version", codec.limits.name_length)
        super().__init__(codec, Routes(codec, code_version))
        self._runtime = Runtime(
            name=name,
            url=parse(store or os.environ.get("FLOWSTORE_URL") or DEFAULT_STORE),
            codec=self._codec,
            kind=StateKind(state, self._codec.limits),
            routes=self._routes,
            clock=clock or SystemClock(),
            resources=self.ctx,
            concurrency=concurrency,
            hooks=self.hooks,
            grace=grace,
            crons=self._crons,
            tasks=self._tasks,
        )

    def __repr__(self) -> str:
        return f"<WorkflowManager {self.name!r} at {self._runtime.place}>"

    @property
    def program(self) -> Program:
        """What the handlers do, for `flowstore.replay`, which calls them again."""
        return self._runtime.program

    # --- sending -------------------------------------------------------------------------

    async def send(
        self,
        event: object,
        *,
        correlation_id: str | None = None,
        id: str | None = None,
        expires_at: datetime | None = None,
    ) -> Receipt:
        """Append an event to a run; when this returns it is on disk.

        It is handled by whoever serves the workflow: an ``async with workflow`` in this or
        another process, or the next `process` or `resume` of the run.

        Args:
            event: a `WorkflowEvent`, or a Pydantic model or dataclass.
            correlation_id: the run; else what the event says, or ``correlate=``, or a new one.
            id: what makes a repeat known as one; else the event's own, or a new one.
            expires_at: when the event becomes stale if it has not been handled, with timezone.

        Raises:
            EventTypeError: it is not an event.
            InvalidValueError: it holds something that would not come back the same.
            EventConflictError: the run has an event with this id and other content.
            StoreError: it could not be written; then it was not.
        """
        return await send(self._runtime, event, correlation_id, id, expires_at)

    async def send_many(self, events: Iterable[object]) -> list[Receipt]:
        """Append many events, in order and in few transactions.

        Args:
            events: as for `send`; a `WorkflowEvent` can carry its ``id`` and
                ``correlation_id``. All pass the door before the first is written.

        Returns:
            a receipt for each, in order.

        Raises:
            EventConflictError: one was refused; the others have been appended.
            StoreError: they could not all be written.
        """
        runtime = self._runtime
        operations = [runtime.append(event, *identity(event, None, None), None) for event in events]
        outcomes = await runtime.engine().append(*operations)
        receipts: list[Receipt] = []
        for operation, (appended, error) in zip(operations, outcomes, strict=True):
            if appended is None:
                raise error or StoreError
            receipts.append(receipt(operation, appended))
        return receipts

    async def process(
        self, event: object, *, correlation_id: str | None = None, id: str | None = None
    ) -> AsyncIterator[WorkflowEvent]:
        """Append an event, handle its run here, and yield what happens until it has settled.

        The event itself comes first, then every event of the run from there on. An ``id`` that
        the run already has attaches to what became of the original, and goes on with it.

        A handler that iterates this keeps its own place among the ``concurrency`` meanwhile.

        Raises:
            StaleEventError: the run is closed.
            EventTypeError, InvalidValueError, EventConflictError, StoreError: as for `send`.
        """
        runtime = self._runtime
        operation = runtime.append(event, *identity(event, correlation_id, id), None)
        name = operation.correlation_id
        engine, watcher = runtime.engine(), Watcher(name, 0)
        try:
            await engine.attendance.attend(operation, watcher)
            while (stored := await watcher.next(engine.store.reader)) is not None:
                yield engine.streams.event(stored, name, watcher.held.pop(stored.id, None))
        finally:
            engine.attendance.leave(watcher)

    # --- external tasks ----------------------------------------------------------------

    async def complete_task(self, token: str, result: Any = None) -> Receipt:
        """End an external task, whose result comes from outside; see `Context.submit_external`.

        Args:
            token: what the handler that submitted it was given.
            result: any JSON value.

        Returns:
            ``accepted`` the first time, also if the handler is not done yet. Afterwards
            ``duplicate`` if it says the same, else ``stale``, as when the run is closed.

        Raises:
            InvalidTokenError: this store has not given out the token.
            InvalidValueError: the result cannot be stored and read back unchanged.
            StoreError: it could not be written; then the task has not ended.
        """
        return await end_task(self._runtime, token, {"result": result}, None)

    async def fail_task(self, token: str, error: str | BaseException) -> Receipt:
        """End an external task that could not be done; see `complete_task`.

        Args:
            token: what the handler that submitted it was given.
            error: what went wrong; of an exception its class is recorded too.

        Raises:
            InvalidTokenError, InvalidValueError, StoreError: as for `complete_task`.
        """
        if not isinstance(error, (str, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValueError("error", f"is {shown(error)}; it must be a str or an exception")
        kind = type(error).__name__ if isinstance(error, BaseException) else None
        return await end_task(self._runtime, token, {"exception": kind}, str(error) or kind or "?")

    # --- runs ----------------------------------------------------------------------------

    def run(self, correlation_id: str) -> Run:
        """Return a handle on a run, whether or not it exists yet."""
        self._codec.check_text(correlation_id, "correlation_id", self._codec.limits.id_length)
        return Run(self._runtime, correlation_id)

    async def runs(
        self, *, status: str | None = None, before: str | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """Return the workflow's runs, the youngest first.

        Args:
            status: only runs with this status.
            before: the correlation_id after which to go on.
            limit: how many at most.
        """
        statuses = () if status is None else (status,)
        return await (await self._runtime.reader()).list_runs(
            workflow=self.name, statuses=statuses, before=before, limit=limit
        )

    async def states(self, *, status: str | None = None) -> AsyncIterator[tuple[RunRecord, Any]]:
        """Yield the workflow's runs with their states, the youngest first.

        They are read some hundred at a time, so many runs need no more memory than few. A run
        that goes on meanwhile may have a state younger than its record.

        Args:
            status: only runs with this status.
        """
        reader, kind = await self._runtime.reader(), self._runtime.kind
        before: str | None = None
        while page := await self.runs(status=status, before=before, limit=_PAGE):
            names = [record.correlation_id for record in page]
            states = await reader.read_states(names)
            for record in page:
                snapshot, changes = states[record.correlation_id]
                yield record, kind.restore(replay(snapshot, changes))
            before = names[-1]

    async def resume(self, correlation_id: str | None = None) -> list[str]:
        """Continue interrupted runs, and return when they have settled.

        Runs that a live worker has are left to it.

        Args:
            correlation_id: this run; None for every run of the workflow with pending events.

        Returns:
            the correlation ids of the runs that were continued.

        Raises:
            RunNotFoundError: there is no such run.
            ResumeError: of several runs some cannot go on here, which it names; the others have
                settled.
            InvalidStateError, StoreError: the run, or the store, is not as it must be.
        """
        runtime = self._runtime
        engine = runtime.engine()
        if correlation_id is None:
            records = await self.runs(status="running")
            names = [record.correlation_id for record in reversed(records)]
        else:
            record = await runtime.record(correlation_id)
            if record.workflow != self.name:
                raise ConfigurationError(
                    f"run {correlation_id!r} belongs to workflow {record.workflow!r}, not to "
                    f"{self.name!r}; resume it there"
                )
            names = [] if record.status in SETTLED else [correlation_id]
        continued, failures = await engine.attendance.settle(names)
        for error in failures.values():
            is_of_store = isinstance(error, StoreError) and not isinstance(error, StoreCorruptError)
            if is_of_store or correlation_id is not None:
                raise error
        if failures:
            raise ResumeError(failures, continued) from next(iter(failures.values()))
        return continued

    async def verify(self, correlation_id: str | None = None) -> list[Flaw]:
        """Return the first event of each run that was changed, removed or inserted afterwards.

        The hashes have no key: who can write the database can make them anew. Against that,
        keep what ``flowstore verify --json`` prints in another place.

        Args:
            correlation_id: this run; None for all runs of the store.

        Raises:
            RunNotFoundError: there is no such run.
            StoreError: the database cannot be read.
        """
        return await self._runtime.verify(correlation_id)

    def decode(self, event: WorkflowEvent) -> object:
        """Return the typed object of an event whose class is known, else the event itself.

        Raises:
            InvalidValueError: the data does not fit the class any more.
        """
        if self._codec.types.type_for(event.name) is None:
            return event
        return self._codec.typed(event.name, event.data)

    # --- service mode --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        engine = self._runtime.engine()
        if engine.is_serving:
            raise ConfigurationError("this WorkflowManager is being served already")
        await engine.serve()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runtime.url.path is None:
            await self._runtime.stop()  # what is in memory would end with the store
        else:
            await self._runtime.close()

    async def close(self) -> None:
        """Stop what is under way and close the store; the next call opens it again.

        A program that ends need not call it.
        """
        await self._runtime.close()
