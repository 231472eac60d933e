"""Tasks of workers that have died: asked for, but not again and again."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from flowstore.store.base import TakeTasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection
    from typing import Protocol

    from flowstore.store.base import Store, TakenTasks, TaskRow
    from flowstore.task import Tasks

    class Owner(Protocol):
        """What a take-over needs of the engine."""

        workflow: str
        store: Store
        tasks: Tasks
        loop: asyncio.AbstractEventLoop


logger = logging.getLogger("flowstore")

MOST_TAKEN: Final = 1_000
"""Tasks taken over in one transaction at most, so that no one waits long for it."""

SECONDS_BETWEEN_TAKES: Final = 1.0
"""How long no one asks again after there was nothing to be had."""


class TakeOver:
    """Takes over tasks that this process knows and that no live worker is at.

    Args:
        add: called with the run and the row of each.
    """

    def __init__(self, owner: Owner, add: Callable[[str, TaskRow], None]) -> None:
        self._owner = owner
        self._add = add
        self._unknown: set[str] = set()
        self._idle_until = 0.0
        self._asked: frozenset[str] | None = frozenset()

    def take(self, runs: Collection[str] | None) -> None:
        """Take what there is.

        Args:
            runs: only tasks of these runs; None for any of the workflow.
        """
        owner = self._owner
        asked = None if runs is None else frozenset(runs)
        is_new = self._asked is not None and (asked is None or not asked <= self._asked)
        if not is_new and owner.loop.time() < self._idle_until:
            return
        self._asked = asked
        names = [task.name for task in owner.tasks]
        operation = TakeTasks(owner.workflow, owner.store.worker_id, names, MOST_TAKEN, asked)
        owner.store.submit(operation, partial(self._taken, asked))

    def _taken(
        self, asked: frozenset[str] | None, taken: TakenTasks | None, error: BaseException | None
    ) -> None:
        if taken is None:
            logger.error("tasks of dead workers could not be taken over: %s", error)
            return
        for found in taken.tasks:
            self._add(found.correlation_id, found.task)
        for name in sorted(taken.unknown - self._unknown):
            logger.warning(
                "no task %r is registered here: those that wait are left to a process that has it",
                name,
            )
        self._unknown |= taken.unknown
        if taken.has_more:
            self.take(asked)
        elif not taken.tasks:
            self._idle_until = self._owner.loop.time() + SECONDS_BETWEEN_TAKES
