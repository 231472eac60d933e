"""The history of a run: every attempt of every handler, with what it found and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from flowstore.change import replay
from flowstore.clock import to_datetime
from flowstore.door import decode_json
from flowstore.events import WorkflowEvent
from flowstore.replay.begun import Arranged, arranged_by
from flowstore.replay.folding import fold
from flowstore.replay.origins import Origins, origin_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flowstore.replay.difference import Difference
    from flowstore.store.base import Reader, StepRow, StoredEvent, TransitionRow
    from flowstore.store.excerpt import Excerpt

    Envelope = Callable[[StoredEvent, str], WorkflowEvent]

PAGE: Final = 500
"""How many events are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a handler.

    Attributes:
        name: its name.
        number: how often the handler had begun a step of this name, this one included.
        result: what it returned; None if it failed.
        error: what its function raised, as ``Type: message``; None if it did not fail.
        started_at: when it began, in UTC.
        duration: how long it took.
    """

    name: str
    number: int
    result: Any
    error: str | None
    started_at: datetime
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One attempt of one handler at one event.

    Attributes:
        position: the place in the run of the event that was at hand.
        number: counts the run's transitions: 1, 2, 3.
        event: the event at hand. If the handler had waited in the middle, or put its event off,
            this is the event that it went on with.
        origin: position of the event that the handler handles; differs from ``position`` for one
            that went on.
        handler: its name.
        attempt: 1 for the first attempt, 2 for the next one after a failure.
        outcome: ``handled``, ``dropped``, ``retried``, ``dead``, ``parked`` or ``postponed``;
            ``edited`` for the edit of a fork's state, which no handler has made.
        differences: what it made different in the state; paths begin with ``state``.
        change: the same as recorded, see `flowstore.change`; None if it changed nothing.
        emitted: the events that it emitted, in order.
        steps: the steps that it ran, as they began; not those whose results were there before.
        arranged: which tasks, timers, waits and collected events it began or ended.
        started_at: when it began, in UTC.
        duration: how long it took.
        error: what went wrong; None if it did not fail.
        traceback: where.
        code: which code it was: a fingerprint, or the manager's ``code_version``.
    """

    position: int
    number: int
    event: WorkflowEvent
    origin: int
    handler: str
    attempt: int
    outcome: str
    differences: tuple[Difference, ...]
    change: str | None
    emitted: tuple[WorkflowEvent, ...]
    steps: tuple[Step, ...]
    arranged: Arranged
    started_at: datetime
    duration: timedelta
    error: str | None
    traceback: str | None
    code: str | None


async def read_history(
    reader: Reader,
    correlation_id: str,
    *,
    after: int = 0,
    until: int | None = None,
    envelope: Envelope | None = None,
) -> AsyncIterator[Transition]:
    """Yield the transitions of a run in order, page by page.

    Args:
        reader: of the store that has the run.
        correlation_id: the run; without one nothing is yielded.
        after: begin after this position.
        until: end with this position; None for the run's last.
        envelope: makes events of rows; None for one that knows no types.
    """
    history = _History(reader, correlation_id, envelope or plain_event)
    await history.begin(after, until)
    while True:
        page = await history.read(after, until)
        for row in page.transitions:
            yield await history.transition(row)
        if len(page.events) < PAGE:
            return
        after = page.events[-1].position


def plain_event(stored: StoredEvent, correlation_id: str) -> WorkflowEvent:
    """Return an event as it is in the log, whatever version it has."""
    return WorkflowEvent(
        stored.name,
        decode_json(stored.data),
        decode_json(stored.metadata),
        stored.error,
        stored.id,
        correlation_id,
        stored.causation_id,
        stored.position,
        to_datetime(stored.created_at),
    )


class _History:
    """The state as far as it has been folded, and what is still to be told of the page."""

    def __init__(self, reader: Reader, correlation_id: str, envelope: Envelope) -> None:
        self._reader = reader
        self._name = correlation_id
        self._envelope = envelope
        self._state: dict[str, Any] = {}
        self._is_begun = False
        self._start = self._after = 0
        self._events: dict[int, StoredEvent] = {}
        self._origins = Origins()
        self._chosen: dict[int, list[int]] = {}

    async def begin(self, after: int, until: int | None) -> None:
        self._start = after
        for origin, position in await self._reader.read_chosen(
            self._name, after=after, until=until
        ):
            self._chosen.setdefault(origin, []).append(position)

    async def read(self, after: int, until: int | None) -> Excerpt:
        page = await self._excerpt(after, until, PAGE)
        self._after = after
        self._events = {event.position: event for event in page.events}
        self._origins.turn(page)
        if not self._is_begun and page.transitions:
            # Not before something behind it has been handled: until then more may come to it.
            self._is_begun = True
            self._state = replay(*await self._reader.read_state(self._name, at=self._start))
        return page

    async def _excerpt(self, after: int, until: int | None, limit: int) -> Excerpt:
        also = [
            position
            for origin in range(after + 1, after + limit + 1)
            for position in self._chosen.get(origin, ())
        ]
        return await self._reader.read_excerpt(
            self._name, after=after, until=until, limit=limit, also=also
        )

    async def transition(self, row: TransitionRow) -> Transition:
        origin, handler = origin_of(row)
        if origin <= self._after and not self._origins.has(origin, handler):
            # It began before what is asked for, or is a dead letter that is retried.
            self._origins.add(await self._excerpt(origin - 1, origin, 1), since=row)
        emitted, steps = self._origins.take(row, origin, handler)
        return Transition(
            position=row.position,
            number=row.number,
            event=self._envelope(self._events[row.position], self._name),
            origin=origin,
            handler=handler,
            attempt=row.attempt,
            outcome=row.outcome,
            differences=() if row.change is None else fold(self._state, row.change),
            change=row.change,
            emitted=tuple(self._envelope(event, self._name) for event in emitted),
            steps=tuple(map(_step, steps)),
            arranged=arranged_by(row),
            started_at=to_datetime(row.started_at),
            duration=timedelta(microseconds=row.duration),
            error=row.error,
            traceback=row.traceback,
            code=row.code,
        )


def _step(row: StepRow) -> Step:
    error = None
    if row.error is not None:
        said: dict[str, Any] = orjson.loads(row.error)
        error = f"{said['type']}: {said['message']}"
    return Step(
        name=row.name,
        number=row.number,
        result=decode_json(row.result),
        error=error,
        started_at=to_datetime(row.started_at),
        duration=timedelta(microseconds=row.duration),
    )
