"""Everything that can be read, for every dialect: SQLAlchemy Core over an async engine.

Each read is a connection of its own and one short transaction, so a reader sees one moment,
holds nothing back between calls and never waits for the writer (G12).
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import case, literal, select
from sqlalchemy.exc import SQLAlchemyError

from flowstore.errors import RunNotFoundError, SchemaError
from flowstore.store import schema
from flowstore.store.base import (
    DEAD,
    WORKING,
    DeadLetterRecord,
    DropRecord,
    OutstandingRecord,
    RunRecord,
    StoredEvent,
    StreamRecord,
    TransitionRecord,
)
from flowstore.store.failures import translate
from flowstore.store.outstanding_queries import list_outstanding
from flowstore.store.selecting import between, key_of, same_place, still_dead, unhandled
from flowstore.store.states import read_states
from flowstore.store.stream_queries import list_streams, read_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import ColumnElement, RowMapping, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from flowstore.store.archive import Archive
    from flowstore.store.counting import RunCounts
    from flowstore.store.excerpt import Excerpt
    from flowstore.store.flow import Flow

_Result = TypeVar("_Result")

_shown_status: ColumnElement[str] = case(
    (schema.run.c.status == WORKING, "running"), else_=schema.run.c.status
)
_OF_RUN = tuple(
    _shown_status.label("status") if each.name == "status" else schema.run.c[each.name]
    for each in fields(RunRecord)
)
_OF_EVENT = tuple(schema.event.c[name] for name in StoredEvent._fields)
_OF_TRANSITION = tuple(schema.transition.c[each.name] for each in fields(TransitionRecord))


class Queries:
    """Reads a store. Implements `flowstore.store.base.Reader`.

    Every method raises `StoreUnavailableError`, `StoreCorruptError`, `SchemaError` or
    `StoreBusyError` when the database cannot be read.

    Args:
        connect: opens a connection on which all reads of one transaction see one moment.
        where: the database, as error messages name it.
    """

    def __init__(
        self, connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]], where: str
    ) -> None:
        self._connect = connect
        self._where = where

    async def get_run(self, correlation_id: str) -> RunRecord | None:
        """Return the run, or None."""
        statement = select(*_OF_RUN).where(schema.run.c.correlation_id == correlation_id)
        rows = await self._read_records(statement)
        return RunRecord(**rows[0]) if rows else None

    async def list_runs(
        self,
        *,
        workflow: str | None = None,
        statuses: Collection[str] = (),
        before: str | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Return runs, the youngest first.

        Args:
            workflow: only runs of this workflow.
            statuses: only runs with one of these; empty for all.
            before: go on after the run with this correlation_id: only runs older than it.
            limit: how many at most.

        Raises:
            RunNotFoundError: there is no run ``before``.
        """
        run = schema.run
        statement = select(*_OF_RUN).order_by(run.c.id.desc()).limit(limit)
        if workflow is not None:
            statement = statement.where(run.c.workflow == workflow)
        if statuses:
            statement = statement.where(_shown_status.in_(statuses))
        if before is not None:
            if await self.get_run(before) is None:
                message = f"{self._where}: no run {before!r} to list the runs before it"
                raise RunNotFoundError(message)
            statement = statement.where(run.c.id < key_of(before))
        return [RunRecord(**row) for row in await self._read_records(statement)]

    async def read_events(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        descending: bool = False,
    ) -> list[StoredEvent]:
        """Return events with ``after < position <= until``, none if there is no such run."""
        position = schema.event.c.position
        statement = (
            select(*_OF_EVENT)
            .where(schema.event.c.run_id == key_of(correlation_id), between(position, after, until))
            .order_by(position.desc() if descending else position)
            .limit(limit)
        )
        return [StoredEvent(**row) for row in await self._read_records(statement)]

    async def read_transitions(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[TransitionRecord]:
        """Return transitions of events with ``after < position <= until``, in order."""
        columns = schema.transition.c
        statement = (
            select(*_OF_TRANSITION)
            .where(
                columns.run_id == key_of(correlation_id), between(columns.position, after, until)
            )
            .order_by(columns.position, columns.number)
            .limit(limit)
        )
        return [TransitionRecord(**row) for row in await self._read_records(statement)]

    async def read_excerpt(
        self,
        correlation_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int,
        also: Sequence[int] = (),
    ) -> Excerpt:
        """Return events with ``after < position <= until``, ``limit`` at most, and their record.

        ``also`` has positions of further events that came of them; see `read_chosen`.
        """
        place = (after, until, limit)
        from flowstore.store.excerpt_queries import read_excerpt  # noqa: PLC0415 - workers need it not

        return await self._read(partial(read_excerpt, correlation_id, place, also))

    async def read_chosen(
        self, correlation_id: str, *, after: int = 0, until: int | None = None
    ) -> list[tuple[int, int]]:
        """Return where emitted events are whose ids their handlers chose.

        Each as the position of the event that it came of, ``after < position <= until``, and its
        own; an excerpt does not find them by itself. This takes time that grows with the run.
        """
        from flowstore.store.excerpt_queries import read_chosen  # noqa: PLC0415 - as above

        return await self._read(partial(read_chosen, correlation_id, after, until))

    async def read_state(
        self, correlation_id: str, *, at: int | None = None
    ) -> tuple[str | None, list[str]]:
        """Return the snapshot to start from and the changes to apply, up to position ``at``.

        Both are JSON texts, from one moment. ``at`` is inclusive; None stands for now.
        """
        return await self._read(partial(_read_state, correlation_id, at))

    async def read_states(
        self, correlation_ids: Sequence[str]
    ) -> dict[str, tuple[str | None, list[str]]]:
        """Return what `read_state` returns for each of these runs that there is."""
        return await self._read(partial(read_states, correlation_ids))

    async def list_drops(
        self,
        correlation_id: str | None = None,
        *,
        reason: str | None = None,
        limit: int | None = None,
    ) -> list[DropRecord]:
        """Return drops, of one run or of all, the youngest first."""
        run, drop = schema.run, schema.drop
        columns = (run.c.correlation_id, *(drop.c[each.name] for each in fields(DropRecord)[1:]))
        statement = (
            select(*columns)
            .join_from(drop, run, drop.c.run_id == run.c.id)
            .order_by(drop.c.seq.desc())
            .limit(limit)
        )
        if correlation_id is not None:
            statement = statement.where(drop.c.run_id == key_of(correlation_id))
        if reason is not None:
            statement = statement.where(drop.c.reason == reason)
        return [DropRecord(**row) for row in await self._read_records(statement)]

    async def list_dead(
        self, correlation_id: str | None = None, *, limit: int | None = None
    ) -> list[DeadLetterRecord]:
        """Return dead letters, of one run or of all, the youngest first."""
        run, transition, its_event = schema.run, schema.transition, schema.event
        statement = (
            select(
                run.c.correlation_id,
                transition.c.position,
                its_event.c.id.label("event_id"),
                its_event.c.name,
                transition.c.handler,
                transition.c.attempt,
                transition.c.error,
                transition.c.traceback,
                transition.c.started_at,
            )
            .select_from(transition)
            .join(run, transition.c.run_id == run.c.id)
            .join(its_event, same_place(its_event.c, transition.c))
            # A literal, so that SQLite sees that the index of dead letters has them all.
            .where(transition.c.outcome == literal(DEAD, literal_execute=True), still_dead())
            .order_by(transition.c.started_at.desc(), run.c.id.desc(), transition.c.number.desc())
            .limit(limit)
        )
        if correlation_id is not None:
            statement = statement.where(transition.c.run_id == key_of(correlation_id))
        return [DeadLetterRecord(**row) for row in await self._read_records(statement)]

    async def list_unhandled(
        self, correlation_id: str | None = None, *, limit: int | None = None
    ) -> list[tuple[str, StoredEvent]]:
        """Return events that were passed over because nothing was registered for them.

        Each comes with its correlation_id, the youngest first. ``progress`` and ``error``
        events need no handler and are not listed, nor are events that were dropped.
        """
        statement = (
            unhandled(correlation_id, schema.run.c.correlation_id, *_OF_EVENT)
            .order_by(schema.event.c.seq.desc())
            .limit(limit)
        )
        rows = await self._read_records(statement)
        return [
            (row["correlation_id"], StoredEvent(*(row[name] for name in StoredEvent._fields)))
            for row in rows
        ]

    async def list_outstanding(
        self, correlation_id: str, *, limit: int | None = None
    ) -> list[OutstandingRecord]:
        """Return what a run waits for, what began first coming first."""
        return await self._read(partial(list_outstanding, correlation_id, limit))

    async def read_stream(
        self, correlation_id: str, stream_id: str, *, offset: int = 0, limit: int = 0
    ) -> StreamRecord | None:
        """Return a stream with its chunks from ``offset`` on, in at most ``limit`` pages."""
        part = (offset, limit)
        return await self._read(
            partial(read_stream, correlation_id, stream_id, part, _shown_status)
        )

    async def read_archives(self, correlation_ids: Sequence[str]) -> list[Archive]:
        """Return all there is of these runs, in this order, from one moment."""
        from flowstore.store.archive_queries import read_archives  # noqa: PLC0415 - as above

        return await self._read(partial(read_archives, correlation_ids))

    async def list_streams(
        self, correlation_id: str, stream_ids: Sequence[str] | None = None
    ) -> list[StreamRecord]:
        """Return a run's streams without their chunks; all of them, or those of these ids."""
        return await self._read(partial(list_streams, correlation_id, stream_ids, _shown_status))

    async def count_flow(self, workflow: str) -> Flow:
        """Return how often the handlers of a workflow did what, over all of its runs."""
        from flowstore.store.flow_queries import count_flow  # noqa: PLC0415 - as above

        return await self._read(partial(count_flow, workflow))

    async def count(self, correlation_id: str) -> RunCounts:
        """Return how much the store has of a run; zeros if there is no such run."""
        from flowstore.store.counting import count_run  # noqa: PLC0415 - as above

        return await self._read(partial(count_run, correlation_id))

    async def read_together(
        self, work: Callable[[AsyncConnection], Coroutine[Any, Any, _Result]]
    ) -> _Result:
        """Return what some work reads that needs several statements at one moment."""
        return await self._read(work)

    async def _read_records(self, statement: Select[*tuple[Any, ...]]) -> Sequence[RowMapping]:
        async def read(connection: AsyncConnection) -> Sequence[RowMapping]:
            return (await connection.execute(statement)).mappings().all()

        return await self._read(read)

    async def _read(
        self, work: Callable[[AsyncConnection], Coroutine[Any, Any, _Result]]
    ) -> _Result:
        """Read in one transaction, which is finished also when the caller is cancelled.

        A connection given up half-way would leave a thread that reports to a closed loop.
        """
        reading = asyncio.ensure_future(self._transact(work))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # it is of no interest any more, and need not be logged
            raise

    async def _transact(
        self, work: Callable[[AsyncConnection], Coroutine[Any, Any, _Result]]
    ) -> _Result:
        try:
            async with self._connect() as connection:
                return await work(connection)
        except (SQLAlchemyError, OSError) as error:
            failure = translate(error, self._where)
            if isinstance(failure, SchemaError):
                failure = await self._of_revision() or failure
            raise failure from error

    async def _of_revision(self) -> SchemaError | None:
        """Return that the schema is of another revision; None if nothing tells of one."""
        from flowstore.store import migrate  # noqa: PLC0415 - only who reads an older database

        statement = select(migrate.version_table.c.version_num)
        try:
            async with self._connect() as connection:
                revision = await connection.scalar(statement)
        except (SQLAlchemyError, OSError):
            return None
        if revision in {None, migrate.LATEST}:
            return None
        return migrate.other_revision(self._where, revision)


async def _read_state(
    correlation_id: str, at: int | None, connection: AsyncConnection
) -> tuple[str | None, list[str]]:
    snapshot, transition = schema.snapshot.c, schema.transition.c
    key = await connection.scalar(select(key_of(correlation_id)))
    start = await connection.execute(
        select(snapshot.position, snapshot.state)
        .where(snapshot.run_id == key, between(snapshot.position, -1, at))
        .order_by(snapshot.position.desc())
        .limit(1)
    )
    position, state = start.one_or_none() or (0, None)
    changes = await connection.scalars(
        select(transition.change)
        .where(
            transition.run_id == key,
            between(transition.position, position, at),
            transition.change.is_not(None),
        )
        .order_by(transition.position, transition.number)
    )
    return state, [change for change in changes if change is not None]
