"""What handlers are given while a run is executed again: all of it from the record."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from flowstore import token
from flowstore.clock import Clock
from flowstore.door import decode_json
from flowstore.engine.calls import in_thread
from flowstore.outside import refusal
from flowstore.replay.chunks import Streams
from flowstore.replay.report import Divergence, Moment
from flowstore.replay.steps import Steps, named
from flowstore.replay.users_code import reached_from
from flowstore.store.base import Behind, Load, LoadParked, ParkedWork
from flowstore.stream import has_streams

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Collection, Coroutine

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.attempt import Attempt
    from flowstore.engine.program import Program
    from flowstore.replay.record import Record
    from flowstore.replay.report import Kind
    from flowstore.state import State
    from flowstore.store.base import (
        Committed,
        NewEvent,
        Operation,
        StepRow,
        StoredEvent,
    )
    from flowstore.token import Claimed

    Before = Callable[[Moment], None]


_LEAST_TIMEOUT: Final = 30.0
_YEAR: Final = 3600.0 * 24 * 365


class Halt(BaseException):
    """Ends a replay; no Exception, so that ``except Exception`` lets it pass."""


class RecordedClock(Clock):
    """Says the time that it was then; randomness is repeatable anyhow.

    Args:
        program_clock: where the workflow has its randomness from.
        is_patient: timeouts do not count, as someone is debugging.
    """

    def __init__(self, program_clock: Clock, *, is_patient: bool) -> None:
        self._clock = program_clock
        self._is_patient = is_patient
        self.moment = 0

    def now(self) -> int:
        """Return when the attempt at hand began."""
        return self.moment

    def new_id(self) -> str:
        """Return an id; no handler is given one."""
        return self._clock.new_id()

    def random(self, seed: str) -> random.Random:
        """Return what the workflow's clock gives for this seed."""
        return self._clock.random(seed)

    async def sleep(self, seconds: float) -> None:
        """Sleep in real time: it is a handler's timeout that asks.

        An attempt that took too long then is not made again, so what is short is lengthened: this
        machine may have more to do than that one had.
        """
        least = _LEAST_TIMEOUT if not self._is_patient else _YEAR
        await asyncio.sleep(max(seconds, least))


class Scene:
    """Implements `flowstore.engine.handle.Around` over the record of one run.

    Args:
        program: the code that is called.
        record: the run.
        live: names of steps, and of events with streams, that really run.
        before: called before each attempt; also has plain functions called where this runs.

    Attributes:
        announced: events that were appended while their handler was at work.
        entered: the attempts of the handlers of the event at hand that were called.
        halted: why the replay ends here.
    """

    def __init__(
        self,
        program: Program,
        record: Record,
        *,
        live: Collection[str] = (),
        before: Before | None = None,
    ) -> None:
        self.codec = program.codec
        self.routes = program.routes
        self.resources = program.resources
        self.tasks = program.tasks
        self.workflow = program.name
        self.loop = asyncio.get_running_loop()
        self._time = RecordedClock(program.clock, is_patient=before is not None)
        self.clock: Clock = self._time
        self.logger = _quiet()
        self.worker_id = "replay"
        live = named(live)
        self.streams = Streams(self, record, live)
        self.steps = Steps(self, record, live)
        self.announced: list[NewEvent] = []
        self.entered: dict[str, Attempt] = {}
        self.halted: Divergence | None = None
        self.past = States()
        self.run: ActiveRun | None = None
        self.event: StoredEvent | None = None
        self.record = record
        self._before = before
        self._attempt: Attempt | None = None

    @property
    def is_debugged(self) -> bool:
        """Whether someone looks before each attempt."""
        return self._before is not None

    # --- the end of a replay -------------------------------------------------------------

    def halt(self, kind: Kind, handler: str | None, message: str, actual: Any = None) -> NoReturn:
        """End the replay here, whatever the handler does about it."""
        halt = Halt(message)
        event, run = self.event, self.run
        if event is not None and self.halted is None:
            self.halted = Divergence(
                position=event.position,
                event=event.name,
                handler=handler,
                kind=kind,
                message=message,
                actual=actual,
            )
        if run is not None:
            run.error = halt
        raise halt

    def refuse(self, what: str) -> NoReturn:
        """End the replay as a handler reaches for something outside."""
        attempt = self._attempt
        name = None if attempt is None else attempt.recorded_as
        where = reached_from(None if attempt is None else attempt.handler.function)
        message = (
            f"position {self._position}: handler {name!r} reached for {what}"
            f"{f', at {where}' if where else ''}, outside of a step; what it does to the outside "
            "belongs into ctx.step, whose result is then recorded"
        )
        self.halt("reach", name, message, what)

    def explained(self, divergence: Divergence) -> Divergence:
        """Return a divergence with what may be behind it: streams that were not made."""
        made = [event.name for event in self.announced if has_streams(event.id)]
        if not made or divergence.kind not in {"emitted", "state", "outcome"}:
            return divergence
        hint = (
            "; no iterator of a stream is read anew: take what the handler needs of its chunks "
            f"from the event that it has emitted, or have the stream made: live=[{made[0]!r}]"
        )
        return replace(divergence, message=divergence.message + hint)

    def origin_of(self, position: int, handler: str) -> tuple[int, str]:
        """Return the event that a handler handles, and its name there."""
        if "@" not in handler:
            return position, handler
        known = [each.name for each in self.routes.handlers(self.record.at(position).name)]
        return self.record.origin(position, handler, known)

    @property
    def _position(self) -> int:
        return 0 if self.event is None else self.event.position

    def state(self) -> dict[str, Any]:
        """Return the state as it is now."""
        document: dict[str, Any] = (
            {} if self.run is None else decode_json(self.run.state.document())
        )
        return document

    # --- attempts ------------------------------------------------------------------------

    def started_at(self, position: int, handler: str) -> int:
        """Return when this attempt began then."""
        row = self.record.row(position, handler)
        if row is not None:
            self._time.moment = row.started_at
        return self._time.moment

    def enter(self, attempt: Attempt) -> None:
        """Take note that a handler's function is called now; let a debugger in."""
        self._attempt = attempt
        self.entered[attempt.recorded_as] = attempt
        row = self.record.row(attempt.position, attempt.recorded_as)
        place = self.origin_of(attempt.position, attempt.recorded_as)
        self.steps.begin(attempt, row, place)
        if self._before is None:
            return
        moment = Moment(
            position=attempt.position,
            handler=attempt.recorded_as,
            attempt=attempt.attempt,
            event=attempt.event,
            function=attempt.handler.function,
            outcome=None if row is None else row.outcome,
        )
        unguarded = refusal.set(None)
        try:
            self._before(moment)
        finally:
            refusal.reset(unguarded)

    async def call_plain(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a plain function in a thread, or right here for a debugger."""
        if self._before is not None:
            return function()
        return await in_thread(name, function)

    def await_there(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the loop do something; called on the loop itself it is not waited for."""
        if self._before is not None:
            work.close()  # streams are not made: there is nothing to wait for
        else:
            asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def is_in_turn(self, place: tuple[int, str, str, int]) -> bool:
        """Tell whether all steps have ended that ended before this one then."""
        return self.steps.is_in_turn(place)

    def call_step(
        self,
        place: tuple[int, str, str, int],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Awaitable[Any]:
        """Return what a step ended with then, which is not at hand; or really call it."""
        return self.steps.call(place, function, arguments, keywords)

    async def record_step(self, run: ActiveRun, step: StepRow) -> None:
        """Leave the record as it is."""

    def token(self, task: Claimed) -> str:
        """Return the token as it was given out, if the record has it: its signature is secret."""
        made = token.make(b"replay", task)
        return self.record.tokens.get(made.partition(".")[0], made)

    # --- the store -----------------------------------------------------------------------

    async def was_refused(self, run: ActiveRun, event_id: str) -> bool:  # noqa: ARG002 - of one run
        """Tell whether an event of the log was found to be stale."""
        return event_id in self.record.refused

    def perform(self, operation: Operation) -> asyncio.Future[Any]:
        """Answer from the record; nothing of a replay writes."""
        future: asyncio.Future[Any] = self.loop.create_future()
        events = self.record.archive.events
        if isinstance(operation, Load):
            future.set_result(events[operation.after : operation.after + operation.limit])
        elif isinstance(operation, LoadParked):
            row = operation.row
            behind = Behind.read(row.answers)
            work = ParkedWork(events[row.position - 1])
            work.events = {place: events[place - 1] for place in behind.places()}
            numbers = [row.state_number, *(each for _, each in behind.waits if each is not None)]
            work.states = self.past.at(numbers)
            future.set_result(work)
        else:
            raise TypeError(operation)
        return future

    def announce(
        self,
        run: ActiveRun,  # noqa: ARG002 - there is one
        event: NewEvent,
        *,
        repeats: bool,  # noqa: ARG002 - that is for the store
    ) -> asyncio.Future[Committed]:
        """Keep an event for comparison."""
        self.announced.append(event)
        return self.loop.create_future()


class States:
    """What the state was after each transition of a replay, for handlers that waited.

    Attributes:
        changes: each change, with the number of its transition.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[int, str]] = []
        self._snapshots: list[tuple[int, str]] = []

    def begin(self, number: int, document: str) -> None:
        """Begin anew with a state behind a transition."""
        self._snapshots.append((number, document))

    def look(self, state: State, number: int) -> None:
        """Note the whole state where a store would."""
        if state.snapshot_due():
            self._snapshots.append((number, state.document()))
            state.snapshot_taken()

    def at(self, numbers: list[int]) -> list[tuple[str | None, list[str]]]:
        """Return what the state was at these moments, as `ParkedWork` has it."""
        found: list[tuple[str | None, list[str]]] = []
        last = 0
        for number in numbers:
            snapshot: str | None = None
            newest = bisect_right(self._snapshots, number, key=_number)
            if newest and self._snapshots[newest - 1][0] > last:
                last, snapshot = self._snapshots[newest - 1]
            start, end = (bisect_right(self.changes, each, key=_number) for each in (last, number))
            found.append((snapshot, [change for _, change in self.changes[start:end]]))
            last = max(last, number)
        return found


def _number(item: tuple[int, str]) -> int:
    return item[0]


def _quiet() -> logging.Logger:
    """Return a logger that says nothing: what failed then is in the record."""
    logger = logging.Logger("flowstore.replay")  # noqa: LOG001 - it is no one's child
    logger.disabled = True
    return logger
