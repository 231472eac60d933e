"""Events as users write and read them, and the receipt for one that was sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

PROGRESS = "progress"
"""Name of the events that report progress: shown to callers, not dispatched by default."""

ERROR = "error"
"""Name of the event that a handler's last failure becomes."""

TASK_COMPLETED = "task.completed"
"""Name of the event in which a task ends that has a result."""

TASK_FAILED = "task.failed"
"""Name of the event in which a task ends that failed for good."""

WAIT_EXPIRED = "wait.expired"
"""Name of the event that ends the wait of a parked handler whose time is over."""

DEADLINE = "deadline"
"""Name of the event that comes to a run when its deadline has passed."""

DEAD_RETRIED = "dead.retried"
"""Name of the event at which a handler is called again that has failed for good."""

QUIET = frozenset({PROGRESS, ERROR, WAIT_EXPIRED, DEAD_RETRIED})
"""Names of events that are no news if nothing is registered for them."""


@dataclass(slots=True)
class WorkflowEvent:
    """An event: what a sender gives, and what handlers and readers receive.

    Two events are equal when name, data, metadata and error are; the other fields say
    where the event stands in the log and are filled in when it has been appended.

    Args:
        name: the event's type; handlers are registered for it.
        data: the payload, any JSON value (usually a dict). A handler may put async iterators into
            it, to be streamed; see `Context.emit`.
        metadata: context that travels with the event, such as a user's id.
        error: what went wrong, for events that report a failure.
        id: unique in its run; a second event with the same id is dropped as a duplicate.
        correlation_id: the run that the event belongs to.
        causation_id: id of the event whose handler emitted this one.
        position: place in the run: 1, 2, 3, gapless.
        created_at: when the event was made, in UTC.
    """

    name: str
    data: Any = None
    metadata: dict[str, Any] | None = None
    error: str | None = None
    id: str | None = field(default=None, compare=False)
    correlation_id: str | None = field(default=None, compare=False)
    causation_id: str | None = field(default=None, compare=False)
    position: int | None = field(default=None, compare=False)
    created_at: datetime | None = field(default=None, compare=False)

    @classmethod
    def progress(
        cls, step_name: str, description: str, metadata: dict[str, Any] | None = None
    ) -> WorkflowEvent:
        """Make a progress event: ``data`` is ``{"step": …, "description": …}``."""
        return cls(PROGRESS, {"step": step_name, "description": description}, metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an event that was sent.

    Attributes:
        status: ``accepted``: it is in the log, on disk. ``duplicate``: the run has an
            event with this id; the receipt is the original's. ``stale``: it was refused,
            because the run is closed or the event has expired.
        id: the event's id.
        correlation_id: the event's run.
        position: its place in the run; None if it is stale.
        reason: why it was not accepted; None if it was.
    """

    status: Literal["accepted", "duplicate", "stale"]
    id: str
    correlation_id: str
    position: int | None
    reason: str | None = None
