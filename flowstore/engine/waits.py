"""What a handler that waits, or puts its event off, does to its attempt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flowstore.engine.journal import AttemptJournal
from flowstore.engine.past import WAIT, Parking, Past
from flowstore.engine.trigger import continued_name
from flowstore.errors import ConfigurationError, FlowstoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from flowstore.routing import Outcome
    from flowstore.store.base import ParkedRow, ParkedWork, StoredEvent


class WaitingJournal(AttemptJournal):
    """The part of an attempt's journal that has to do with waiting."""

    __slots__ = ()

    def resume(
        self, row: ParkedRow, work: ParkedWork, waking: StoredEvent, stored: StoredEvent
    ) -> None:
        """Go on with a handler that was parked.

        Args:
            row: how it was parked.
            work: what it has behind it.
            waking: the event that ends its wait.
            stored: the one at hand: the same, if this is not the retry of a dead letter.

        Raises:
            InvalidStateError: what was saved of the state cannot be read.
        """
        run, around, origin = self.run, self._around, self._stored
        self.position = stored.position
        self.recorded_as = continued_name(row)
        self.started_at = around.started_at(self.position, self.recorded_as)
        self.attempt = run.tries.get((stored.position, self.recorded_as), 0) + 1
        # What it emits may be in the log, should it not do the same as before.
        self.repeats = True
        began = row.started_at if row.kind == WAIT else self.started_at
        past = self.past = Past(around, run, origin, self.handler_name, began)
        past.resume(row, work.events, waking)
        for step in work.steps:
            key = (step.position, step.handler, step.name, step.number)
            if step.error is None:
                run.steps[key] = step.result
            else:
                past.failed_steps[key] = step.error
        if row.kind == WAIT:
            past.former = run.state.former(work.states)

    def conclude(self) -> str | None:
        """Return what the handler has done to the state, None for nothing.

        Raises:
            HandlerChangedError: it ended before the wait at which it was parked.
            InvalidStateError: the state cannot be stored.
        """
        if self.past is not None:
            self._look_back(self.past)
        if self.is_parked:
            self.run.state.restore()  # whoever holds it may still change it
            return self.change
        return self.run.state.change()

    def _look_back(self, past: Past) -> None:
        past.check_end()
        if past.is_postponed:
            self.events = self.drops = self.statements = self.result = self.arranged = None
            self.is_stale = self.completed = False
            self.run.state.restore()

    # --- the journal -------------------------------------------------------------------

    async def wait_for(
        self,
        event: str | type | Outcome,
        where: Mapping[str, Any] | Callable[[Any], Any] | None,
        timeout: float | timedelta | None,
    ) -> Any:
        """Return the event that ends this wait, or park the handler until it has come."""
        past = self._waits()
        self._check_wait(past)
        if self.streams is not None:
            await self.streams.drain()
        was_replayed = past.is_replayed
        try:
            return await past.answer(self.position, event, where, timeout)
        except Parking:
            self._park(past)
            raise
        finally:
            if was_replayed and not past.is_replayed:
                self._begin_present(past)

    def postpone(self, until: str | type | Outcome | datetime | float | timedelta) -> None:
        """Have the event handled again later."""
        self._waits().postpone(until)

    def _waits(self) -> Past:
        self.check_lasts()
        if self.past is None:
            stored, began = self._stored, self.started_at
            self.past = Past(self._around, self.run, stored, self.handler_name, began)
        return self.past

    def _check_wait(self, past: Past) -> None:
        problem = None
        if self.completed and not past.is_replayed:
            problem = "the run is completed; nothing comes any more"
        elif past.is_postponed:
            problem = "the event has been postponed; return after that"
        elif self._steps_under_way:
            problem = "a step is under way; wait before it or behind it, not beside or within it"
        elif asyncio.get_running_loop() is not self._around.loop:
            problem = "only handlers that are coroutines or async generators can wait"
        if problem is not None:
            raise ConfigurationError(f"ctx.wait_for: {problem}")

    def _park(self, past: Past) -> None:
        """Leave it at what the handler has done so far: what it does on its way out is void."""
        if self.is_parked:
            return
        if not past.is_unmoved:
            try:
                self.change = self.run.state.change()
            except FlowstoreError:
                past.stay()
                raise
            past.note_collected([] if self.arranged is None else self.arranged.collected)
        self.has_ended = self.is_parked = True

    def _begin_present(self, past: Past) -> None:
        """Behind the last recorded wait: what was done before it is recorded as well."""
        self.events = self.drops = self.statements = self.result = None
        self.is_stale = self.completed = False
        if self.arranged is not None:
            self.arranged.forget()
        if past.former is not None:
            self.run.state.adopt(past.former.value)
            past.former = None
