"""The loop of one run: its events, one after another, until it has settled."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from flowstore.engine.decide import commit_event, pass_over
from flowstore.engine.handle import fail_commit, handle_event
from flowstore.engine.trigger import may_await
from flowstore.errors import EventConflictError, FlowstoreError, LeaseLostError, StatementError
from flowstore.events import QUIET
from flowstore.store.base import Load

if TYPE_CHECKING:
    import asyncio
    from typing import Protocol

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.decide import Done
    from flowstore.engine.handle import Around
    from flowstore.hooks import Hooks
    from flowstore.store.base import Commit, Committed, StoredEvent

    class Driver(Around, Protocol):
        """What the loop of a run needs of the engine."""

        active: dict[str, ActiveRun]
        hooks: Hooks

        @property
        def is_stopping(self) -> bool:
            """Whether runs are to be given back after the event at hand."""
            ...

        def commit(self, run: ActiveRun, commit: Commit) -> asyncio.Future[Committed]:
            """Record something."""
            ...

        def lose(self, run: ActiveRun, error: LeaseLostError) -> None:
            """Another worker has the run, or it was closed."""
            ...

        def give_up(self, run: ActiveRun, error: Exception) -> None:
            """The run cannot go on here."""
            ...

        def let_go(self, run: ActiveRun) -> None:
            """Stop handling the run; its lease is still held."""
            ...


logger = logging.getLogger("flowstore")

_PAGE = 256


async def drive(engine: Driver, run: ActiveRun) -> None:
    """Handle a run's events until it has settled, is lost, or the engine stops."""
    try:
        while (stored := _peek(engine, run) or await _next(engine, run)) is not None:
            done = await handle_event(engine, run, stored)
            try:
                await _commit_event(engine, run, stored, done)
            except (StatementError, EventConflictError) as error:
                run.is_state_void = True
                failed = fail_commit(engine, stored, done, error)
                await _commit_event(engine, run, stored, failed)
            if engine.is_stopping:
                break
    except LeaseLostError as error:
        engine.lose(run, error)
    except FlowstoreError as error:
        engine.give_up(run, error)
    except Exception as error:
        logger.exception("the engine failed on run %r", run.correlation_id)
        engine.give_up(run, error)
    except BaseException:  # cancelled, or the program ends
        engine.let_go(run)
        raise


def _commit_event(
    engine: Driver, run: ActiveRun, stored: StoredEvent, done: Done
) -> asyncio.Future[Committed]:
    wanted = partial(_wants, engine, run) if run.parked else engine.routes.handlers
    now = engine.clock.now()
    return engine.commit(run, commit_event(run, stored.position, done, wanted, now))


def _wants(engine: Driver, run: ActiveRun, name: str) -> bool:
    """Tell whether events of this name have something to do in a run."""
    return bool(engine.routes.handlers(name)) or any(
        may_await(row, name, engine.codec) for row in run.parked.values()
    )


def _peek(engine: Driver, run: ActiveRun) -> StoredEvent | None:
    """Return the next event if it has a handler and is in memory: the usual case."""
    if run.pending and engine.active.get(run.correlation_id) is run:
        stored = run.pending[0]
        if engine.routes.handlers(stored.name) or (run.parked and _wants(engine, run, stored.name)):
            return stored
    return None


async def _next(engine: Driver, run: ActiveRun) -> StoredEvent | None:
    """Return the next event that has a handler; None when the run has settled."""
    while engine.active.get(run.correlation_id) is run:
        for stored in run.pending:
            if _wants(engine, run, stored.name):
                return stored
            _pass(engine, run, stored)
        run.pending.clear()
        if run.loaded < run.head:
            page = await engine.perform(Load(run.id, run.loaded, _PAGE))
            run.absorb(page)
            if page:
                continue
        await engine.commit(run, pass_over(run, engine.clock.now()))
    return None


def _pass(engine: Driver, run: ActiveRun, stored: StoredEvent) -> None:
    if stored.name in QUIET:
        return
    logger.debug("no handler for event %r in run %r", stored.name, run.correlation_id)
    if engine.hooks:
        engine.hooks.tell(
            "unhandled",
            correlation_id=run.correlation_id,
            position=stored.position,
            name=stored.name,
        )
