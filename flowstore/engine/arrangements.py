"""What a handler arranges for later: timers, tasks, collections; it begins with the commit."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from flowstore import token
from flowstore.engine.due import due_at
from flowstore.engine.trigger import Trigger
from flowstore.errors import ConfigurationError, TaskTimeoutError
from flowstore.events import TASK_FAILED, WorkflowEvent
from flowstore.store.base import (
    EXTERNAL,
    INTERNAL,
    OURS,
    PENDING,
    CollectedRow,
    Outstanding,
    TaskRow,
    TimerRow,
    timeout_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from flowstore.codec import Codec
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.routing import Outcome
    from flowstore.store.base import StoredEvent

    Event = str | type | Outcome


class Arrangements:
    """Implements `flowstore.journal.Arrangements` for one attempt of a handler.

    Attributes:
        outstanding: what the commit has to take along.
        kept: keys and events that are collected from now on.
    """

    __slots__ = (
        "_around",
        "_handler",
        "_run",
        "_scheduled",
        "_stored",
        "_submitted",
        "kept",
        "outstanding",
    )

    def __init__(
        self, around: Surroundings, run: ActiveRun, stored: StoredEvent, handler: str
    ) -> None:
        self._around = around
        self._run = run
        self._stored = stored
        self._handler = handler
        self._scheduled = 0
        self._submitted = 0
        self.outstanding = Outstanding()
        self.kept: list[tuple[str, StoredEvent]] = []

    def forget(self) -> None:
        """Begin anew behind a wait: what was arranged before it has been recorded."""
        self.outstanding = Outstanding()
        self.kept = []

    # --- timers ------------------------------------------------------------------------

    def schedule(
        self, event: object, delay: float | timedelta | None, at: datetime | None, key: str | None
    ) -> str:
        """Set a timer; return its key."""
        around, stored = self._around, self._stored
        encoded = around.codec.encode(event)
        if isinstance(event, WorkflowEvent) and not (event.id is None is event.correlation_id):
            raise ConfigurationError(
                "ctx.schedule: the event gets its id when it is due, in this run; leave id and "
                "correlation_id out"
            )
        now = around.clock.now()
        due = due_at(now, delay, at)
        self._scheduled += 1
        event_id = f"{stored.position}/{self._handler}/s{self._scheduled}"
        if key is None:
            key = event_id
        else:
            self._check_key(key)
        timer = TimerRow(
            self._run.id, key, around.workflow, due, event_id, *encoded, stored.id, now
        )
        self.outstanding.add(Outstanding(timers=[timer]))
        return key

    def cancel(self, key: str) -> None:
        """Remove a timer, if there is one."""
        self._check_key(key)
        self.outstanding.add(Outstanding(cancelled=[key]))

    def _check_key(self, key: str) -> None:
        self._around.codec.check_text(key, "key", self._around.codec.limits.name_length)
        if key.startswith(OURS):
            raise ConfigurationError(f"key={key!r}: keys that begin with {OURS!r} are flowstore's")

    # --- tasks -------------------------------------------------------------------------

    def submit(self, task: object, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Submit a task; return its id."""
        found = self._around.tasks.owner_of(task)
        text = found.encode_arguments(arguments, keywords)
        return self._submit(found.name, INTERNAL, text, self._around.store.worker_id)

    def submit_external(self, name: str, timeout: float | timedelta | None) -> str:
        """Submit a task that an outside system ends; return its token."""
        around, codec = self._around, self._around.codec
        codec.check_text(name, "name", codec.limits.name_length)
        around.tasks.check_external(name)
        now = around.clock.now()
        due = None if timeout is None else due_at(now, timeout, None)
        task_id = self._submit(name, EXTERNAL, None, None)
        if due is not None:
            data = {"task_id": task_id, "task": name, "exception": TaskTimeoutError.__name__}
            text = f"task {name!r} was not completed within {timeout} s"
            encoded = codec.encode(WorkflowEvent(TASK_FAILED, data, error=text))
            timer = TimerRow(
                self._run.id,
                timeout_key(task_id),
                around.workflow,
                due,
                f"{task_id}/end",
                *encoded,
                self._stored.id,
                now,
                task_id,
            )
            self.outstanding.add(Outstanding(timers=[timer]))
        return token.make(
            around.store.secret, token.Claimed(self._run.correlation_id, task_id, name)
        )

    def _submit(self, name: str, kind: str, arguments: str | None, owner: str | None) -> str:
        self._submitted += 1
        stored = self._stored
        task_id = f"{stored.position}/{self._handler}/t{self._submitted}"
        row = TaskRow(
            self._run.id,
            task_id,
            name,
            kind,
            arguments,
            PENDING,
            0,
            owner,
            None,
            None,
            self._around.clock.now(),
            None,
            stored.id,
        )
        self.outstanding.tasks.append(row)
        return task_id

    # --- collections ---------------------------------------------------------------------

    def collect(
        self, key: str, events: Sequence[Event] | Event, count: int | None
    ) -> list[Any] | None:
        """Keep the event until the others are there; return them all then."""
        codec, stored = self._around.codec, self._stored
        codec.check_text(key, "key", codec.limits.name_length)
        triggers = [Trigger.of(event, codec) for event in _wanted(events, count)]
        data = codec.decode(stored.name, stored.version, stored.data)
        if not any(trigger.fits(stored.name, data, codec) for trigger in triggers):
            wanted = ", ".join(sorted({trigger.name for trigger in triggers}))
            raise ConfigurationError(
                f"ctx.collect({key!r}): {stored.name!r}, the event being handled, is none of "
                f"those that are collected: {wanted}"
            )
        before = self._run.collected.get(key, [])
        if any(kept.id == stored.id for kept in before):
            return None
        gone = {event_id for spent, event_id in self.outstanding.spent if spent == key}
        here = [*(each for each in before if each.id not in gone), stored]
        found = _match(triggers, here, codec) if len(here) >= len(triggers) else None
        if found is None or stored not in found:
            row = CollectedRow(self._run.id, key, stored.id, stored.position)
            self.outstanding.collected.append(row)
            self.kept.append((key, stored))
        if found is None:
            return None
        self.outstanding.spent += [(key, each.id) for each in found if each is not stored]
        if count is not None:
            found.sort(key=lambda each: _natural(each.id))
        return [
            self._handed_out(each, trigger) for each, trigger in zip(found, triggers, strict=True)
        ]

    def _handed_out(self, stored: StoredEvent, trigger: Trigger) -> Any:
        codec = self._around.codec
        event = codec.event(stored, self._run.correlation_id)
        return codec.typed(stored.name, event.data) if trigger.is_class else event


def _wanted(events: Sequence[Event] | Event, count: int | None) -> Sequence[Event]:
    """Return one entry for each event that is needed."""
    if not isinstance(events, (list, tuple)):
        if type(count) is not int or count < 1:
            raise ConfigurationError(
                f"ctx.collect: count={count!r}: how many of the one event, from 1; or give a list"
            )
        return [events] * count  # type: ignore[list-item]  # not a sequence: it has no brackets
    if count is not None or not events:
        raise ConfigurationError(
            "ctx.collect: give a list with an entry for each event, or one event and count="
        )
    return events


def _match(
    triggers: list[Trigger], events: list[StoredEvent], codec: Codec
) -> list[StoredEvent] | None:
    """Return an event for each trigger, the earliest that fits; None if some are missing."""
    needed = Counter(_key(each) for each in triggers)
    found: dict[str, list[StoredEvent]] = {}
    by_key = {_key(each): each for each in triggers}
    for stored in events:
        data = codec.decode(stored.name, stored.version, stored.data)
        for key, trigger in by_key.items():
            taken = found.setdefault(key, [])
            if len(taken) < needed[key] and trigger.fits(stored.name, data, codec):
                taken.append(stored)
                break
    if any(len(found.get(key, ())) < number for key, number in needed.items()):
        return None
    return [found[_key(each)].pop(0) for each in triggers]


def _key(trigger: Trigger) -> str:
    return f"{trigger.name}\n{trigger.condition}"


def _natural(event_id: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which 1/h/t2 comes before 1/h/t10."""
    parts = re.split(r"(\d+)", event_id)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
