"""What an attempt needs of the engine around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.streams import Streams
    from flowstore.store.base import Committed, NewEvent, Operation, StepRow, Store
    from flowstore.task import Tasks


class Surroundings(Protocol):
    """What an attempt needs of the engine."""

    codec: Codec
    clock: Clock
    resources: Mapping[str, Any]
    loop: asyncio.AbstractEventLoop
    workflow: str
    store: Store
    streams: Streams
    tasks: Tasks

    def perform(self, operation: Operation) -> asyncio.Future[Any]:
        """Have the store do something."""
        ...

    def announce(
        self, run: ActiveRun, event: NewEvent, *, repeats: bool
    ) -> asyncio.Future[Committed]:
        """Append an event now."""
        ...

    async def record_step(self, run: ActiveRun, step: StepRow) -> None:
        """Put a step's result on disk."""
        ...
