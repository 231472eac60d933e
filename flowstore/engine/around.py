"""What attempts are given by an engine: the part of `Surroundings` that a replay does otherwise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flowstore import token
from flowstore.engine.calls import call_step, in_thread
from flowstore.store.base import STALE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from flowstore.clock import Clock
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.attempt import Attempt
    from flowstore.store.base import Store


class Live:
    """Attempts begin now, steps are called, and tokens are signed."""

    store: Store
    clock: Clock
    loop: asyncio.AbstractEventLoop

    @property
    def worker_id(self) -> str:
        """Return who starts the tasks that are submitted."""
        return self.store.worker_id

    def started_at(self, position: int, handler: str) -> int:  # noqa: ARG002 - a replay asks for them
        """Return when an attempt begins: now."""
        return self.clock.now()

    def enter(self, attempt: Attempt) -> None:
        """Take note that a handler's function is called now."""

    async def call_plain(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a plain function in a worker thread."""
        return await in_thread(name, function)

    def await_there(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the loop do something, and wait for it in this thread."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def is_in_turn(self, place: tuple[int, str, str, int]) -> bool:  # noqa: ARG002 - all are
        """Tell whether the result of a finished step can be given out at once."""
        return True

    def call_step(
        self,
        place: tuple[int, str, str, int],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Awaitable[Any]:
        """Call the function of a step."""
        return call_step(place[2], function, arguments, keywords)

    def token(self, task: token.Claimed) -> str:
        """Return what lets an outside system end this task."""
        return token.make(self.store.secret, task)

    async def was_refused(self, run: ActiveRun, event_id: str) -> bool:
        """Tell whether an event of the log was found to be stale."""
        drops = await self.store.reader.list_drops(run.correlation_id, reason=STALE)
        return any(drop.event_id == event_id for drop in drops)
