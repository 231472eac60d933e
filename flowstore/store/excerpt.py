"""Part of what a store has of a run: some events, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowstore.store.records import StepRow, StoredEvent, TransitionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Neighbouring events of a run and what came of them, from one moment.

    Attributes:
        events: in the order of their positions.
        transitions: the attempts recorded at these positions, in order.
        steps: those of these events' handlers, as they began.
        caused: events whose ids say that they came of these, in the order of their positions.
            One that has an id of its handler's choice is not among them.
    """

    events: list[StoredEvent]
    transitions: list[TransitionRow]
    steps: list[StepRow]
    caused: list[StoredEvent]
