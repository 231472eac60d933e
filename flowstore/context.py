"""What a handler sees of its run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flowstore.view import StateView

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from flowstore.events import WorkflowEvent
    from flowstore.journal import Journal
    from flowstore.routing import Outcome
    from flowstore.task import Task

_logger = logging.getLogger("flowstore.handler")


class Context(StateView):
    """A handler's view of its run, and the only way in which it changes it.

    As a mapping it reads the run's state first and the manager's shared resources behind it;
    writes go to the state, which is durable and belongs to this run alone.
    """

    __slots__ = ("_logger", "_random")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal  # not by super(), which takes longer
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None
        self._random: random.Random | None = None

    # --- the event and the state -----------------------------------------------------

    @property
    def event(self) -> WorkflowEvent:
        """The event being handled, with its id, position and causation."""
        return self._journal.event

    @property
    def correlation_id(self) -> str:
        """The run's id."""
        return self._journal.correlation_id

    @property
    def attempt(self) -> int:
        """Which attempt of this handler at this event this is, from 1."""
        return self._journal.attempt

    @property
    def state(self) -> Any:
        """The run's state: a dict, or the model or dataclass named with ``state=``."""
        return self._journal.get_state()

    @state.setter
    def state(self, value: Any) -> None:
        self._journal.set_state(value)

    # --- what a handler can do -------------------------------------------------------

    def emit(self, event: object) -> None:
        """Append an event to the run when this handler is done, as ``yield`` does.

        Progress events are appended at once, and so are events with streams: a `WorkflowEvent`
        that has async iterators at the top level of its data, ``{"stream": chunks}``. Each is
        iterated here and now, whether anyone reads it or not, and recorded chunk by chunk; who
        reads the event finds a `flowstore.stream.Stream` in that place. The chunks are JSON
        values, models or dataclasses. Behind ``yield`` the handler goes on when the last chunk is
        on the disk; behind ``emit`` it goes on at once, and its commit comes when the streams have
        ended. The handler itself finds a `Stream` there as well, in the event that it has emitted:
        what it needs of the chunks it takes from that, so that it does the same in a replay, which
        reads no iterator anew. What an iterator raises is the handler's failure. A handler that
        runs again makes its streams anew, and those who read them are told.

        Args:
            event: a `WorkflowEvent`, or a Pydantic model or dataclass.

        Raises:
            EventTypeError: it is not an event, or it has streams and an id of its own.
            InvalidValueError: it holds something that would not come back the same.
        """
        self._journal.emit(event)

    async def step(
        self, name: str, function: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> Any:
        """Do something outside the run once, and record what came of it.

        The result is on disk when this returns. If the handler runs again, the recorded
        result is returned and the function is not called. A name that is used again in the
        same handler stands for the next call of that name.

        The function works outside the run and returns what it found. If the handler runs again
        the function does not, so what it would do to the run is refused (`submit`, `emit` and
        the like; `progress` events may be shown), or lost if it is done to the state: do that
        behind the step, with its result.

        Args:
            name: what the step is called in the record.
            function: a coroutine function, or a plain one, which runs in a worker thread.
                If it has a parameter ``idempotency_key`` it is given one that is the same
                each time this step is tried, to pass on to outside systems.
            *arguments: passed on; they are not recorded.
            **keywords: passed on, likewise.

        Returns:
            what the function returned: a JSON value, or a model or dataclass if the function's
            return annotation says so.

        Raises:
            InvalidValueError: the result cannot be stored.
            ConfigurationError: the function uses the context for more than its result.
        """
        return await self._journal.step(name, function, arguments, keywords)

    def drop(self, reason: str) -> None:
        """Record that the event came too late or does not apply, and why.

        It does not end the handler: return after it.
        """
        self._journal.drop(reason)

    def complete(self, result: Any = None) -> None:
        """Close the run as completed once this handler is done.

        Whatever is pending then, or comes later, is stale.

        Args:
            result: any JSON value; kept with the run.
        """
        self._journal.complete(result)

    def execute(self, statement: Any, parameters: Any = None) -> None:
        """Run an SQLAlchemy statement in the transaction of this handler's commit.

        It takes effect together with the state and the emitted events, or not at all. It
        returns nothing, since it runs when the handler is done.

        Args:
            statement: an ``insert``, ``update``, ``delete`` or ``text``.
            parameters: a mapping, or a list of mappings, as in SQLAlchemy.
        """
        self._journal.execute(statement, parameters)

    def schedule(
        self,
        event: object,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> str:
        """Have an event appended to this run at a later time.

        The timer is set with the handler's commit, and its event comes once, while someone
        serves the workflow (``async with workflow:``); what became due before comes then, in
        the order in which it was due. A run that only waits for timers is ``waiting``; closing
        it ends them.

        Args:
            event: a `WorkflowEvent`, or a Pydantic model or dataclass.
            delay: how long after now; seconds, or a timedelta.
            at: when, with timezone; give this or ``delay``.
            key: names the timer in its run; one that is there under this key is replaced.

        Returns:
            the key; a new one if none was given.

        Raises:
            ConfigurationError: neither or both of ``delay`` and ``at``, or they make no sense.
            EventTypeError, InvalidValueError: as for `emit`.
        """
        return self._journal.arrangements.schedule(event, delay, at, key)

    def cancel(self, key: str) -> None:
        """Remove a timer of this run with the handler's commit; it is no error if it is gone."""
        self._journal.arrangements.cancel(key)

    def deadline(
        self, *, delay: float | timedelta | None = None, at: datetime | None = None
    ) -> None:
        """Set a time by which the run has to be over, in place of the one that it has.

        Then an event named ``deadline`` comes to the run, while someone serves the workflow, and
        is handled in its turn, behind the event at hand and its retries. If a handler is
        registered for ``"deadline"``, or one is parked to wait for it, it is an event like any
        other; else the run is closed: it has ``failed``, the reason is "its deadline passed",
        and whatever is outstanding ends. A deadline that is set anew or removed before its event
        had its turn no longer counts. Like a timer it is set with the handler's commit and ends
        with the run; a run that has one is not ``idle`` but ``waiting``.

        Args:
            delay: how long after now; seconds, or a timedelta.
            at: when, with timezone; give this or ``delay``.

        Raises:
            ConfigurationError: neither or both of ``delay`` and ``at``, or they make no sense.
        """
        self._journal.arrangements.deadline(delay, at)

    def cancel_deadline(self) -> None:
        """Remove the run's deadline with the handler's commit; it is no error if it has none."""
        self._journal.arrangements.cancel_deadline()

    # --- work beside the handlers ----------------------------------------------------

    def submit(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> str:
        """Have a task done beside the handlers, as soon as this one's commit is on the disk.

        It ends in an event of this run: ``task.completed`` with ``data["result"]``, or
        ``task.failed``; register a handler for ``task.completed`` of the task, or `wait_for` it.
        What has not ended in a crash, or when the program ends, is started anew.

        Args:
            task: a function marked ``@workflow.task``.
            *args: passed to it; they are stored.
            **kwargs: passed to it, likewise.

        Returns:
            the task's id, which its events have as ``data["task_id"]``.

        Raises:
            UnknownTaskError: it is not a task of this workflow.
            TaskArgumentsError: the function does not take these arguments.
            InvalidValueError: one cannot be stored and read back unchanged.
        """
        return self._journal.arrangements.submit(task, args, kwargs)

    def submit_external(self, name: str, *, timeout: float | timedelta | None = None) -> str:
        """Have something done by an outside system, which gets a token to say so.

        The token is good for one ``workflow.complete_task(token, result)`` or ``fail_task``, or
        ``flowstore complete TOKEN JSON``, in whatever process. It is the same if this handler
        runs again, so hand it on in a `step`; it may be used before this handler is done.

        Args:
            name: what the task is called in its events.
            timeout: how long to wait for the end; then it is ``task.failed`` with the exception
                ``TaskTimeoutError``, while someone serves the workflow. Seconds, or a timedelta.

        Returns:
            the token: a secret, since whoever has it can end the task.

        Raises:
            DuplicateTaskError: a function of this workflow has the name.
        """
        return self._journal.arrangements.submit_external(name, timeout)

    # --- waiting and joining ---------------------------------------------------------

    async def wait_for(
        self,
        event: str | type | Outcome,
        *,
        where: Mapping[str, Any] | Callable[[Any], bool | Awaitable[bool]] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Wait for an event of this run, for as long as it takes.

        The handler is parked: what it has done so far is recorded, the run goes on with later
        events, and all that is left of it is a row in the store. When the event has come the
        handler is called again from its beginning. Everything up to this call is then gone
        through without an effect (finished steps give their results, what is emitted is not
        emitted again, the iterators of streams are closed unread, the state is what it was) and the
        handler goes on from here with the run's state as it now is; what it holds of the state is
        then that of the new one. So up to here it must do the same each time: outside effects
        belong in steps, the time is ``ctx.now()``, chance is ``ctx.random``, and what is needed of
        a stream behind the wait belongs into the state. A handler that is gone, or goes another
        way, stays parked and is tried again, at most ten minutes apart, until the right code is
        there; its run waits for it.

        The first event fits that comes after the one being handled and has not ended an earlier
        wait of this handler; other handlers get it as well, and first. One that does not fit its
        class is not what is waited for; a drop tells of it.

        Waits that are gathered come one after another; wait before or behind a step, not within
        it. Each time all earlier waits are gone through: instead of waiting hundreds of times,
        handle the event in a handler of its own.

        Args:
            event: a name, a class (or a subclass of it), or ``task.completed`` of a task.
            where: what its data must have, as in ``{"by": "alex"}`` (true is not 1); or a
                function, also a coroutine function, that is given the event and says whether it
                is the one, and does nothing else: it may be asked again.
            timeout: how long to wait at most; seconds, or a timedelta.

        Returns:
            the typed object if a class was given, else the `WorkflowEvent`.

        Raises:
            WaitExpiredError: the event has not come in time.
            ConfigurationError: an argument makes no sense, the run was completed before, a step
                is under way, or the handler is a plain function.
            EventTypeError: the class is none of events.
        """
        return await self._journal.wait_for(event, where, timeout)

    def postpone(self, until: str | type | Outcome | datetime | float | timedelta) -> None:
        """Put the event off: it came too early, and is handled again later.

        Whatever else this handler does with it this time is forgotten; finished steps stay. It
        does not end the handler: return after it.

        Args:
            until: the event that has to come first, as in `wait_for`: the next one from now on,
                behind its own handlers; or a time, with timezone; or how long, in seconds or as
                a timedelta.

        Raises:
            ConfigurationError: the argument makes no sense, or the handler has waited already.
            EventTypeError: the class is none of events.
        """
        self._journal.postpone(until)

    def collect(
        self,
        key: str,
        events: Sequence[str | type | Outcome] | str | type | Outcome,
        *,
        count: int | None = None,
    ) -> list[Any] | None:
        """Keep the event being handled until the others are there as well.

        Call it in the handlers of all these events; one of them gets the list, and the key
        begins anew. The list is the same in whatever order the events came. Events that are too
        many are kept for the next list, the earliest first. An event counts once for a key,
        however many of its handlers collect it.

        Args:
            key: names the collection within the run.
            events: one event of each of these is needed; give one of them with ``count=`` for
                so many of it.
            count: how many.

        Returns:
            None as long as some are missing; then the events, in the order of ``events``, those
            of one kind in the order of their ids (numbers in them by their value). Typed objects
            for classes, else `WorkflowEvent`.

        Raises:
            ConfigurationError: the arguments make no sense, or the event is none of these.
        """
        return self._journal.arrangements.collect(key, events, count)

    # --- time and chance -------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time at which this attempt began, in UTC; a replay gives the same.

        After `wait_for` it is the time of the event that ended the wait.
        """
        return self._journal.now()

    @property
    def random(self) -> random.Random:
        """A generator that gives the same numbers each time this event is handled."""
        if self._random is None:
            self._random = self._journal.random()
        return self._random

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that knows the run, the event and the handler."""
        if self._logger is None:
            extra = {
                "correlation_id": self.correlation_id,
                "position": self.event.position,
                "event_name": self.event.name,
                "handler": self._journal.handler_name,
            }
            self._logger = logging.LoggerAdapter(_logger, extra)
        return self._logger

    def __repr__(self) -> str:
        event = self.event
        return f"<Context of {event.name!r} at {event.position} in {self.correlation_id!r}>"
