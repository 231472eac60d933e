"""What a workflow is made of, as users declare it: handlers, versions of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.codec import Codec
    from flowstore.routing import Outcome, Retry, Routes


class Registering:
    """The part of `flowstore.WorkflowManager` that declares; nothing here touches a store."""

    def __init__(self, codec: Codec, routes: Routes) -> None:
        self._codec = codec
        self._routes = routes

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
