"""`WorkflowManager` and `Run`: what users hold in their hands, and where the parts meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowstore.clock import Clock, SystemClock, to_microseconds
from flowstore.codec import Codec
from flowstore.door import Limits
from flowstore.engine import Engine, Waiter, Watcher
from flowstore.errors import (
    ConfigurationError,
    FlowstoreError,
    InvalidValueError,
    RunNotFoundError,
    StaleEventError,
    WaitTimeoutError,
)
from flowstore.events import Receipt, WorkflowEvent
from flowstore.hooks import Hooks
from flowstore.routing import Retry, Routes
from flowstore.state import State, StateKind
from flowstore.store.base import SETTLED, Append, Close, NewEvent, RunRecord
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime
    from types import TracebackType

    from flowstore.store.base import Appended

DEFAULT_STORE = "flowstore.db"
_PAGE = 500


class WorkflowManager:
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
    ) -> None:
        if isinstance(store, Mapping):
            if ctx is not None:
                raise ConfigurationError("ctx is given twice: in first place and as ctx=")
            store, ctx = None, store
        if concurrency < 1:
            raise ConfigurationError(f"concurrency={concurrency}: it takes at least 1")
        self.name = name
        self.ctx: Mapping[str, Any] = {} if ctx is None else ctx
        self.hooks = Hooks()
        self._url = parse(store or os.environ.get("FLOWSTORE_URL") or DEFAULT_STORE)
        self._concurrency = concurrency
        self._grace = grace
        self._clock = clock or SystemClock()
        self._codec = Codec(limits)
        self._codec.check_text(name, "name", self._codec.limits.name_length)
        self._kind = StateKind(state, self._codec.limits)
        self._routes = Routes(self._codec)
        self._store: SQLiteStore | None = None
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<WorkflowManager {self.name!r} at {self._url.path or ':memory:'}>"

    # --- handlers ------------------------------------------------------------------------

    def register(
        self,
        event: str | type,
        handler: Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        correlate: str | Callable[[Any], str] | None = None,
    ) -> WorkflowManager:
        """Register a handler; several for one event are called in the order of registration.

        Args:
            event: an event's name, ``"*"`` for every event, or a Pydantic model or dataclass,
                which catches its subclasses too and gives the handler the typed object.
            handler: an async generator, coroutine function, generator or function of
                ``(event)``, ``(event, ctx)`` or ``(event, state)``. A plain function runs in a
                worker thread.
            name: what the record calls the handler; its function's name if None.
            retry: how often to try again when it fails; None for never.
            timeout: seconds an attempt may take.
            correlate: field (or function) of the event that names its run when it is sent.

        Returns:
            this manager, so that calls can be chained.

        Raises:
            EventTypeError: the event is neither a name nor a model or dataclass.
            HandlerSignatureError: the handler takes other parameters.
            DuplicateHandlerError: another handler of this name would get the same event.
            ConfigurationError: an option makes no sense.
        """
        self._routes.add(
            event, handler, name=name, retry=retry, timeout=timeout, correlate=correlate
        )
        return self

    def on(
        self,
        event: str | type,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        correlate: str | Callable[[Any], str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that registers a handler; the options are those of `register`."""

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.register(
                event, handler, name=name, retry=retry, timeout=timeout, correlate=correlate
            )
            return handler

        return decorate

    def upcaster(
        self, event: str | type, version: int
    ) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
        """Return a decorator for a function that turns data of this version into the next.

        Events are written with the version behind the last upcaster's; rows of older versions
        are read through the upcasters, one after another.

        Args:
            event: the event's name or class.
            version: the version that the function reads, from 1.

        Raises:
            ConfigurationError: there is an upcaster for this version, or it is below 1.
        """
        name = event if isinstance(event, str) else self._codec.types.name_of(event)

        def decorate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self._codec.upcaster(name, version, function)
            return function

        return decorate

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
        operation = self._append(event, correlation_id, id, expires_at)
        return _receipt(operation, await self._submit(self._use(), operation))

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
        operations = [self._append(event, None, None, None) for event in events]
        engine = self._use()
        futures = [self._submit(engine, operation) for operation in operations]
        if futures:
            await asyncio.wait(futures)
        return [
            _receipt(operation, future.result())
            for operation, future in zip(operations, futures, strict=True)
        ]

    async def process(
        self, event: object, *, correlation_id: str | None = None, id: str | None = None
    ) -> AsyncIterator[WorkflowEvent]:
        """Append an event, handle its run here, and yield what happens until it has settled.

        The event itself comes first, then every event of the run from there on. An ``id`` that
        the run already has attaches to what became of the original, and goes on with it.

        Raises:
            StaleEventError: the run is closed.
            EventTypeError, InvalidValueError, EventConflictError, StoreError: as for `send`.
        """
        operation = self._append(event, correlation_id, id, None)
        name = operation.correlation_id
        engine = self._use()
        await engine.prepare(name)
        watcher = Watcher(name, 0)
        try:
            with engine.watch(watcher):
                appended = await self._submit(engine, operation)
                if appended.position is None:
                    raise StaleEventError(
                        f"{operation.event.name!r} was refused by run {name!r}: {appended.reason}"
                    )
                watcher.start_at(appended.position)
                if appended.status == "duplicate":
                    watcher.look()
                    await engine.want([name])
                    engine.unwant(name)
                while (stored := await watcher.next(engine.store.reader)) is not None:
                    yield self._codec.event(stored, name)
        finally:
            engine.unwant(name)

    def _append(
        self,
        event: object,
        correlation_id: str | None,
        event_id: str | None,
        expires_at: datetime | None,
    ) -> Append:
        codec = self._codec
        encoded = codec.encode(event)
        is_envelope = isinstance(event, WorkflowEvent)
        if is_envelope:
            correlation_id = correlation_id or event.correlation_id
            event_id = event_id or event.id
        if correlation_id is None:
            data, typed = (event.data, None) if is_envelope else (None, event)
            correlation_id = self._routes.correlation_id(encoded.name, data, typed)
        if correlation_id is not None:
            codec.check_text(correlation_id, "correlation_id", codec.limits.id_length)
        if event_id is not None:
            codec.check_text(event_id, "id", codec.limits.id_length)
        now = self._clock.now()
        expiry = None if expires_at is None else _expiry(expires_at)
        new = NewEvent(event_id or self._clock.new_id(), *encoded, None, now, expiry)
        return Append(
            correlation_id or self._clock.new_id(), self.name, new, event_id is not None, now
        )

    def _submit(self, engine: Engine, operation: Append) -> asyncio.Future[Appended]:
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

        def deliver(result: Appended | None, error: BaseException | None) -> None:
            if future.done():
                return
            if result is not None:
                future.set_result(result)
            else:
                future.set_exception(error or FlowstoreError())

        engine.submit(operation, deliver)
        return future

    # --- runs ----------------------------------------------------------------------------

    def run(self, correlation_id: str) -> Run:
        """Return a handle on a run, whether or not it exists yet."""
        self._codec.check_text(
            correlation_id, "correlation_id", self._codec.limits.id_length
        )
        return Run(self, correlation_id)

    async def runs(
        self, *, status: str | None = None, before: str | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """Return the workflow's runs, the youngest first.

        Args:
            status: only runs with this status.
            before: the correlation_id after which to go on.
            limit: how many at most.
        """
        return await self._reader().list_runs(
            workflow=self.name, status=status, before=before, limit=limit
        )

    async def resume(self, correlation_id: str | None = None) -> list[str]:
        """Continue interrupted runs, and return when they have settled.

        Runs that a live worker has are left to it.

        Args:
            correlation_id: this run; None for every run of the workflow with pending events.

        Returns:
            the correlation ids of the runs that were continued.

        Raises:
            RunNotFoundError: there is no such run.
        """
        engine, reader = self._use(), self._reader()
        await engine.store.become_worker()
        if correlation_id is None:
            records = await reader.list_runs(workflow=self.name, status="running")
            names = [record.correlation_id for record in reversed(records)]
        else:
            record = await self._record(correlation_id)
            names = [] if record.status in SETTLED else [correlation_id]
        return await engine.settle(names)

    def decode(self, event: WorkflowEvent) -> object:
        """Return the typed object of an event whose class is known, else the event itself.

        Raises:
            InvalidValueError: the data does not fit the class any more.
        """
        if self._codec.types.type_for(event.name) is None:
            return event
        return self._codec.typed(event.name, event.data)

    # --- service mode --------------------------------------------------------------------

    async def __aenter__(self) -> WorkflowManager:
        engine = self._use()
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
        if self._engine is not None:
            await self._engine.stop(self._grace)
        if self._url.path is not None:
            await self.close()

    async def close(self) -> None:
        """Stop what is under way and close the store; the next call opens it again.

        A program that ends need not call it.
        """
        engine, store = self._engine, self._store
        self._engine = self._loop = self._store = None
        if engine is not None:
            await engine.stop(self._grace)
        if store is not None:
            await store.close()

    def _reader(self) -> Any:
        return self._open().reader

    def _open(self) -> SQLiteStore:
        if self._store is None:
            self._store = SQLiteStore(self._url, self._clock)
        return self._store

    def _use(self) -> Engine:
        """Return the engine of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._engine is not None and self._loop is loop:
            return self._engine
        store = self._open()
        if self._loop is not None:
            if self._loop.is_running():
                raise ConfigurationError(
                    "this WorkflowManager is at work on another event loop; make one for each"
                )
            store.resign()
        self._loop = loop
        self._engine = Engine(
            workflow=self.name,
            store=store,
            routes=self._routes,
            codec=self._codec,
            kind=self._kind,
            clock=self._clock,
            resources=self.ctx,
            concurrency=self._concurrency,
            hooks=self.hooks,
        )
        return self._engine

    async def _record(self, correlation_id: str) -> RunRecord:
        await self._open().open()
        record: RunRecord | None = await self._reader().get_run(correlation_id)
        if record is None:
            raise RunNotFoundError(
                f"there is no run {correlation_id!r} in {self._url.path or ':memory:'}; "
                "`flowstore runs` lists those there are"
            )
        return record


class Run:
    """A run, seen from outside; made by `WorkflowManager.run`."""

    def __init__(self, workflow: WorkflowManager, correlation_id: str) -> None:
        self._workflow = workflow
        self.correlation_id = correlation_id

    def __repr__(self) -> str:
        return f"<Run {self.correlation_id!r}>"

    async def send(
        self, event: object, *, id: str | None = None, expires_at: datetime | None = None
    ) -> Receipt:
        """Append an event to this run; see `WorkflowManager.send`."""
        return await self._workflow.send(
            event, correlation_id=self.correlation_id, id=id, expires_at=expires_at
        )

    async def events(
        self, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[WorkflowEvent]:
        """Yield the run's events in order.

        Args:
            after: the position to start behind.
            follow: go on with what comes, in whatever process it is handled, until the run
                has settled.

        Raises:
            RunNotFoundError: there is no such run.
        """
        workflow = self._workflow
        codec, name = workflow._codec, self.correlation_id  # noqa: SLF001 - one module, two classes
        await workflow._record(name)  # noqa: SLF001
        if follow:
            watcher = Watcher(name, after)
            async for stored in workflow._use().follow(watcher):  # noqa: SLF001
                yield codec.event(stored, name)
            return
        while True:
            page = await workflow._reader().read_events(name, after=after, limit=_PAGE)  # noqa: SLF001
            for stored in page:
                yield codec.event(stored, name)
            if len(page) < _PAGE:
                return
            after = page[-1].position

    async def info(self) -> RunRecord:
        """Return what the store says of the run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return await self._workflow._record(self.correlation_id)  # noqa: SLF001

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
        if at is not None and not 0 <= at <= record.head:
            raise InvalidValueError("at", f"{at} is not a position of the run: 0 to {record.head}")
        workflow = self._workflow
        snapshot, changes = await workflow._reader().read_state(self.correlation_id, at=at)  # noqa: SLF001
        return State(workflow._kind, snapshot, changes).value  # noqa: SLF001

    async def wait(self, timeout: float | None = None) -> RunRecord:
        """Return when the run has settled, whoever handles it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            RunNotFoundError: there is no such run.
            WaitTimeoutError: it has not settled in time.
        """
        await self.info()
        workflow = self._workflow
        engine = workflow._use()  # noqa: SLF001
        try:
            async with asyncio.timeout(timeout):
                await engine.wait(Waiter(self.correlation_id, 0))
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
        return await self.info()

    async def cancel(self, reason: str | None = None) -> RunRecord:
        """Close the run as cancelled; a handler at work is stopped and cannot commit.

        Args:
            reason: why; kept with the run.

        Returns:
            the run as it then is; one that was closed before is left as it was.

        Raises:
            RunNotFoundError: there is no such run.
        """
        workflow = self._workflow
        engine = workflow._use()  # noqa: SLF001
        now = workflow._clock.now()  # noqa: SLF001
        closed = await engine.store.perform(
            Close(self.correlation_id, "cancelled", reason, now)
        )
        engine.closed(closed)
        return await self.info()


def _receipt(operation: Append, appended: Appended) -> Receipt:
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
