"""What a handler that waits has behind it: earlier waits, and the state that it began with.

A parked handler is called again from its beginning when the event has come that it waits for.
Until it gets to that wait it is *replayed*: nothing that it does counts, since all of it was
recorded when it was parked.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from flowstore.engine.due import due_at
from flowstore.engine.trigger import Trigger, ends_wait, expiry_id
from flowstore.errors import ConfigurationError, HandlerChangedError, WaitExpiredError
from flowstore.events import WAIT_EXPIRED, WorkflowEvent
from flowstore.store.base import OURS, Load, Outstanding, ParkedRow, TimerRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.routing import Outcome
    from flowstore.store.base import StoredEvent

    Event = str | type | Outcome
    Asked = Callable[[Any], Any] | None

WAIT = "wait"
POSTPONE = "postpone"

_PAGE = 256


class Parking(BaseException):
    """Leaves a handler that waits; no Exception, so that ``except Exception`` lets it pass."""


class Past:
    """The waits of one handler at one event, so far.

    Args:
        origin: the event that the handler handles.
        began_at: when its first attempt began.

    Attributes:
        row: how it was parked when this attempt began; None if it was not.
        state: what the handler sees of the state while it is replayed.
        is_replayed: there are recorded waits that it has not come to yet.
        now: what ``ctx.now()`` says, in microseconds since 1970.
        parked: what it waits for from now on; None if it does not.
        is_unmoved: it goes on waiting as it did: the event was not the one.
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
        self._answers: list[StoredEvent] = []
        self._waits = 0
        self._timer: TimerRow | None = None
        self.row: ParkedRow | None = None
        self.state: Any = None
        self.is_replayed = False
        self.now = began_at
        self.parked: ParkedRow | None = None
        self.is_unmoved = False

    def resume(self, row: ParkedRow, answers: list[StoredEvent], state: Any) -> None:
        """Go on with a parked handler.

        Args:
            row: how it was parked.
            answers: what ended its waits, the last of them by the event that wakes it.
            state: the state that it began with.
        """
        self.row = row
        if row.kind == WAIT:
            self._answers = answers
            self.state = state
            self.is_replayed = True

    @property
    def is_postponed(self) -> bool:
        """Whether the event has been put off."""
        return self.parked is not None and self.parked.kind == POSTPONE

    # --- waiting -------------------------------------------------------------------------

    async def answer(
        self, position: int, event: Event, where: object, timeout: float | timedelta | None
    ) -> Any:
        """Return what the next wait comes to.

        Args:
            position: the event at hand; those behind it have not been handled yet.
            event: what is waited for.
            where: what it must be like.
            timeout: how long to wait for it, if it has to be waited for.

        Raises:
            Parking: it has not come yet.
            WaitExpiredError: it has not come in time.
        """
        mapping: Mapping[str, Any] | None = None
        asked: Asked = None
        if isinstance(where, Mapping):
            mapping = dict(cast("Mapping[str, Any]", where))
            self._around.codec.encode_value(mapping, "where")
        elif callable(where):
            asked = where
        elif where is not None:
            raise ConfigurationError("ctx.wait_for: where= is a mapping, or a function")
        trigger = Trigger.of(event, self._around.codec, mapping)
        number, self._waits = self._waits, self._waits + 1
        answer: StoredEvent | None = None
        if number < len(self._answers):
            answer = await self._recorded(number, trigger, asked)
        elif self.row is not None:
            answer = await self._early(position, trigger, asked)
        if answer is None:
            self._park(WAIT, trigger, timeout)
            raise Parking
        if number == len(self._answers):
            self._answers.append(answer)
        self.now = max(self.now, answer.created_at)
        if answer.name == WAIT_EXPIRED and trigger.name != WAIT_EXPIRED:
            raise WaitExpiredError(f"{trigger.name!r} has not come in time")
        return self._shown(answer, trigger)

    async def _recorded(self, number: int, trigger: Trigger, asked: Asked) -> StoredEvent:
        answer, row = self._answers[number], cast("ParkedRow", self.row)
        if number < len(self._answers) - 1:
            return answer
        if trigger.name != row.name:
            raise HandlerChangedError(
                f"handler {self._handler!r} was parked to wait for {row.name!r}, and now waits "
                f"for {trigger.name!r} in that place; what it does up to a wait must not change"
            )
        if not ends_wait(row, answer) and not await self._is_the_one(answer, trigger, asked):
            self.is_unmoved = True
            raise Parking
        self.is_replayed = False
        return answer

    async def _is_the_one(self, stored: StoredEvent, trigger: Trigger, asked: Asked) -> bool:
        if asked is None:
            return True
        says = asked(self._shown(stored, trigger))
        return bool(await says if inspect.isawaitable(says) else says)

    async def _early(self, position: int, trigger: Trigger, asked: Asked) -> StoredEvent | None:
        """Return the first event that fits among those that came while it waited for others."""
        codec = self._around.codec
        used = {answer.position for answer in self._answers}
        after = self._origin.position
        while after < position - 1:
            page: list[StoredEvent]
            page = await self._around.perform(Load(self._run.id, after, _PAGE))
            for stored in page:
                if stored.position >= position:
                    return None
                if stored.position in used or not trigger.fits_name(stored.name, codec):
                    continue
                data = codec.decode(stored.name, stored.version, stored.data)
                if trigger.fits(stored.name, data, codec) and (
                    await self._is_the_one(stored, trigger, asked)
                ):
                    return stored
            after = page[-1].position if page else position
        return None

    def _shown(self, stored: StoredEvent, trigger: Trigger) -> Any:
        codec = self._around.codec
        event = codec.event(stored, self._run.correlation_id)
        return codec.typed(stored.name, event.data) if trigger.is_class else event

    # --- parking ---------------------------------------------------------------------------

    def postpone(self, position: int, until: object) -> None:
        """Put the event off.

        Args:
            position: the event at hand.
            until: an event, a time, or how long.
        """
        if self._waits:
            raise ConfigurationError(
                "ctx.postpone begins the handler anew, and this one has waited already; "
                "use ctx.wait_for"
            )
        if isinstance(until, datetime):
            due = due_at(self._around.clock.now(), None, until)
        elif isinstance(until, (int, float, timedelta)):
            due = due_at(self._around.clock.now(), until, None)
        else:
            trigger = Trigger.of(until, self._around.codec)
            self._park(POSTPONE, trigger, None, position)
            return
        self._park(POSTPONE, None, None, position)
        self._set_timer(due)

    def _park(
        self,
        kind: str,
        trigger: Trigger | None,
        timeout: float | timedelta | None,
        position: int | None = None,
    ) -> None:
        answers = [answer.position for answer in self._answers]
        if kind == POSTPONE and self.row is not None:
            answers = [*cast("list[int]", json.loads(self.row.answers)), position or 0]
        is_same = self.row is not None and self.row.kind == WAIT
        self._timer = None
        self.parked = ParkedRow(
            self._run.id,
            self._origin.position,
            self._handler,
            kind,
            None if trigger is None else trigger.name,
            None if trigger is None else trigger.condition,
            json.dumps(answers),
            self._began_at,
            cast("ParkedRow", self.row).state_number if is_same else -1,
        )
        if timeout is not None:
            self._set_timer(due_at(self._around.clock.now(), timeout, None))

    def _set_timer(self, due: int) -> None:
        around, row = self._around, cast("ParkedRow", self.parked)
        data = {"position": row.position, "handler": row.handler}
        encoded = around.codec.encode(WorkflowEvent(WAIT_EXPIRED, data))
        self._timer = TimerRow(
            self._run.id,
            _timer_key(row),
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
            number: the run's last transition before the handler began.
        """
        wanted = Outstanding()
        if self.row is not None:
            wanted.cancelled.append(_timer_key(self.row))
        if self.parked is None:
            wanted.woken += [] if self.row is None else [(self.row.position, self.row.handler)]
            return wanted
        if self.parked.state_number < 0:
            self.parked = self.parked._replace(state_number=number)
        wanted.parked.append(self.parked)
        if self._timer is not None:
            wanted.add(Outstanding(timers=[self._timer]))
        return wanted


def _timer_key(row: ParkedRow) -> str:
    return f"{OURS}wait/{row.position}/{row.handler}"
