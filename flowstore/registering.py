"""What a workflow is made of, as users declare it: handlers, versions of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from flowstore.errors import ConfigurationError
from flowstore.events import WorkflowEvent
from flowstore.schedule import ID_LENGTH, Cron, Crons, Schedule, check_missed
from flowstore.task import Task, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from flowstore.codec import Codec
    from flowstore.routing import Outcome, Retry, Routes
    from flowstore.schedule import Missed
    from flowstore.task import ExternalTask

P = ParamSpec("P")
R = TypeVar("R")


class Registering:
    """The part of `flowstore.WorkflowManager` that declares; nothing here touches a store."""

    def __init__(self, codec: Codec, routes: Routes) -> None:
        self._codec = codec
        self._routes = routes
        self._crons = Crons()
        self._tasks = Tasks()

    def register(
        self,
        event: str | type | Outcome,
        handler: Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        correlate: str | Callable[[Any], str] | None = None,
    ) -> Self:
        """Register a handler; several for one event are called in the order of registration.

        Args:
            event: an event's name, ``"*"`` for every event, ``task.completed`` or ``task.failed``
                of a task, or a Pydantic model or dataclass, which catches its subclasses too and
                gives the handler the typed object.
            handler: an async generator, coroutine function, generator or function of
                ``(event)``, ``(event, ctx)`` or ``(event, state)``. A plain function runs in a
                worker thread. One that yields an event whose ``error`` is set ends there.
            name: what the record calls the handler; its function's name if None.
            retry: how often to try again when it fails; None for never.
            timeout: seconds an attempt may take.
            correlate: field (or function) of the event that names its run when it is sent.

        Returns:
            this manager, so that calls can be chained.

        Raises:
            EventTypeError: the event is neither a name nor a model or dataclass.
            HandlerSignatureError: the handler takes other parameters.
            DuplicateHandlerError: another handler of this name would get the same event.
            ConfigurationError: an option makes no sense.
        """
        self._routes.add(
            event, handler, name=name, retry=retry, timeout=timeout, correlate=correlate
        )
        return self

    def on(
        self,
        event: str | type | Outcome,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        correlate: str | Callable[[Any], str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that registers a handler; the options are those of `register`."""

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.register(
                event, handler, name=name, retry=retry, timeout=timeout, correlate=correlate
            )
            return handler

        return decorate

    def cron(
        self,
        expression: str,
        event: object,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        correlation_id: str | None = None,
        missed: Missed = "last",
    ) -> Self:
        """Have an event sent again and again, at the times of a cron expression.

        It fires while someone serves the workflow (``async with workflow:``). However many
        processes do, each moment fires once: its event's id is ``cron/<name>/<moment in UTC>``.
        So a clock that is set back fires nothing again; what it passed over while it was ahead
        still comes. A cron begins when its name is first served. Declare crons before that.

        The times are those of Debian's cron. With a ``*`` at the beginning of the minute or the
        hour, it fires whenever the clock on the wall fits: not at all in the hour that summer
        time leaves out, and in both of the hours that come twice when it ends. All others fire
        once on each day that fits: what falls into the hour that is left out fires at its end,
        and what falls into the hour that comes twice fires in the first.

        Args:
            expression: minute, hour, day of the month, month, day of the week, as in
                ``"0 9 * * 1-5"``. Names (``mon``, ``jan``), ranges, lists and steps are known, and
                ``L`` for the last day of the month, ``5L`` for its last Friday, ``5#2`` for its
                second, ``LW`` for the last weekday.
            event: a `WorkflowEvent` without id and run, or a Pydantic model or dataclass.
            timezone: an IANA name, such as ``Europe/Berlin``.
            name: what it is called in the store; the event's name and the expression if None.
                Two workflows in one store need different ones, unless each names its run.
            correlation_id: the run that gets all of its events; None for a new one each time,
                whose id is that of the event.
            missed: what becomes of moments that are over by a minute or more when someone is
                there to fire them: nothing served the workflow, the machine slept, the clock
                was set ahead. ``"last"``: only the last of them fires, and only if no other is
                due by then. ``"all"``: all fire in order, but no more than the last 1,000.
                ``"skip"``: none does.

        Returns:
            this manager, so that calls can be chained.

        Raises:
            ConfigurationError: the expression, the timezone or another option makes no sense,
                there is a cron of this name, or the workflow is being served.
            EventTypeError, InvalidValueError: as for `flowstore.WorkflowManager.send`.
        """
        codec, limits = self._codec, self._codec.limits
        schedule = Schedule(expression, timezone)
        encoded = codec.encode(event)
        if isinstance(event, WorkflowEvent) and not (event.id is None is event.correlation_id):
            raise ConfigurationError(
                "cron: its events get their ids when they fire; leave id out of the event, and "
                "give correlation_id= to cron itself"
            )
        if name is None:
            name = f"{encoded.name} {schedule.expression}"
        codec.check_text(name, "name", limits.id_length - ID_LENGTH)
        if correlation_id is not None:
            codec.check_text(correlation_id, "correlation_id", limits.id_length)
        check_missed(missed)
        self._crons.add(
            Cron(
                name=name,
                schedule=schedule,
                event=encoded,
                correlation_id=correlation_id,
                missed=missed,
            )
        )
        return self

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        rate: str | None = None,
        executor: str | Executor | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        rate: str | None = None,
        executor: str | Executor | None = None,
        name: str | None = None,
    ) -> Any:
        """Make a function a task, which handlers submit with `Context.submit`; a decorator.

        It runs beside the handlers and never touches the state. Should the process end before
        it has, it is started anew by the next one: it runs at least once, and ends in one event.
        A parameter ``idempotency_key`` is given a key that is the same each time, for outside
        systems; a parameter ``progress`` a callable ``progress(done, total=None,
        description="")`` for live ``progress`` events, which does nothing in processes and in
        other executors.

        Args:
            function: a coroutine function or a plain one.
            retry: how often to try again when it fails; None for never. Errors of other processes
                that cannot be sent back as they are come as `flowstore.errors.RemoteTaskError`.
            timeout: seconds an attempt may take. What is given up then is cancelled if it runs
                on the event loop, and else ignored.
            max_concurrency: how many run at a time in this process.
            rate: how many may start in which time in this process: ``"60/min"``, ``s``, ``h``.
            executor: ``"asyncio"`` (the default of ``async def``), ``"threads"`` (that of
                ``def``), ``"processes"``, or a `concurrent.futures.Executor`, such as Dask's
                ``client.get_executor()``. One of yours that breaks stays broken; ours is made
                anew. Processes import the program: let it begin its work only under
                ``if __name__ == "__main__":``.
            name: what it is called in the record; the function's name if None.

        Returns:
            the `flowstore.task.Task`; calling it calls the function.

        Raises:
            ConfigurationError: it is not such a function, or an option makes no sense.
            DuplicateTaskError: there is a task of this name.
        """

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            made: Task[..., Any] = Task(
                function,
                self._codec,
                retry=retry,
                timeout=timeout,
                max_concurrency=max_concurrency,
                rate=rate,
                executor=executor,
                name=name,
            )
            self._tasks.add(made)
            return made

        return decorate if function is None else decorate(function)

    def external_task(self, name: str) -> ExternalTask:
        """Return an external task, for whose ends handlers can be registered.

        Args:
            name: the one given to `Context.submit_external`.

        Raises:
            DuplicateTaskError: a function of this workflow has the name.
        """
        self._codec.check_text(name, "name", self._codec.limits.name_length)
        return self._tasks.external(name)

    def upcaster(
        self, event: str | type, version: int
    ) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
        """Return a decorator for a function that turns data of this version into the next.

        Events are written with the version behind the last upcaster's; rows of older versions
        are read through the upcasters, one after another.

        Args:
            event: the event's name or class.
            version: the version that the function reads, from 1.

        Raises:
            ConfigurationError: there is an upcaster for this version, or it is below 1.
        """
        name = event if isinstance(event, str) else self._codec.types.name_of(event)

        def decorate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self._codec.upcaster(name, version, function)
            return function

        return decorate
