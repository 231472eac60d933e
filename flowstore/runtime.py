"""What stands behind a `WorkflowManager` and its runs: the store, and the engine on its loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flowstore.engine import Engine
from flowstore.engine.program import Program
from flowstore.errors import ConfigurationError, RunNotFoundError
from flowstore.outside import reach_for
from flowstore.store.base import Append, NewEvent
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import MEMORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.hooks import Hooks
    from flowstore.kind import StateKind
    from flowstore.routing import Routes
    from flowstore.schedule import Crons
    from flowstore.store.base import Reader, RunRecord, Store
    from flowstore.store.flaws import Flaw
    from flowstore.store.url import StoreUrl
    from flowstore.task import Tasks


class Runtime:
    """Opens the store when it is first needed, and keeps one engine for the running loop.

    Args:
        grace: seconds that stopping waits for handlers at work.
    """

    def __init__(
        self,
        *,
        name: str,
        url: StoreUrl,
        codec: Codec,
        kind: StateKind,
        routes: Routes,
        clock: Clock,
        resources: Mapping[str, Any],
        concurrency: int,
        hooks: Hooks,
        grace: float,
        crons: Crons,
        tasks: Tasks,
    ) -> None:
        self.name = name
        self.url = url
        self.codec = codec
        self.kind = kind
        self.routes = routes
        self.clock = clock
        self._resources = resources
        self._concurrency = concurrency
        self._hooks = hooks
        self._tasks = tasks
        self._grace = grace
        self._crons = crons
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def program(self) -> Program:
        """Return what the handlers do, for calling them again."""
        return Program(
            name=self.name,
            codec=self.codec,
            kind=self.kind,
            routes=self.routes,
            tasks=self._tasks,
            crons=self._crons,
            clock=self.clock,
            resources=self._resources,
            place=self.place,
            reader=self.reader,
        )

    @property
    def place(self) -> str:
        """Return where the store is, as messages name it."""
        return MEMORY if self.url.path is None else str(self.url.path)

    def store(self) -> Store:
        """Return the store; its file is opened by the first operation."""
        if self._store is None:
            self._store = SQLiteStore(self.url)
        return self._store

    async def reader(self) -> Reader:
        """Return what reads the store, which by then is there and has the newest schema."""
        reach_for(f"the store {self.place}")
        store = self.store()
        await store.open()
        return store.reader

    def engine(self) -> Engine:
        """Return the engine of the running event loop.

        Raises:
            ConfigurationError: another loop that is still running has it.
        """
        reach_for(f"the store {self.place}")
        loop = asyncio.get_running_loop()
        if self._engine is not None and self._loop is loop:
            return self._engine
        store = self.store()
        if self._loop is not None:
            if self._loop.is_running():
                raise ConfigurationError(
                    "this WorkflowManager is at work on another event loop; make one for each"
                )
            if self._engine is not None:
                self._engine.abandon()
            store.resign()
        self._loop = loop
        self._engine = Engine(
            workflow=self.name,
            store=store,
            routes=self.routes,
            codec=self.codec,
            kind=self.kind,
            clock=self.clock,
            resources=self._resources,
            concurrency=self._concurrency,
            hooks=self._hooks,
            crons=self._crons,
            tasks=self._tasks,
        )
        return self._engine

    async def record(self, correlation_id: str) -> RunRecord:
        """Return what the store says of a run.

        Raises:
            RunNotFoundError: there is no such run.
        """
        record = await (await self.reader()).get_run(correlation_id)
        if record is None:
            raise RunNotFoundError(
                f"there is no run {correlation_id!r} in {self.place}; "
                "`flowstore runs` lists those there are"
            )
        return record

    async def verify(self, correlation_id: str | None) -> list[Flaw]:
        """Return the first flaw in the hashes of each run that has one.

        Raises:
            RunNotFoundError: there is no such run.
        """
        from flowstore.store.verify import verify_store  # noqa: PLC0415 - few need it

        await self.reader()  # by then there is a database
        found = await asyncio.to_thread(verify_store, self.url, correlation_id)
        if found is None:
            raise RunNotFoundError(f"there is no run {correlation_id!r} in {self.place}")
        return found.flaws

    def append(
        self,
        event: object,
        correlation_id: str | None,
        event_id: str | None,
        expires_at: int | None,
    ) -> Append:
        """Take an event through the door and say what is to be appended where.

        Args:
            event: a `WorkflowEvent` that names its run and its id or not, or a typed object.
            correlation_id: the run, if the sender says so.
            event_id: the id, if the sender chose it.
            expires_at: in microseconds since 1970.
        """
        codec, new_id = self.codec, self.clock.new_id
        encoded = codec.encode(event)
        if correlation_id is None:
            correlation_id = self.routes.correlation_id(encoded.name, event)
        if correlation_id is not None:
            codec.check_text(correlation_id, "correlation_id", codec.limits.id_length)
        if event_id is not None:
            codec.check_text(event_id, "id", codec.limits.id_length)
        now = self.clock.now()
        new = NewEvent(event_id or new_id(), *encoded, None, now, expires_at)
        return Append(correlation_id or new_id(), self.name, new, event_id is not None, now)

    async def stop(self) -> None:
        """Stop the engine; let the handlers at work finish. The store stays open."""
        engine, self._engine, self._loop = self._engine, None, None
        if engine is not None:
            await engine.stop(self._grace)
            self.store().resign()

    async def close(self) -> None:
        """Stop the engine and close the store; the next use opens it again."""
        engine, store = self._engine, self._store
        loop, self._loop = self._loop, None
        self._engine = self._store = None
        if engine is not None and loop is asyncio.get_running_loop():
            await engine.stop(self._grace)
        elif engine is not None:
            engine.abandon()
        if store is not None:
            await store.close()
