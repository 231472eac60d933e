"""What an attempt needs of what is around it: of the engine, or of a replay (ADR 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping, Sequence

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.attempt import Attempt
    from flowstore.engine.pump import Pump, Unread
    from flowstore.events import WorkflowEvent
    from flowstore.store.base import Committed, NewEvent, Operation, StepRow, StoredEvent
    from flowstore.stream import Stream
    from flowstore.task import Tasks
    from flowstore.token import Claimed


class StreamMaker(Protocol):
    """Where streams are made, and events get those that they have."""

    def event(self, stored: StoredEvent, name: str) -> WorkflowEvent:
        """Return an event of the run of this name as users get it."""
        ...

    def recorded(self, name: str, stream_id: str) -> Stream:
        """Return a stream of the run of this name as it is, or will be, recorded."""
        ...

    def prepare(
        self, run: ActiveRun, event: NewEvent, sources: Mapping[str, AsyncIterable[Any]]
    ) -> Sequence[Pump | Unread]:
        """Return what makes the streams of an event; nothing has begun yet."""
        ...

    def begin(
        self, run: ActiveRun, event: NewEvent, pumps: Sequence[Pump | Unread], *, repeats: bool
    ) -> None:
        """Begin the streams of an event, and append it, for everyone to see."""
        ...


class Surroundings(Protocol):
    """What an attempt needs of what is around it."""

    codec: Codec
    clock: Clock
    resources: Mapping[str, Any]
    loop: asyncio.AbstractEventLoop
    workflow: str
    tasks: Tasks

    @property
    def streams(self) -> StreamMaker:
        """Return where streams are made."""
        ...

    @property
    def worker_id(self) -> str:
        """Return who starts the tasks that are submitted."""
        ...

    def started_at(self, position: int, handler: str) -> int:
        """Return when the attempt begins that is recorded so, in microseconds since 1970."""
        ...

    def enter(self, attempt: Attempt) -> None:
        """Take note that a handler's function is called now."""
        ...

    async def call_plain(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a plain function where it keeps no one waiting."""
        ...

    def await_there(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the loop do something, and return when it is done; for plain functions."""
        ...

    def is_in_turn(self, place: tuple[int, str, str, int]) -> bool:
        """Tell whether the result of a finished step can be given out at once.

        Args:
            place: position, handler, name and number of the step. If not, it is called.
        """
        ...

    def call_step(
        self,
        place: tuple[int, str, str, int],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Awaitable[Any]:
        """Call the function of a step that is not finished, or not in turn.

        Args:
            place: position, handler, name and number of the step.
            function: what to call.
            arguments: with these.
            keywords: and these.
        """
        ...

    def token(self, task: Claimed) -> str:
        """Return what lets an outside system end this task."""
        ...

    async def was_refused(self, run: ActiveRun, event_id: str) -> bool:
        """Tell whether an event of the log was found to be stale."""
        ...

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
