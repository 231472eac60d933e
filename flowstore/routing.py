"""Which handlers get an event, in what order, and how often they may try."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from flowstore.errors import (
    ConfigurationError,
    DuplicateHandlerError,
    EventTypeError,
    HandlerChangedError,
    HandlerSignatureError,
)
from flowstore.events import DEAD_RETRIED, DEADLINE, WorkflowEvent
from flowstore.fingerprint import fingerprint

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from flowstore.codec import Codec

EVERYTHING = "*"
"""Registering for this name catches every event."""

_MOST_PARAMETERS = 2
_SHAPES = ("(event)", "(event, ctx)", "(event, state)")

Second = Literal["nothing", "context", "state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failing handler is tried again, and how long it waits; the wait is durable.

    Args:
        attempts: attempts in all, the first included.
        delay: seconds before the second attempt.
        factor: what the delay is multiplied by after each further failure.
        max_delay: the longest wait, in seconds.
        jitter: the part of the delay, 0 to 1, by which it varies at random, so that runs
            that failed together do not come back together.
        on: the exceptions worth another attempt; others fail for good at once.

    Raises:
        ConfigurationError: a number makes no sense.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigurationError(f"Retry(attempts={self.attempts!r}): a whole number from 1")
        if not all(map(_is_exception, self.on if isinstance(self.on, tuple) else (self.on,))):
            raise ConfigurationError(
                f"Retry(on={self.on!r}): an exception class, or a tuple of them"
            )
        if not all(map(is_finite, (self.delay, self.factor, self.max_delay, self.jitter))):
            raise ConfigurationError(f"{self}: its numbers must be finite")
        if self.delay < 0 or self.max_delay < 0 or self.factor < 1:
            raise ConfigurationError(
                f"Retry(delay={self.delay}, factor={self.factor}, max_delay={self.max_delay}): "
                "delays cannot be negative, and the factor is at least 1"
            )
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"Retry(jitter={self.jitter}): it is a part, from 0 to 1")

    def seconds_after(
        self, attempt: int, error: BaseException, chance: random.Random
    ) -> float | None:
        """Return how long to wait after this failed attempt, or None to give up."""
        if attempt >= self.attempts or not isinstance(error, self.on):
            return None
        delay = min(self.delay * self.factor ** min(attempt - 1, 1000), self.max_delay)
        return delay * (1 + self.jitter * (2 * chance.random() - 1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way in which the tasks of one name end; a handler can be registered for it.

    Attributes:
        event: the name of the event, ``task.completed`` or ``task.failed``.
        task: the task's name.
    """

    event: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function registered for an event.

    Attributes:
        key: the event's name, or its class: then the function is given the typed object.
        task: the task whose ends it gets, if it does not get every event of that name.
        second: what the second parameter is given.
        timeout: seconds an attempt may take; None for no limit.
        code: which code it is, as its transitions record it.
    """

    name: str
    key: str | type
    function: Callable[..., Any]
    second: Second
    runs_on_loop: bool
    retry: Retry | None
    timeout: float | None
    task: str | None = None
    code: str | None = None

    @property
    def wants_object(self) -> bool:
        """Whether the function is given the typed object instead of the envelope."""
        return not isinstance(self.key, str)

    def accepts(self, data: object) -> bool:
        """Tell whether it gets the event that has its name and this data."""
        if self.task is None:
            return True
        return (
            isinstance(data, Mapping) and cast("Mapping[str, Any]", data).get("task") == self.task
        )


def _overdue(_event: object) -> None:
    """Stand for what the engine does itself."""


OVERDUE = Handler(
    name="flowstore.deadline",
    key=DEADLINE,
    function=_overdue,
    second="nothing",
    runs_on_loop=True,
    retry=None,
    timeout=None,
)
"""Comes last when a run's deadline has passed and no one registered for that: see the engine."""

REVIVER = replace(OVERDUE, name="flowstore.retry", key=DEAD_RETRIED)
"""Comes last when a dead letter is retried: calls the handler that had failed; see the engine."""


class Routes:
    """The registered handlers, and who gets what."""

    def __init__(self, codec: Codec, code_version: str | None = None) -> None:
        self._codec = codec
        self._code_version = code_version
        self._handlers: list[Handler] = []
        self._correlate: dict[str | type, str | Callable[[Any], str]] = {}
        self._routed: dict[str, tuple[Handler, ...]] = {}

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers)

    def add(
        self,
        key: str | type | Outcome,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        correlate: str | Callable[[Any], str] | None = None,
    ) -> None:
        """Register a handler behind those there are.

        Raises:
            EventTypeError: the key is neither a name, a task's outcome, a model nor a dataclass.
            HandlerSignatureError: the function is not one, or takes other parameters.
            DuplicateHandlerError: another handler of this name would get the same event.
            ConfigurationError: an option makes no sense.
        """
        task: str | None = None
        if isinstance(key, Outcome):
            task, key = key.task, key.event
        if isinstance(key, str):
            if not key:
                raise EventTypeError("the name of an event cannot be empty")
        else:
            self._codec.types.register(key)
        check_options(retry, timeout)
        handler = Handler(
            name=name or _name_of(function),
            key=key,
            function=function,
            second=_second_parameter(function),
            runs_on_loop=_runs_on_loop(function),
            retry=retry,
            timeout=timeout,
            task=task,
            code=self._code_version or fingerprint(function),
        )
        self._refuse_twin(handler)
        self._handlers.append(handler)
        if correlate is not None:
            self._correlate[key] = correlate
        self._routed.clear()

    def handlers(self, name: str) -> tuple[Handler, ...]:
        """Return the handlers of events with this name, in registration order."""
        found = self._routed.get(name)
        if found is None:
            lineage = self._codec.types.lineage(name)
            found = tuple(
                handler
                for handler in self._handlers
                if handler.key in (name, EVERYTHING) or handler.key in lineage
            )
            if name == DEADLINE and all(handler.key == EVERYTHING for handler in found):
                found = (*found, OVERDUE)
            if name == DEAD_RETRIED:
                found = (*found, REVIVER)
            if lineage or not self._codec.types:
                # A name of no known class may yet be that of one which is defined later.
                self._routed[name] = found
        return found

    def named(self, name: str, event: str, *, is_parked: bool = True) -> Handler:
        """Return the handler of this name for an event; if it is gone, one that says so."""
        for handler in self.handlers(event):
            if handler.name == name:
                return handler

        async def missing(_event: object) -> None:
            if not is_parked:
                raise ConfigurationError(
                    f"no handler {name!r} is registered for {event!r}; register it under that "
                    "name (name=), and retry this dead letter then"
                )
            raise HandlerChangedError(
                f"no handler {name!r} is registered for {event!r} any more, and this one was "
                "parked; register it under its old name (name=) to let such runs go on"
            )

        return Handler(
            name=name,
            key=event,
            function=missing,
            second="nothing",
            runs_on_loop=True,
            retry=None,
            timeout=None,
        )

    def handles_failures(self, name: str) -> bool:
        """Tell whether someone registered for this very name, not just for everything."""
        return any(handler.key == name for handler in self._handlers)

    def correlation_id(self, name: str, event: object) -> str | None:
        """Return the run that an event names itself, by what ``correlate=`` says.

        Raises:
            ConfigurationError: the event has no value where ``correlate=`` looks for it.
        """
        keys: tuple[str | type, ...] = (name, *self._codec.types.lineage(name), EVERYTHING)
        for key in keys:
            rule = self._correlate.get(key)
            if rule is None:
                continue
            value: Any
            source: Any = event.data if isinstance(event, WorkflowEvent) else event
            if callable(rule):
                value = rule(source)
            elif isinstance(source, Mapping):
                value = cast("Mapping[str, Any]", source).get(rule)
            else:
                value = getattr(source, rule, None)
            if value is None:
                raise ConfigurationError(
                    f"{name}: correlate={rule!r} gives no value for this event; "
                    "set it, or pass correlation_id="
                )
            return str(value)
        return None

    def _refuse_twin(self, new: Handler) -> None:
        for old in self._handlers:
            if old.name == new.name and self._meet(old, new):
                raise DuplicateHandlerError(
                    f"two handlers named {new.name!r} would get the same event "
                    f"({_key_text(old.key)} and {_key_text(new.key)}); events and steps are "
                    "recorded by the handler's name: give one another with name="
                )

    def _meet(self, old: Handler, new: Handler) -> bool:
        if old.key == new.key and None not in (old.task, new.task):
            return old.task == new.task
        if EVERYTHING in (old.key, new.key) or old.key == new.key:
            return True
        if isinstance(old.key, str) and isinstance(new.key, str):
            return False
        if isinstance(old.key, str) or isinstance(new.key, str):
            name, kind = (old.key, new.key) if isinstance(old.key, str) else (new.key, old.key)
            return kind in self._codec.types.lineage(str(name))
        return issubclass(old.key, new.key) or issubclass(new.key, old.key)


def is_finite(number: object) -> bool:
    """Tell whether this is a number, and neither infinite nor NaN."""
    # Not math.isfinite: an int can be larger than every float.
    return isinstance(number, (int, float)) and abs(number) < math.inf


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _key_text(key: str | type) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


def check_options(retry: Retry | None, timeout: float | None) -> None:
    """Refuse a retry that is none, and a timeout that is no time.

    Raises:
        ConfigurationError: one of them is.
    """
    if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"retry={retry!r}: pass a Retry, as in Retry(attempts=5)")
    if timeout is not None and not (is_finite(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout={timeout!r}: it is a number of seconds above 0")


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.rsplit("<locals>.", 1)[-1]


def _runs_on_loop(function: Callable[..., Any]) -> bool:
    candidates = (function, getattr(function, "__call__", None))  # noqa: B004 - objects with async __call__
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in candidates
    )


def _second_parameter(function: Callable[..., Any]) -> Second:
    if not callable(function):
        raise HandlerSignatureError(f"{function!r} is not callable; register a function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "context"
    positional = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    takes_rest = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    needed = [each for each in positional if each.default is each.empty]
    bad_keywords = [
        each for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty
    ]
    if len(needed) > _MOST_PARAMETERS or bad_keywords or not (positional or takes_rest):
        raise HandlerSignatureError(
            f"handler {_name_of(function)!r} takes {inspect.signature(function)}; "
            f"it can take {', '.join(_SHAPES[:-1])} or {_SHAPES[-1]}"
        )
    if len(positional) > 1:
        second = positional[1]
        if second.name == "state":
            return "state"
        if second.default is second.empty or second.name in {"ctx", "context"}:
            return "context"
    return "context" if takes_rest else "nothing"
