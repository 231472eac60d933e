"""What a context needs from whoever runs the handler: the engine does it, and so can a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from flowstore.events import WorkflowEvent
    from flowstore.routing import Outcome


class Arrangements(Protocol):
    """What a handler arranges for later; it takes effect with the handler's commit."""

    def schedule(
        self, event: object, delay: float | timedelta | None, at: datetime | None, key: str | None
    ) -> str:
        """Set a timer; return its key."""
        ...

    def cancel(self, key: str) -> None:
        """Remove a timer, if there is one."""
        ...

    def deadline(self, delay: float | timedelta | None, at: datetime | None) -> None:
        """Set the run's deadline, in place of the one that it has."""
        ...

    def cancel_deadline(self) -> None:
        """Remove the run's deadline, if it has one."""
        ...

    def submit(self, task: object, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Submit a task; return its id."""
        ...

    def submit_external(self, name: str, timeout: float | timedelta | None) -> str:
        """Submit a task that an outside system ends; return its token."""
        ...

    def collect(
        self,
        key: str,
        events: Sequence[str | type | Outcome] | str | type | Outcome,
        count: int | None,
    ) -> list[Any] | None:
        """Keep the event until the others are there; return them all then."""
        ...


class Journal(Protocol):
    """The record of one handler's attempt at one event."""

    event: WorkflowEvent
    handler_name: str
    attempt: int
    resources: Mapping[str, Any]

    @property
    def correlation_id(self) -> str:
        """Return the run's id."""
        ...

    def get_state(self) -> Any:
        """Return the live state."""
        ...

    def set_state(self, value: Any) -> None:
        """Replace the live state."""
        ...

    def emit(self, event: object) -> None:
        """Append this event when the handler is done; progress events at once."""
        ...

    def drop(self, reason: str) -> None:
        """Record that the event is stale."""
        ...

    def complete(self, result: Any) -> None:
        """Close the run as completed with this handler's commit."""
        ...

    def execute(self, statement: Any, parameters: Any) -> None:
        """Run a statement in the handler's transaction."""
        ...

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        """Return the recorded result, or call the function and record what it returns."""
        ...

    @property
    def arrangements(self) -> Arrangements:
        """Return what keeps that which begins or ends with the handler's commit."""
        ...

    async def wait_for(
        self,
        event: str | type | Outcome,
        where: Mapping[str, Any] | Callable[[Any], bool | Awaitable[bool]] | None,
        timeout: float | timedelta | None,
    ) -> Any:
        """Return the event that ends this wait, or park the handler until it has come."""
        ...

    def postpone(self, until: str | type | Outcome | datetime | float | timedelta) -> None:
        """Have the event handled again later."""
        ...

    def now(self) -> datetime:
        """Return the time at which this attempt began."""
        ...

    def random(self) -> random.Random:
        """Return the generator of this event and handler."""
        ...
