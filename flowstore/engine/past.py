"""What a handler that waits has behind it: earlier waits, and the state that it began with.

A parked handler is called again from its beginning when the event has come that it waits for.
Until it gets to that wait it is *replayed*: nothing that it does counts, since all of it was
recorded when it was parked.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from flowstore.engine.due import due_at
from flowstore.engine.trigger import Trigger, ends_wait, expiry_id
from flowstore.errors import (
    ConfigurationError,
    HandlerChangedError,
    InvalidValueError,
    WaitExpiredError,
)
from flowstore.events import WAIT_EXPIRED
from flowstore.store.base import (
    STALE,
    Behind,
    DropRow,
    Load,
    Outstanding,
    ParkedRow,
    TimerRow,
    wait_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.kind import FormerState
    from flowstore.routing import Outcome
    from flowstore.store.base import StoredEvent

    Event = str | type | Outcome
    Asked = Callable[[Any], Any] | None

WAIT = "wait"
POSTPONE = "postpone"

_PAGE = 256

_THIS = -1
"""Stands for the number of the transition before this attempt, until that is known."""


class Parking(BaseException):
    """Leaves a handler that waits; no Exception, so that ``except Exception`` lets it pass."""


class Past:
    """The waits of one handler at one event, so far.

    Args:
        origin: the event that the handler handles.
        began_at: when its first attempt began.

    Attributes:
        row: how it was parked when this attempt began; None if it was not.
        former: what the handler sees of the state while it is replayed.
        is_replayed: there are recorded waits that it has not come to yet.
        now: what ``ctx.now()`` says, in microseconds since 1970.
        collected: what its calls of ``ctx.collect`` gave before it was parked.
        failed_steps: what its steps raised before it was parked, as JSON.
        parked: what it waits for from now on; None if it does not.
        is_unmoved: it goes on waiting as it did: the event was not the one.
        misfit: tells of an event that was not the one because it does not fit its class.
    """

    def __init__(
        self,
        around: Surroundings,
        run: ActiveRun,
        origin: StoredEvent,
        handler: str,
        began_at: int,
    ) -> None:
        self._around = around
        self._run = run
        self._origin = origin
        self._handler = handler
        self._began_at = began_at
        self._events: dict[int, StoredEvent] = {}
        self._behind: list[tuple[int, int | None]] = []
        self._recorded = 0
        self._waits = 0
        self._times = 0
        self._turn = asyncio.Lock()
        self._timer: TimerRow | None = None
        self.row: ParkedRow | None = None
        self.former: FormerState | None = None
        self.is_replayed = False
        self.now = began_at
        self.collected: list[list[int] | None] = []
        self.failed_steps: dict[tuple[int, str, str, int], str] = {}
        self.parked: ParkedRow | None = None
        self.is_unmoved = False
        self.misfit: DropRow | None = None

    def resume(self, row: ParkedRow, events: dict[int, StoredEvent], waking: StoredEvent) -> None:
        """Go on with a parked handler; ``former`` has to be set if it waited.

        Args:
            row: how it was parked.
            events: those that its row names.
            waking: the event that wakes it.
        """
        self.row = row
        behind = Behind.read(row.answers)
        if row.kind == POSTPONE:
            self._times = behind.times + 1
            return
        self._events = {**events, waking.position: waking}
        self._events[row.position] = self._origin
        self._behind = [*behind.waits, (waking.position, _THIS)]
        self._recorded = len(self._behind)
        self.collected = behind.collected
        self.is_replayed = True

    @property
    def is_postponed(self) -> bool:
        """Whether the event has been put off."""
        return self.parked is not None and self.parked.kind == POSTPONE

    # --- waiting -------------------------------------------------------------------------

    async def answer(
        self, position: int, event: Event, where: object, timeout: float | timedelta | None
    ) -> Any:
        """Return what the next wait comes to; of several at a time, the first comes first.

        Args:
            position: the event at hand; those behind it have not been handled yet.
            event: what is waited for.
            where: what it must be like.
            timeout: how long to wait for it, if it has to be waited for.

        Raises:
            Parking: it has not come yet.
            WaitExpiredError: it has not come in time.
        """
        trigger, asked = self._asked(event, where)
        due = None
        if timeout is not None:
            due = due_at(self._around.clock.now(), timeout, None)
        async with self._turn:
            if self.parked is not None or self.is_unmoved:
                raise Parking
            number, self._waits = self._waits, self._waits + 1
            if number < self._recorded:
                answer = await self._replay(number, trigger, asked)
            else:
                answer = await self._go_on(position, trigger, asked, due)
        self.now = max(self.now, answer.created_at)
        if answer.name == WAIT_EXPIRED and trigger.name != WAIT_EXPIRED:
            raise WaitExpiredError(f"{trigger.name!r} has not come in time")
        return self._shown(answer, trigger)

    def _asked(self, event: Event, where: object) -> tuple[Trigger, Asked]:
        codec = self._around.codec
        if isinstance(where, Mapping):
            mapping = dict(cast("Mapping[str, Any]", where))
            codec.encode_value(mapping, "where")
            return Trigger.of(event, codec, mapping), None
        if where is not None and not callable(where):
            raise ConfigurationError("ctx.wait_for: where= is a mapping, or a function")
        return Trigger.of(event, codec), where

    async def _replay(self, number: int, trigger: Trigger, asked: Asked) -> StoredEvent:
        """Return what ended this wait before, or what is to end it now."""
        place, moment = self._behind[number]
        answer, row = self._events[place], cast("ParkedRow", self.row)
        is_last = number == self._recorded - 1
        if is_last and trigger.name != row.name:
            self._refuse(f"was parked to wait for {row.name!r}, and now waits for", trigger)
        is_open = is_last and not ends_wait(row, answer)
        if is_open and not await self._is_the_one(answer, trigger, asked):
            self.is_unmoved = True
            raise Parking
        fits = answer.name == WAIT_EXPIRED or trigger.fits_name(answer.name, self._around.codec)
        if not fits:
            self._refuse(f"was given {answer.name!r}, and now waits for", trigger)
        if is_last:
            self.is_replayed = False
        elif moment is not None and self.former is not None:
            self.former.move_on()
        return answer

    def _refuse(self, was: str, trigger: Trigger) -> NoReturn:
        raise HandlerChangedError(
            f"handler {self._handler!r} {was} {trigger.name!r} in that place; "
            "what it does up to a wait must not change"
        )

    async def _go_on(
        self, position: int, trigger: Trigger, asked: Asked, due: int | None
    ) -> StoredEvent:
        """Return an event that came early, or park the handler."""
        if self.row is not None:
            answer = await self._early(position, trigger, asked)
            if answer is not None:
                self._events[answer.position] = answer
                self._behind.append((answer.position, None))
                return answer
        self._park(WAIT, trigger, Behind(self._behind, []), due)
        raise Parking

    def recollect(self, number: int) -> list[StoredEvent] | None:
        """Return what a call of ``ctx.collect`` gave before the handler was parked.

        Raises:
            HandlerChangedError: there was no such call.
        """
        if number >= len(self.collected):
            raise HandlerChangedError(
                f"handler {self._handler!r} did not call ctx.collect here before it was parked; "
                "what it does up to a wait must not change"
            )
        places = self.collected[number]
        return None if places is None else [self._events[place] for place in places]

    async def _is_the_one(self, stored: StoredEvent, trigger: Trigger, asked: Asked) -> bool:
        codec = self._around.codec
        if not trigger.fits_name(stored.name, codec):
            return False
        if trigger.where:
            data = codec.decode(stored.name, stored.version, stored.data)
            if not trigger.fits(stored.name, data, codec):
                return False
        if asked is None and not trigger.is_class:
            return True
        try:
            shown = self._shown(stored, trigger)
        except InvalidValueError as error:
            self._note_misfit(stored, error)
            return False
        if asked is None:
            return True
        says = asked(shown)
        return bool(await says if inspect.isawaitable(says) else says)

    def _note_misfit(self, stored: StoredEvent, error: InvalidValueError) -> None:
        detail = f"handler {self._handler!r} waits for it, and it does not fit: {error}"
        self.misfit = DropRow(
            self._run.id,
            stored.id,
            stored.name,
            stored.position,
            self._handler,
            STALE,
            detail,
            self._around.clock.now(),
        )

    async def _early(self, position: int, trigger: Trigger, asked: Asked) -> StoredEvent | None:
        """Return the first event that fits among those that came while it waited for others."""
        used = {place for place, _ in self._behind}
        after = self._origin.position
        while after < position - 1:
            page: list[StoredEvent]
            page = await self._around.perform(Load(self._run.id, after, _PAGE))
            for stored in page:
                if stored.position >= position:
                    return None
                if stored.position in used:
                    continue
                if await self._is_the_one(stored, trigger, asked):
                    return stored
            after = page[-1].position if page else position
        return None

    def _shown(self, stored: StoredEvent, trigger: Trigger) -> Any:
        codec = self._around.codec
        event = self._around.streams.event(stored, self._run.correlation_id)
        return codec.typed(stored.name, event.data) if trigger.is_class else event

    # --- parking ---------------------------------------------------------------------------

    def postpone(self, until: object) -> None:
        """Put the event off until an event, a time, or for so long."""
        if self._waits:
            raise ConfigurationError(
                "ctx.postpone begins the handler anew, and this one has waited already; "
                "use ctx.wait_for"
            )
        now, trigger, due = self._around.clock.now(), None, None
        if isinstance(until, datetime):
            due = due_at(now, None, until)
        elif isinstance(until, (int, float, timedelta)):
            due = due_at(now, until, None)
        else:
            trigger = Trigger.of(until, self._around.codec)
        self._park(POSTPONE, trigger, Behind([], [], self._times), due)

    def _park(self, kind: str, trigger: Trigger | None, behind: Behind, due: int | None) -> None:
        row = self.row
        self._timer = None
        self.parked = ParkedRow(
            self._run.id,
            self._origin.position,
            self._handler,
            kind,
            None if trigger is None else trigger.name,
            None if trigger is None else trigger.condition,
            behind.text(),
            self._began_at,
            row.state_number if row is not None and row.kind == WAIT else _THIS,
        )
        if due is not None:
            self._set_timer(self.parked, due)

    def stay(self) -> None:
        """Take back that it is parked."""
        self.parked = self._timer = None

    def note_collected(self, collected: list[list[int] | None]) -> None:
        """Keep with the row what the calls of ``ctx.collect`` gave so far."""
        if self.parked is not None and collected:
            behind = Behind.read(self.parked.answers)._replace(collected=collected)
            self.parked = self.parked._replace(answers=behind.text())

    def _set_timer(self, row: ParkedRow, due: int) -> None:
        around = self._around
        data = {"position": row.position, "handler": row.handler}
        encoded = around.codec.encode_own(WAIT_EXPIRED, data)
        self._timer = TimerRow(
            self._run.id,
            wait_key(row.position, row.handler),
            around.workflow,
            due,
            expiry_id(row),
            *encoded,
            self._origin.id,
            around.clock.now(),
        )

    # --- the end of the attempt ----------------------------------------------------------------

    def check_end(self) -> None:
        """Refuse that a handler ends before it has come to where it was parked.

        Raises:
            HandlerChangedError: it did.
        """
        if self.is_replayed and not self.is_unmoved:
            raise HandlerChangedError(
                f"handler {self._handler!r} was parked at a wait that it did not come to this "
                "time; what it does up to a wait must not change"
            )

    def outstanding(self, number: int) -> Outstanding:
        """Return what the commit has to take along.

        Args:
            number: the run's last transition before this attempt.
        """
        wanted = Outstanding()
        if self.row is not None:
            wanted.cancelled.append(wait_key(self.row.position, self.row.handler))
        if self.parked is None:
            wanted.woken += [] if self.row is None else [(self.row.position, self.row.handler)]
            return wanted
        behind = Behind.read(self.parked.answers)
        waits = [(place, number if was == _THIS else was) for place, was in behind.waits]
        self.parked = self.parked._replace(answers=behind._replace(waits=waits).text())
        if self.parked.state_number == _THIS:
            self.parked = self.parked._replace(state_number=number)
        wanted.parked.append(self.parked)
        if self._timer is not None:
            wanted.add(Outstanding(timers=[self._timer]))
        return wanted
