"""What a context needs from whoever runs the handler: the engine does it, and so can a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from flowstore.events import WorkflowEvent


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

    def schedule(
        self, event: object, delay: float | timedelta | None, at: datetime | None, key: str | None
    ) -> str:
        """Set a timer with the handler's commit; return its key."""
        ...

    def cancel(self, key: str) -> None:
        """Remove a timer with the handler's commit, if there is one."""
        ...

    def now(self) -> datetime:
        """Return the time at which this attempt began."""
        ...

    def random(self) -> random.Random:
        """Return the generator of this event and handler."""
        ...
