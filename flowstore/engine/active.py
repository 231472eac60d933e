"""A run that this process owns, as the engine keeps it in memory."""

# ruff: noqa: PIE807, PLW0108 - a checker of types cannot tell of what `list` alone makes a list, and
# calling `list[X]` takes several times as long: these are made for every event.

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowstore.store.base import DEAD, DROPPED, HANDLED, PARKED, POSTPONED, RETRIED
from flowstore.store.lineage import ancestors

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from flowstore.state import State
    from flowstore.store.base import Committed, Grant, Outstanding, ParkedRow, StoredEvent

_FINAL = frozenset({HANDLED, DROPPED, DEAD, PARKED, POSTPONED})


@dataclass(slots=True)
class ActiveRun:
    """What the engine knows of a run from its lease on.

    Attributes:
        head: last position known to be in the log.
        loaded: last position that is, or was, in ``pending``.
        in_flight: names of the events that a handler at work has sent off, and of which it is not
            known yet what became of them: a position, none as a repeat, or a failure.
        number: the number of the last transition.
        tries: failed attempts at events after the cursor, by position and handler.
        finished: positions and handlers that are done with them.
        steps: results of finished steps, by position, handler, name and number.
        parked: handlers that wait, by position and name.
        collected: events that are kept, by key and id.
        completed: the position of the event that completed a collection last, by key.
        resumed_at: the position that may have been handled in part before.
        failure: why the run fails when it settles, if it does; empty if it no longer does.
        error: why the store refused something that the handler at work asked for.
        is_state_void: the state in memory is not what the store has.
        ancestors: which run this was up to which position, if it is a fork.
    """

    id: int
    correlation_id: str
    epoch: int
    cursor: int
    head: int
    loaded: int
    number: int
    state: State
    pending: deque[StoredEvent]
    failure: str | None = None
    in_flight: list[str] = field(default_factory=lambda: [])
    resumed_at: int = 0
    tries: dict[tuple[int, str], int] = field(default_factory=lambda: {})
    finished: set[tuple[int, str]] = field(default_factory=lambda: set())
    steps: dict[tuple[int, str, str, int], str | None] = field(default_factory=lambda: {})
    parked: dict[tuple[int, str], ParkedRow] = field(default_factory=lambda: {})
    collected: dict[str, dict[str, StoredEvent]] = field(default_factory=lambda: {})
    completed: dict[str, int] = field(default_factory=lambda: {})
    error: BaseException | None = None
    is_state_void: bool = False
    task: asyncio.Task[None] | None = None
    ancestors: Sequence[tuple[str, int]] = ()

    @classmethod
    def from_grant(cls, grant: Grant, state: State) -> ActiveRun:
        """Start from a lease."""
        row, loaded = grant.run, grant.loaded
        events = loaded.events
        run = cls(
            id=row.id,
            correlation_id=row.correlation_id,
            epoch=row.epoch,
            cursor=row.cursor,
            head=row.head,
            loaded=events[-1].position if events else row.cursor,
            number=row.state_version,
            state=state,
            pending=deque(events),
            failure=row.reason,
            resumed_at=row.cursor + 1,
        )
        if row.lineage is not None:
            run.ancestors = ancestors(row.lineage)
        for transition in loaded.transitions:
            place = (transition.position, transition.handler)
            run.resumed_at = max(run.resumed_at, transition.position)
            if transition.outcome == RETRIED:
                run.tries[place] = transition.attempt
            elif transition.outcome in _FINAL:
                run.finished.add(place)
        run.parked = {(row.position, row.handler): row for row in loaded.parked}
        for key, event in loaded.collected:
            run.collected.setdefault(key, {})[event.id] = event
        for step in loaded.steps:
            run.resumed_at = max(run.resumed_at, step.position)
            if step.error is None:
                run.steps[step.position, step.handler, step.name, step.number] = step.result
        return run

    def name_at(self, position: int) -> str:
        """Return the run that this was when it had this event; a fork was another one before."""
        for name, until in self.ancestors:
            if position <= until:
                return name
        return self.correlation_id

    def absorb(self, events: Sequence[StoredEvent]) -> None:
        """Take in events that have just been appended, if they follow on what is here."""
        for event in events:
            if event.position == self.loaded + 1:
                self.loaded = event.position
                if event.position > self.cursor:
                    self.pending.append(event)
            self.head = max(self.head, event.position)

    def arrange(
        self,
        wanted: Outstanding,
        kept: Sequence[tuple[str, StoredEvent]] = (),
        completed: Sequence[str] = (),
        place: int = 0,
    ) -> None:
        """Take in what a handler has arranged for later.

        Args:
            wanted: what its commit takes along.
            kept: keys and events that are collected from now on.
            completed: keys of collections that its event has completed.
            place: the position of this event.
        """
        for handler in wanted.woken:
            self.parked.pop(handler, None)
        for row in wanted.parked:
            self.parked[row.position, row.handler] = row
        for key, event in kept:
            self.collected.setdefault(key, {})[event.id] = event
        for key, event_id in wanted.spent:
            self.collected[key].pop(event_id, None)
        self.completed.update(dict.fromkeys(completed, place))

    def follow(self, result: Committed) -> None:
        """Take in what a commit came to."""
        self.absorb(result.events)
        self.head = max(self.head, result.head)
        if result.cursor > self.cursor:
            self.cursor = result.cursor
            self._forget_handled()
            while self.pending and self.pending[0].position <= self.cursor:
                self.pending.popleft()

    def _forget_handled(self) -> None:
        cursor = self.cursor
        if self.tries:
            self.tries = {each: tried for each, tried in self.tries.items() if each[0] > cursor}
        if self.finished:
            self.finished = {each for each in self.finished if each[0] > cursor}
        if self.steps:
            self.steps = {each: text for each, text in self.steps.items() if each[0] > cursor}
