"""The record of one attempt of one handler at one event, until its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.clock import to_datetime
from flowstore.engine.arrangements import Arrangements
from flowstore.engine.calls import return_annotation, step_at_work, takes_idempotency_key
from flowstore.engine.raised import raised_again, raised_text
from flowstore.engine.streams import Streaming
from flowstore.engine.words import brief, storable
from flowstore.errors import (
    ConfigurationError,
    EventTypeError,
    FlowstoreError,
    InvalidValueError,
)
from flowstore.events import PROGRESS, WorkflowEvent
from flowstore.store.arranged import Told
from flowstore.store.base import (
    DROPPED,
    HANDLED,
    PARKED,
    POSTPONED,
    STALE,
    DropRow,
    NewEvent,
    StepRow,
)
from flowstore.stream import sources_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from datetime import datetime

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.past import Past
    from flowstore.engine.surroundings import Surroundings
    from flowstore.routing import Handler
    from flowstore.store.base import StoredEvent


class AttemptJournal:
    """Implements `flowstore.journal.Journal` for the engine.

    Attributes:
        event: the event that the handler is given.
        position: where the attempt is recorded: the event that is being handled. For a handler
            that was parked it is the one that wakes it.
        recorded_as: the handler's name in the record.
        arranged: what it has arranged for later; None for nothing.
        past: what a handler that waits, or did, has behind it; None for all others.
        change: what it has done to the state until it was parked.
        failed_steps: steps whose function raised.
        is_blameless: if it has failed, then not of what its handler raised: it took too long,
            its commit was refused, or the iterator of a stream raised.
    """

    __slots__ = (
        "_announced",
        "_around",
        "_emitted",
        "_steps_under_way",
        "_stored",
        "_used",
        "arranged",
        "attempt",
        "change",
        "completed",
        "drops",
        "event",
        "events",
        "failed_steps",
        "handler",
        "handler_name",
        "has_ended",
        "is_blameless",
        "is_parked",
        "is_stale",
        "past",
        "position",
        "recorded_as",
        "repeats",
        "resources",
        "result",
        "run",
        "started_at",
        "statements",
        "streams",
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
        self._steps_under_way = 0
        self._announced = 0
        self._emitted = 0
        self._used: dict[str, int] | None = None
        self.arranged: Arrangements | None = None
        self.has_ended = False
        self.run = run
        self.event = event
        self.handler = handler
        self.handler_name = self.recorded_as = handler.name
        self.position = stored.position
        self.past: Past | None = None
        self.streams: Streaming | None = None
        tries = run.tries
        self.attempt = tries.get((stored.position, handler.name), 0) + 1 if tries else 1
        self.resources = around.resources
        self.started_at = around.started_at(stored.position, handler.name)
        # Made when they are needed: every object kept per event is one more for the collector.
        self.events: list[NewEvent] | None = None
        self.drops: list[DropRow] | None = None
        self.statements: list[tuple[Any, Any]] | None = None
        self.failed_steps: list[StepRow] | None = None
        self.change: str | None = None
        self.is_blameless = False
        self.is_parked = False
        self.is_stale = False
        self.completed = False
        self.repeats = False
        self.result: str | None = None

    @property
    def outcome(self) -> str:
        """Return what the record calls the end of an attempt that did not fail."""
        if self.is_parked:
            return PARKED
        if self.past is not None and self.past.is_postponed:
            return POSTPONED
        return DROPPED if self.is_stale else HANDLED

    @property
    def told(self) -> Told:
        """Return what the run has heard from a handler that waits, or did."""
        events = [event.id for event in self.events or ()]
        streams = 0 if self.streams is None else self.streams.count
        return Told(events, self._announced, streams, dict(self._used or {}))

    # --- the journal -------------------------------------------------------------------

    @property
    def correlation_id(self) -> str:
        """Return the run's id."""
        return self.run.correlation_id

    def get_state(self) -> Any:
        """Return the live state, or in the past of a parked handler what it was then."""
        self._check_open()
        if self.past is not None and self.past.former is not None:
            return self.past.former.value
        return self.run.state.value

    def set_state(self, value: Any) -> None:
        """Replace the state."""
        self._check_open()
        if self.past is not None and self.past.former is not None:
            self.past.former.value = value
        else:
            self.run.state.value = value

    def emit(self, event: object) -> None:
        """Keep an event for the commit; send a progress event off at once."""
        if self.has_ended:
            self._check_open()
        around, stored = self._around, self._stored
        try:
            encoded = around.codec.encode(event)
        except InvalidValueError:
            if not (isinstance(event, WorkflowEvent) and sources_of(event)):
                raise
            self._stream(event)
            return
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
        if self._steps_under_way:
            self.check_lasts()
        if self.events is None:
            self.events = []
        self._emitted += 1
        if chosen is None:
            event_id = f"{stored.position}/{self.handler_name}/{self._emitted}"
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
        if self.past is not None and self.past.is_replayed:
            return
        repeats = self._is_repeated
        if self.handler.runs_on_loop:
            self._around.announce(self.run, event, repeats=repeats)
        else:
            self._around.loop.call_soon_threadsafe(
                lambda: self._around.announce(self.run, event, repeats=repeats)
            )

    @property
    def _is_repeated(self) -> bool:
        """Whether what is sent off at once may be in the log already."""
        return self.repeats or self.run.resumed_at >= self._stored.position

    def _stream(self, event: WorkflowEvent) -> None:
        if self.streams is None:
            self.streams = Streaming(self._around, self.run, self._stored, self.handler)
        is_replayed = self.past is not None and self.past.is_replayed
        self.streams.emit(event, is_replayed=is_replayed, repeats=self._is_repeated)

    def drop(self, reason: str) -> None:
        """Record that the event is stale."""
        self.check_lasts()
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
                storable(reason),
                self._around.clock.now(),
            )
        )

    def complete(self, result: Any) -> None:
        """Close the run with this handler's commit."""
        self.check_lasts()
        if result is not None:
            self.result = self._around.codec.encode_value(result, "result")
        self.completed = True

    def execute(self, statement: Any, parameters: Any) -> None:
        """Keep a statement for the commit."""
        self.check_lasts()
        if not getattr(statement, "supports_execution", False):
            raise ConfigurationError(
                f"ctx.execute takes an SQLAlchemy insert, update, delete or text, "
                f"not {brief(statement)}"
            )
        if self.statements is None:
            self.statements = []
        self.statements.append((statement, parameters))

    @property
    def arrangements(self) -> Arrangements:
        """Return what keeps that which begins or ends with the commit."""
        self.check_lasts()
        if self.arranged is None:
            self.arranged = Arrangements(self._around, self.run, self._stored, self.handler_name)
        self.arranged.past = self.past
        return self.arranged

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
        if key in run.steps and self._around.is_in_turn(key):
            return codec.decode_value(run.steps[key], annotation)
        if self.past is not None and self.past.is_replayed and key in self.past.failed_steps:
            raise raised_again(self.past.failed_steps[key])
        if "idempotency_key" not in keywords and takes_idempotency_key(function):
            keywords = {**keywords, "idempotency_key": self._key(name, number)}
        clock = self._around.clock
        started = clock.now()
        self._steps_under_way += 1
        try:
            value = await self._around.call_step(key, function, arguments, keywords)
            text = codec.encode_value(value, f"step[{name!r}]", annotation=annotation)
        except Exception as error:
            self._note_failure(key, error, started)
            raise
        finally:
            self._steps_under_way -= 1
        self._check_open()
        step = StepRow(run.id, *key, text, started, clock.now() - started)
        await self._around.record_step(run, step)
        run.steps[key] = text
        return codec.decode_value(text, annotation)

    def _note_failure(self, key: tuple[int, str, str, int], error: Exception, started: int) -> None:
        """Keep for the commit that a step failed: the handler may have gone on all the same."""
        if self.failed_steps is None:
            self.failed_steps = []
        duration = self._around.clock.now() - started
        row = StepRow(self.run.id, *key, None, started, duration, raised_text(error))
        self.failed_steps.append(row)

    def _key(self, name: str, number: int) -> str:
        position = self._stored.position
        return f"{self.correlation_id}/{position}/{self.handler_name}/{name}/{number}"

    def now(self) -> datetime:
        """Return the time at which this attempt began, or that of the last wait's end."""
        return to_datetime(self.started_at if self.past is None else self.past.now)

    def random(self) -> random.Random:
        """Return the generator of this event and handler; that of its run if a fork goes on."""
        place = self._stored.position
        seed = f"{self.run.name_at(place)}/{place}/{self.handler_name}"
        return self._around.clock.random(seed)

    def check_lasts(self) -> None:
        """Refuse what would be lost: a finished step's function is not called again.

        Raises:
            ConfigurationError: the function of a step is at work here.
        """
        self._check_open()
        step = step_at_work.get() if self._steps_under_way else None
        if step is not None:
            raise ConfigurationError(
                f"step {step!r} wants more than its result: once it is finished its function is "
                "not called again, and what it asks of the context would be lost; return a value, "
                "and do it behind the step"
            )

    def _check_open(self) -> None:
        if self.has_ended:
            raise FlowstoreError(
                f"handler {self.handler_name!r} has ended; its context can no longer be used"
            )
