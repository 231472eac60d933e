"""Appends and commits on their way to the disk.

Classes with slots, since a closure costs the collector a cell for each variable.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from flowstore.errors import StoreError

if TYPE_CHECKING:
    from flowstore.engine.active import ActiveRun
    from flowstore.hooks import Hooks
    from flowstore.state import State
    from flowstore.store.base import Appended, Commit, Committed

    Outcome = tuple[Appended | None, BaseException | None]


logger = logging.getLogger("flowstore")


class Committer(Protocol):
    """Who is told first what a commit came to."""

    loop: asyncio.AbstractEventLoop

    def committed(self, run: ActiveRun, commit: Commit, result: Committed) -> None:
        """Take in what a commit came to."""
        ...


class Appender(Protocol):
    """Who is told first what became of an append."""

    def appended(
        self, name: str, result: Appended | None, kept: State | None, *, claims: bool
    ) -> None:
        """Take in what became of an append."""
        ...


class Batch:
    """Waits for appends that belong together."""

    __slots__ = ("_missing", "_outcomes", "future")

    def __init__(self, size: int) -> None:
        self._outcomes: list[Outcome] = [(None, None)] * size
        self._missing = size
        self.future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        if not size:
            self.future.set_result([])

    def take(self, index: int, result: Appended | None, error: BaseException | None) -> None:
        """Take one outcome; the last one ends the wait."""
        self._outcomes[index] = (result, error)
        self._missing -= 1
        if not self._missing and not self.future.done():
            self.future.set_result(self._outcomes)


class Appending:
    """Waits for one append."""

    __slots__ = ("_appender", "_batch", "_claims", "_index", "_kept", "_name")

    def __init__(
        self,
        appender: Appender,
        name: str,
        kept: State | None,
        batch: Batch,
        index: int,
        *,
        claims: bool,
    ) -> None:
        self._appender = appender
        self._name = name
        self._kept = kept
        self._batch = batch
        self._index = index
        self._claims = claims

    def __call__(self, result: Appended | None, error: BaseException | None) -> None:
        """Take the outcome from the store."""
        try:
            self._appender.appended(self._name, result, self._kept, claims=self._claims)
        finally:
            self._batch.take(self._index, result, error)


class Recording:
    """Waits for one commit."""

    __slots__ = ("_commit", "_engine", "_run", "future")

    def __init__(self, engine: Committer, run: ActiveRun, commit: Commit) -> None:
        self._engine = engine
        self._run = run
        self._commit = commit
        self.future: asyncio.Future[Committed] = engine.loop.create_future()
        if commit.announces:
            run.in_flight.extend([event.name for event in commit.events])

    def __call__(self, result: Committed | None, error: BaseException | None) -> None:
        """Take the outcome from the store."""
        run = self._run
        if self._commit.announces:
            del run.in_flight[: len(self._commit.events)]  # the store answers in order
        if result is not None:
            self._engine.committed(run, self._commit, result)
        else:
            run.error = error
        if self.future.done():
            return
        if result is not None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error or StoreError())


def tell(hooks: Hooks, commit: Commit) -> None:
    """Tell the hooks what a commit that is on the disk has recorded."""
    name = commit.correlation_id
    for row in commit.transitions:
        hooks.tell(
            row.outcome,
            correlation_id=name,
            position=row.position,
            handler=row.handler,
            attempt=row.attempt,
            error=row.error,
        )
    for drop in commit.drops:
        if drop.handler is None:  # a handler's own verdict is its outcome, told above
            hooks.tell("dropped", correlation_id=name, position=drop.position, reason=drop.detail)


def ignore(_result: object, error: BaseException | None) -> None:
    """Take an outcome that no one waits for."""
    if error is not None:
        logger.warning("a run could not be given back: %s", error)


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at a future's error, so that it is not logged as one that no one has seen."""
    if not future.cancelled():
        future.exception()
