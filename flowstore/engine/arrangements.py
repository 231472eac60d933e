"""What a handler arranges for later: timers, tasks, collections; it begins with the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.engine.deadline import deadline_timer
from flowstore.engine.due import due_at
from flowstore.engine.joining import join, wanted
from flowstore.errors import ConfigurationError, TaskTimeoutError
from flowstore.events import TASK_FAILED, WorkflowEvent
from flowstore.store.base import (
    DEADLINE_KEY,
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
from flowstore.token import Claimed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from flowstore.engine.active import ActiveRun
    from flowstore.engine.past import Past
    from flowstore.engine.surroundings import Surroundings
    from flowstore.engine.trigger import Trigger
    from flowstore.routing import Outcome
    from flowstore.store.base import StoredEvent

    Event = str | type | Outcome


class Arrangements:
    """Implements `flowstore.journal.Arrangements` for one attempt of a handler.

    Attributes:
        outstanding: what the commit has to take along.
        kept: keys and events that are collected from now on.
        completed: keys of collections that this event has completed.
        collected: what each call of ``ctx.collect`` gave: positions, or None.
        past: what a handler that waits, or did, has behind it.
    """

    __slots__ = (
        "_around",
        "_deadlines",
        "_handler",
        "_run",
        "_scheduled",
        "_stored",
        "_submitted",
        "collected",
        "completed",
        "kept",
        "outstanding",
        "past",
    )

    def __init__(
        self, around: Surroundings, run: ActiveRun, stored: StoredEvent, handler: str
    ) -> None:
        self._around = around
        self._run = run
        self._stored = stored
        self._handler = handler
        self._scheduled = 0
        self._deadlines = 0
        self._submitted = 0
        self.outstanding = Outstanding()
        self.kept: list[tuple[str, StoredEvent]] = []
        self.completed: list[str] = []
        self.collected: list[list[int] | None] = []
        self.past: Past | None = None

    def forget(self) -> None:
        """Begin anew behind a wait: what was arranged before it has been recorded."""
        self.outstanding = Outstanding()
        self.kept, self.completed = [], []

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

    def deadline(self, delay: float | timedelta | None, at: datetime | None) -> None:
        """Set the run's deadline, in place of the one that it has."""
        due = due_at(self._around.clock.now(), delay, at)
        self._deadlines += 1
        around, number = self._around, self._deadlines
        timer = deadline_timer(
            around, self._run, self._stored, self._handler, number=number, due=due
        )
        self.outstanding.add(Outstanding(cancelled=[DEADLINE_KEY], timers=[timer]))

    def cancel_deadline(self) -> None:
        """Remove the run's deadline, if it has one."""
        self.outstanding.add(Outstanding(cancelled=[DEADLINE_KEY]))

    def _check_key(self, key: str) -> None:
        self._around.codec.check_text(key, "key", self._around.codec.limits.name_length)
        if key.startswith(OURS):
            raise ConfigurationError(f"key={key!r}: keys that begin with {OURS!r} are flowstore's")

    # --- tasks -------------------------------------------------------------------------

    def submit(self, task: object, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Submit a task; return its id."""
        found = self._around.tasks.owner_of(task)
        text = found.encode_arguments(arguments, keywords)
        return self._submit(found.name, INTERNAL, text, self._around.worker_id)

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
            encoded = codec.encode_own(TASK_FAILED, data, text)
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
        return around.token(Claimed(self._run.correlation_id, task_id, name))

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
        triggers = wanted(events, count, codec)
        data = codec.decode(stored.name, stored.version, stored.data)
        if not any(trigger.fits(stored.name, data, codec) for trigger in triggers):
            names = ", ".join(sorted({trigger.name for trigger in triggers}))
            raise ConfigurationError(
                f"ctx.collect({key!r}): {stored.name!r}, the event being handled, is none of "
                f"those that are collected: {names}"
            )
        if self.past is not None and self.past.is_replayed:
            found = self.past.recollect(len(self.collected))
        else:
            found = self._join(key, triggers)
        self.collected.append(None if found is None else [each.position for each in found])
        if found is None:
            return None
        return [
            self._handed_out(each, trigger) for each, trigger in zip(found, triggers, strict=True)
        ]

    def _join(self, key: str, triggers: Sequence[Trigger]) -> list[StoredEvent] | None:
        stored, wanted_now = self._stored, self.outstanding
        before = self._run.collected.get(key, {})
        is_used = key in self.completed or self._run.completed.get(key) == stored.position
        # An event has one call for each key that counts, so it is here at most once.
        if is_used or stored.id in before or any(kept == key for kept, _ in self.kept):
            return None
        found = None
        if len(before) + 1 >= len(triggers):
            found = join(triggers, [*before.values(), stored], self._around.codec)
        if found is None or stored not in found:
            row = CollectedRow(self._run.id, key, stored.id, stored.position)
            wanted_now.collected.append(row)
            self.kept.append((key, stored))
        if found is not None:
            wanted_now.spent += [(key, each.id) for each in found if each is not stored]
            self.completed.append(key)
        return found

    def _handed_out(self, stored: StoredEvent, trigger: Trigger) -> Any:
        codec = self._around.codec
        event = self._around.streams.event(stored, self._run.correlation_id)
        return codec.typed(stored.name, event.data) if trigger.is_class else event
