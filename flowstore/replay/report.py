"""What comes of executing a run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flowstore.replay.difference import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.events import WorkflowEvent
    from flowstore.replay.difference import Difference
    from flowstore.store.base import StoredEvent

Kind = Literal["outcome", "emitted", "state", "arranged", "step", "reach", "handler", "error"]
"""What is not as it was.

``outcome``: how a handler ended, or whether it was called; ``emitted``: an event; ``state``: the
state behind a handler; ``arranged``: timers, tasks, waits and collections; ``step``: it reached for
a step that is not recorded, or left one out; ``reach``: it reached for something outside the
process; ``handler``: it is not registered any more, was not then, or has another place among the
others; ``error``: an event, or the state, does not fit the code.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first place at which a run did not go as it is recorded.

    Attributes:
        position: the event that was being handled.
        event: its name.
        handler: which handler, as the record calls it; None if it is not about one.
        kind: what is not as it was.
        message: one sentence: what, where, and what to do about it.
        expected: what is recorded.
        actual: what came of it now.
        differences: each value that differs, with its path.
    """

    position: int
    event: str
    handler: str | None
    kind: Kind
    message: str
    expected: Any = None
    actual: Any = None
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "position": self.position,
            "event": self.event,
            "handler": self.handler,
            "kind": self.kind,
            "message": self.message,
            "expected": None if self.expected is ABSENT else self.expected,
            "actual": None if self.actual is ABSENT else self.actual,
            "differences": [each.to_json() for each in self.differences],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of executing a run again.

    Attributes:
        correlation_id: the run.
        workflow: whose it is.
        status: of the run, as it is recorded.
        events: how many events had their handlers called again.
        until: the last position that was looked at.
        divergence: the first place at which it did not go as recorded; None if there is none.
        accepted: those before it that were accepted.
    """

    correlation_id: str
    workflow: str
    status: str
    events: int
    until: int
    divergence: Divergence | None = None
    accepted: tuple[Divergence, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether everything went as it is recorded."""
        return self.divergence is None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "correlation_id": self.correlation_id,
            "workflow": self.workflow,
            "status": self.status,
            "events": self.events,
            "until": self.until,
            "identical": self.is_identical,
            "divergence": None if self.divergence is None else self.divergence.to_json(),
            "accepted": [each.to_json() for each in self.accepted],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A handler is about to be called again.

    Attributes:
        position: the event that is being handled.
        handler: the handler, as the record calls it.
        attempt: which attempt it is, from 1; only the last that is recorded is made again.
        event: what the handler is given; for one that waited, the event that it began with.
        function: the handler itself.
        outcome: how this attempt ended then, as the record calls it.
    """

    position: int
    handler: str
    attempt: int
    event: WorkflowEvent
    function: Callable[..., Any]
    outcome: str | None


def diverged(  # noqa: PLR0917 - where, what, and the two sides
    stored: StoredEvent,
    handler: str | None,
    kind: Kind,
    problem: str,
    sides: tuple[Any, Any],
    found: tuple[Difference, ...] = (),
) -> Divergence:
    """Return a divergence at an event: in whose handler, of which kind, what, and the two sides."""
    return Divergence(
        position=stored.position,
        event=stored.name,
        handler=handler,
        kind=kind,
        message=f"position {stored.position}, {stored.name!r}: {problem}",
        expected=sides[0],
        actual=sides[1],
        differences=found,
    )
