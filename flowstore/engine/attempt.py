"""One handler's attempt at one event: it calls the function and keeps the journal."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flowstore.clock import to_datetime
from flowstore.context import Context
from flowstore.engine.calls import call_step, in_thread, return_annotation, takes_idempotency_key
from flowstore.engine.due import due_at
from flowstore.errors import (
    ConfigurationError,
    EventTypeError,
    FlowstoreError,
    HandlerReturnError,
    HandlerTimeoutError,
)
from flowstore.events import PROGRESS, WorkflowEvent
from flowstore.store.base import STALE, DropRow, NewEvent, StepRow, TimerRow

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime, timedelta

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.routing import Handler
    from flowstore.store.base import StoredEvent


class Attempt:
    """Implements `flowstore.journal.Journal` for the engine."""

    __slots__ = (
        "_announced",
        "_around",
        "_scheduled",
        "_stored",
        "_used",
        "attempt",
        "cancelled",
        "completed",
        "drops",
        "event",
        "events",
        "handler",
        "handler_name",
        "has_ended",
        "is_stale",
        "repeats",
        "resources",
        "result",
        "run",
        "started_at",
        "statements",
        "timers",
    )

    def __init__(
        self,
        around: Surroundings,
        run: ActiveRun,
        stored: StoredEvent,
        event: WorkflowEvent,
        handler: Handler,
    ) -> None:
        self._around = around
        self._stored = stored
        self._announced = 0
        self._scheduled = 0
        self._used: dict[str, int] | None = None
        self.has_ended = False
        self.run = run
        self.event = event
        self.handler = handler
        self.handler_name = handler.name
        tries = run.tries
        self.attempt = tries.get((stored.position, handler.name), 0) + 1 if tries else 1
        self.resources = around.resources
        self.started_at = around.clock.now()
        # Made when they are needed: every object kept per event is one more for the collector.
        self.events: list[NewEvent] | None = None
        self.drops: list[DropRow] | None = None
        self.statements: list[tuple[Any, Any]] | None = None
        self.timers: dict[str, TimerRow] | None = None
        self.cancelled: list[str] | None = None
        self.is_stale = False
        self.completed = False
        self.repeats = False
        self.result: str | None = None

    # --- calling the handler -----------------------------------------------------------

    async def perform(self) -> None:
        """Call the handler within its timeout; what it raises is raised."""
        timeout = self.handler.timeout
        work = self._around.loop.create_task(self.call())
        alarm = self._around.loop.create_task(self._around.clock.sleep(timeout or 0.0))
        try:
            await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.has_ended = True
                raise HandlerTimeoutError(
                    f"handler {self.handler_name!r} took more than its timeout of {timeout:g} s"
                )
            work.result()
        finally:
            work.cancel()
            alarm.cancel()
            await asyncio.gather(work, alarm, return_exceptions=True)

    async def call(self) -> None:
        """Call the handler and emit what it yields or returns."""
        handler = self.handler
        subject: Any = self.event
        if handler.wants_object:
            subject = self._around.codec.typed(self._stored.name, self.event.data)
        arguments: tuple[Any, ...] = (subject,)
        if handler.second == "context":
            arguments = (subject, Context(self))
        elif handler.second == "state":
            arguments = (subject, self.run.state.value)
        returned: Any
        if handler.runs_on_loop:
            returned = handler.function(*arguments)
        else:
            returned = await in_thread(handler.name, partial(self._call_plain, arguments))
        if hasattr(returned, "__aiter__"):
            items = cast("AsyncIterator[Any]", returned)
            async for item in items:
                if self._take(item):
                    break
            else:
                return
            close = getattr(returned, "aclose", None)
            if close is not None:
                await close()
            return
        if inspect.isawaitable(returned):
            returned = await returned
        self._take_returned(returned)

    def _call_plain(self, arguments: tuple[Any, ...]) -> Any:
        """Call a plain function or generator; this runs in a worker thread."""
        returned: Any = self.handler.function(*arguments)
        if not inspect.isgenerator(returned):
            return returned
        for item in returned:
            if self._take(item):
                returned.close()
        return None

    def _take(self, item: Any) -> bool:
        """Emit what was yielded; true if it reports an error, which ends the handler."""
        try:
            self.emit(item)
        except EventTypeError as error:
            raise HandlerReturnError(
                f"handler {self.handler_name!r} yielded {_brief(item)}: {error}"
            ) from error
        return isinstance(item, WorkflowEvent) and bool(item.error)

    def _take_returned(self, returned: Any) -> None:
        events = returned
        if self.handler.second == "state":
            if returned is None:
                raise HandlerReturnError(
                    f"handler {self.handler_name!r} takes the state and returned nothing; "
                    "return the state, or (state, events)"
                )
            self.run.state.value, events = _split(returned)
        if events is None:
            return
        items = cast("Sequence[Any]", events) if isinstance(events, (list, tuple)) else [events]
        for item in items:
            try:
                self.emit(item)
            except EventTypeError as error:
                raise HandlerReturnError(
                    f"handler {self.handler_name!r} returned {_brief(item)}: {error}"
                ) from error

    # --- the journal -------------------------------------------------------------------

    @property
    def correlation_id(self) -> str:
        """Return the run's id."""
        return self.run.correlation_id

    def get_state(self) -> Any:
        """Return the live state."""
        self._check_open()
        return self.run.state.value

    def set_state(self, value: Any) -> None:
        """Replace the live state."""
        self._check_open()
        self.run.state.value = value

    def emit(self, event: object) -> None:
        """Keep an event for the commit; send a progress event off at once."""
        if self.has_ended:
            self._check_open()
        around, stored = self._around, self._stored
        encoded = around.codec.encode(event)
        chosen = None
        if isinstance(event, WorkflowEvent) and (
            event.id is not None or event.correlation_id is not None
        ):
            chosen = self._chosen_id(event)
        now = around.clock.now()
        if chosen is None and encoded.name == PROGRESS:
            self._announced += 1
            event_id = f"{stored.position}/{self.handler_name}/p{self._announced}"
            self._announce(NewEvent(event_id, *encoded, stored.id, now, None))
            return
        if self.events is None:
            self.events = []
        if chosen is None:
            event_id = f"{stored.position}/{self.handler_name}/{len(self.events) + 1}"
        else:
            event_id = chosen
            self.repeats = True
        self.events.append(NewEvent(event_id, *encoded, stored.id, now, None))

    def _chosen_id(self, event: WorkflowEvent) -> str | None:
        """Return the id that the handler gave the event, if that and the run are allowed."""
        if event.correlation_id not in (None, self.run.correlation_id):
            raise EventTypeError(
                f"{event.name!r} names the run {event.correlation_id!r}; a handler emits into "
                "its own run: leave correlation_id out, or use workflow.send"
            )
        if event.id is not None and event.id != self._stored.id:
            self._around.codec.check_id(event.id)
        return event.id

    def _announce(self, event: NewEvent) -> None:
        repeats = self.run.resumed_at >= self._stored.position
        if self.handler.runs_on_loop:
            self._around.announce(self.run, event, repeats=repeats)
        else:
            self._around.loop.call_soon_threadsafe(
                lambda: self._around.announce(self.run, event, repeats=repeats)
            )

    def drop(self, reason: str) -> None:
        """Record that the event is stale."""
        self._check_open()
        if not isinstance(reason, str) or not reason:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("ctx.drop(reason): say why, in words")
        self.is_stale = True
        stored = self._stored
        if self.drops is None:
            self.drops = []
        self.drops.append(
            DropRow(
                self.run.id,
                stored.id,
                stored.name,
                stored.position,
                self.handler_name,
                STALE,
                printable(reason),
                self._around.clock.now(),
            )
        )

    def complete(self, result: Any) -> None:
        """Close the run with this handler's commit."""
        self._check_open()
        if result is not None:
            self.result = self._around.codec.encode_value(result, "result")
        self.completed = True

    def schedule(
        self, event: object, delay: float | timedelta | None, at: datetime | None, key: str | None
    ) -> str:
        """Keep a timer for the commit."""
        self._check_open()
        around, stored = self._around, self._stored
        encoded = around.codec.encode(event)
        if isinstance(event, WorkflowEvent) and (event.id or event.correlation_id):
            raise ConfigurationError(
                "ctx.schedule: the event gets its id when it is due, in this run; leave id and "
                "correlation_id out"
            )
        now = around.clock.now()
        due = due_at(now, delay, at)
        self._scheduled += 1
        event_id = f"{stored.position}/{self.handler_name}/s{self._scheduled}"
        if key is None:
            key = event_id
        else:
            around.codec.check_text(key, "key", around.codec.limits.name_length)
        if self.timers is None:
            self.timers = {}
        self.timers[key] = TimerRow(
            self.run.id, key, around.workflow, due, event_id, *encoded, stored.id, now
        )
        return key

    def cancel(self, key: str) -> None:
        """Keep for the commit that a timer is not wanted any more."""
        self._check_open()
        self._around.codec.check_text(key, "key", self._around.codec.limits.name_length)
        if self.timers is not None:
            self.timers.pop(key, None)
        if self.cancelled is None:
            self.cancelled = []
        self.cancelled.append(key)

    def execute(self, statement: Any, parameters: Any) -> None:
        """Keep a statement for the commit."""
        self._check_open()
        if not getattr(statement, "supports_execution", False):
            raise ConfigurationError(
                f"ctx.execute takes an SQLAlchemy insert, update, delete or text, "
                f"not {_brief(statement)}"
            )
        if self.statements is None:
            self.statements = []
        self.statements.append((statement, parameters))

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        """Return the recorded result, or call the function and record what it returns."""
        self._check_open()
        codec, run = self._around.codec, self.run
        codec.check_text(name, "step", codec.limits.name_length)
        if self._used is None:
            self._used = {}
        number = self._used[name] = self._used.get(name, 0) + 1
        key = (self._stored.position, self.handler_name, name, number)
        annotation = return_annotation(function)
        if key in run.steps:
            return codec.decode_value(run.steps[key], annotation)
        if "idempotency_key" not in keywords and takes_idempotency_key(function):
            keywords = {**keywords, "idempotency_key": self._key(name, number)}
        clock = self._around.clock
        started = clock.now()
        value = await call_step(name, function, arguments, keywords)
        text = codec.encode_value(value, f"step[{name!r}]", annotation=annotation)
        self._check_open()
        step = StepRow(run.id, *key, text, started, clock.now() - started)
        await self._around.record_step(run, step)
        run.steps[key] = text
        return codec.decode_value(text, annotation)

    def _key(self, name: str, number: int) -> str:
        position = self._stored.position
        return f"{self.correlation_id}/{position}/{self.handler_name}/{name}/{number}"

    def now(self) -> datetime:
        """Return the time at which this attempt began."""
        return to_datetime(self.started_at)

    def random(self) -> random.Random:
        """Return the generator of this event and handler."""
        seed = f"{self.correlation_id}/{self._stored.position}/{self.handler_name}"
        return self._around.clock.random(seed)

    def _check_open(self) -> None:
        if self.has_ended:
            raise FlowstoreError(
                f"handler {self.handler_name!r} has ended; its context can no longer be used"
            )


def _split(returned: Any) -> tuple[Any, Any]:
    """Take apart what a reducer returned: the state, or (state, events)."""
    match returned:
        case (state, events) if isinstance(returned, tuple):
            return state, events
        case _:
            return returned, None


def _brief(value: Any) -> str:
    """Name the kind of a value; the value itself may be a secret."""
    return f"an object of type {type(value).__name__}"


def printable(text: str, limit: int = 16_384) -> str:
    """Return a text that every database takes: no NUL, no lone surrogates, not too long."""
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text):,} characters)"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
