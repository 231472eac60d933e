"""A commit on its way to the disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from flowstore.errors import StoreError

if TYPE_CHECKING:
    from flowstore.engine.active import ActiveRun
    from flowstore.hooks import Hooks
    from flowstore.store.base import Commit, Committed


class Committer(Protocol):
    """Who is told first what a commit came to."""

    def committed(self, run: ActiveRun, commit: Commit, result: Committed) -> None:
        """Take in what a commit came to."""
        ...


class Recording:
    """Waits for one commit; a class, since a closure costs the collector a cell a variable."""

    __slots__ = ("_commit", "_engine", "_run", "future")

    def __init__(self, engine: Committer, run: ActiveRun, commit: Commit) -> None:
        self._engine = engine
        self._run = run
        self._commit = commit
        self.future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        run.in_flight += len(commit.events)

    def __call__(self, result: Committed | None, error: BaseException | None) -> None:
        """Take the outcome from the store."""
        run = self._run
        run.in_flight -= len(self._commit.events)
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
