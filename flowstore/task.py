"""Tasks: functions whose work runs beside the handlers and ends in an event. No I/O."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

import orjson

from flowstore.codec import is_json_type
from flowstore.door import decode_json
from flowstore.errors import (
    ConfigurationError,
    DuplicateTaskError,
    EventTypeError,
    TaskArgumentsError,
    UnknownTaskError,
    ValueTooLargeError,
)
from flowstore.events import TASK_COMPLETED, TASK_FAILED
from flowstore.executors import ASYNCIO, PROCESSES, THREADS, check_executor
from flowstore.parameters import Parameters, annotations_of
from flowstore.rate import Rate
from flowstore.routing import Outcome, Retry, check_options
from flowstore.transfer import Named, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from flowstore.codec import Codec
    from flowstore.events import WorkflowEvent

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ExternalTask:
    """A task that an outside system does; handlers are registered for how it ends."""

    name: str

    @property
    def completed(self) -> Outcome:
        """What to register a handler for that gets its results."""
        return Outcome(TASK_COMPLETED, self.name)

    @property
    def failed(self) -> Outcome:
        """What to register a handler for that is told when it failed or timed out."""
        return Outcome(TASK_FAILED, self.name)


class Task(Generic[P, R]):
    """A function registered with ``@workflow.task``; calling it calls the function itself.

    Args:
        function: a coroutine function or a plain one, of arguments that can be stored. A
            parameter ``idempotency_key`` is given a key that is the same at each attempt;
            a parameter ``progress`` is given a callable ``progress(done, total=None,
            description="")``, which does nothing in processes and on other machines.
        codec: what arguments and results pass.
        retry: how often to try again when it fails; None for never.
        timeout: seconds an attempt may take.
        max_concurrency: how many run at a time in this process.
        rate: how many may start in which time in this process, as in ``"60/min"``.
        executor: where it runs: ``"asyncio"``, ``"threads"``, ``"processes"`` or a
            `concurrent.futures.Executor`. None for asyncio if it is a coroutine function,
            else for threads.
        name: what it is called in the record; its function's name if None.

    Raises:
        ConfigurationError: it is not such a function, or an option makes no sense.
    """

    def __init__(
        self,
        function: Callable[P, R],
        codec: Codec,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        rate: str | None = None,
        executor: str | Executor | None = None,
        name: str | None = None,
    ) -> None:
        self.name = _name_of(function) if name is None else name
        codec.check_text(self.name, "task", codec.limits.name_length)
        self.is_async = _check_function(function, self.name)
        check_options(retry, timeout)
        if max_concurrency is not None and (
            type(max_concurrency) is not int or max_concurrency < 1
        ):
            raise ConfigurationError(f"max_concurrency={max_concurrency!r}: a whole number from 1")
        if executor is None:
            executor = ASYNCIO if self.is_async else THREADS
        check_executor(executor)
        if self.is_async and executor != ASYNCIO:
            raise ConfigurationError(
                f"task {self.name!r} is a coroutine function, which runs on the event loop; "
                "leave executor= out, or make it a plain function"
            )
        if executor == PROCESSES:
            Named.of(function)
        self.function = function
        self.retry = retry
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.rate = None if rate is None else Rate.parse(rate)
        self.executor: str | Executor = executor
        self._codec = codec
        # Now and not at the first result: a function that has been sent by value, as Dask sends
        # those of a script, brings back copies of its classes of which no form can be made.
        for annotation in annotations_of(function).values():
            codec.prepare(annotation)
        update_wrapper(cast("Any", self), function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, here and now; nothing is recorded."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def __reduce__(self) -> tuple[Callable[[str, str], Any], tuple[str, str]]:
        """Pickle as the name under which its module has it, as functions do."""
        named = Named.of(self.function)
        return find, (named.module, named.qualname)

    # --- how it ends ---------------------------------------------------------------------

    @property
    def completed(self) -> Outcome:
        """What to register a handler for that gets this task's results."""
        return Outcome(TASK_COMPLETED, self.name)

    @property
    def failed(self) -> Outcome:
        """What to register a handler for that is told when this task failed for good."""
        return Outcome(TASK_FAILED, self.name)

    def result(self, event: WorkflowEvent) -> Any:
        """Return the result that an event of this task carries, as its function returned it.

        Raises:
            EventTypeError: the event is not one in which this task completed.
            InvalidValueError: the result does not fit the return annotation (any more).
        """
        data: Any = event.data
        if (
            event.name != TASK_COMPLETED
            or not isinstance(data, dict)
            or cast("dict[str, Any]", data).get("task") != self.name
        ):
            raise EventTypeError(
                f"{event.name!r} (id {event.id!r}) is not an event in which task {self.name!r} "
                f"completed; register its handler for {self.name}.completed"
            )
        return self._load(cast("dict[str, Any]", data).get("result"), "return", "result")

    def encode_result(self, value: object) -> str:
        """Turn what the function returned into JSON.

        Raises:
            InvalidValueError: it cannot be stored and read back unchanged.
        """
        return self._codec.encode_value(value, "result", annotation=self._types.get("return"))

    # --- arguments -------------------------------------------------------------------------

    def takes(self, parameter: str) -> bool:
        """Tell whether the function has a parameter of this name."""
        return parameter in self._parameters

    def not_given(self, arguments: list[Any], keywords: dict[str, Any]) -> frozenset[str]:
        """Return the injected parameters that these arguments leave to be filled."""
        return self._parameters.not_given(arguments, keywords)

    def encode_arguments(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
        """Turn arguments into one JSON text, ``{"args": […], "kwargs": {…}}``.

        Raises:
            TaskArgumentsError: the function does not take them; names the parameter.
            InvalidValueError: one cannot be stored and read back unchanged; names it too.
            ValueTooLargeError: all together are more than an event's data can be.
        """
        names = self._bind(arguments, keywords)
        most = self._codec.limits.data_bytes
        args = ",".join(
            self._dump(value, name, f"{self.name}({name})", most)
            for name, value in zip(names, arguments, strict=True)
        )
        kwargs = ",".join(
            f"{orjson.dumps(key).decode()}:"
            f"{self._dump(value, self._parameters.of_keyword(key), f'{self.name}({key})', most)}"
            for key, value in keywords.items()
        )
        text = f'{{"args":[{args}],"kwargs":{{{kwargs}}}}}'
        if len(text.encode()) > most:
            raise ValueTooLargeError(
                f"the arguments of {self.name}",
                f"are {len(text.encode())} bytes of JSON and the limit is {most}; "
                "store them elsewhere and pass a reference, or raise the limit (limits=Limits(…))",
            )
        return text

    def decode_arguments(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """Read what `encode_arguments` wrote.

        Raises:
            TaskArgumentsError: the function does not take these arguments any more.
            InvalidValueError: one does not fit its annotation any more.
        """
        stored = decode_json(text)
        args: list[Any] = stored["args"]
        kwargs: dict[str, Any] = stored["kwargs"]
        names = self._bind(args, kwargs)
        return (
            [
                self._load(value, name, f"{self.name}({name})")
                for name, value in zip(names, args, strict=True)
            ],
            {
                key: self._load(value, self._parameters.of_keyword(key), f"{self.name}({key})")
                for key, value in kwargs.items()
            },
        )

    def _bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[str]:
        """Return the parameter that each positional argument is for."""
        try:
            return self._parameters.bind(arguments, keywords)
        except TypeError as error:
            raise TaskArgumentsError(f"task {self.name}{self._parameters}: {error}") from None

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.function)

    @cached_property
    def _types(self) -> dict[str, Any]:
        # Late: what annotations name may be defined behind the function.
        found = annotations_of(self.function)
        return {name: kind for name, kind in found.items() if not is_json_type(kind)}

    def _dump(self, value: object, parameter: str, path: str, most: int) -> str:
        annotation = self._types.get(parameter)
        return self._codec.encode_value(value, path, most, annotation=annotation)

    def _load(self, value: object, parameter: str, path: str) -> Any:
        annotation = self._types.get(parameter)
        if annotation is None:
            return value
        return self._codec.decode_value(orjson.dumps(value).decode(), annotation, path)


class Tasks:
    """The registered tasks, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._external: set[str] = set()

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(self._tasks.values())

    def add(self, task: Task[Any, Any]) -> None:
        """Register a task.

        Raises:
            DuplicateTaskError: another one has its name.
        """
        if task.name in self._tasks or task.name in self._external:
            raise DuplicateTaskError(
                f"two tasks are named {task.name!r}; tasks are recorded by their name: "
                "give one another with name="
            )
        self._tasks[task.name] = task

    def external(self, name: str) -> ExternalTask:
        """Return the task of this name that an outside system does.

        Raises:
            DuplicateTaskError: a function is registered under the name.
        """
        self.check_external(name)
        self._external.add(name)
        return ExternalTask(name)

    def check_external(self, name: str) -> None:
        """Refuse the name of a function for what an outside system does.

        Raises:
            DuplicateTaskError: a function is registered under the name.
        """
        if name in self._tasks:
            raise DuplicateTaskError(
                f"{name!r} is a task of this workflow; give the external one another name"
            )

    def get(self, name: str) -> Task[Any, Any]:
        """Return the task of this name; nothing is ever imported by a stored name.

        Raises:
            UnknownTaskError: there is none.
        """
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTaskError(
                f"no task {name!r} is registered here; register it with @workflow.task before "
                "the workflow is served"
            )
        return task

    def owner_of(self, thing: object) -> Task[Any, Any]:
        """Return what was given to ``ctx.submit`` if it is a task of this workflow.

        Raises:
            UnknownTaskError: it is something else, or another workflow's task.
        """
        for task in self._tasks.values():
            if task is thing:
                return task
        shown = getattr(thing, "__qualname__", type(thing).__name__)
        raise UnknownTaskError(f"{shown} is not a task of this workflow; mark it @workflow.task")


def _name_of(function: object) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ConfigurationError(
            f"an object of type {type(function).__name__} has no name to be recorded by; "
            "give the task one with name="
        )
    return name


def _check_function(function: object, name: str) -> bool:
    """Tell whether the function is a coroutine function; refuse what is none of the two."""
    if not callable(function) or isinstance(function, (type, Task)):
        raise ConfigurationError(f"task {name!r}: it must be a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"task {name!r} is a generator; a task returns one result")
    return inspect.iscoroutinefunction(function)
