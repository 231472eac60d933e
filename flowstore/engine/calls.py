"""Calling the user's functions: on the loop or in a thread, and what they say of themselves."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flowstore.parameters import IDEMPOTENCY_KEY, annotations_of

if TYPE_CHECKING:
    from collections.abc import Callable

step_at_work: Final[ContextVar[str | None]] = ContextVar("step_at_work", default=None)
"""The step whose function runs here; what is called beside it does not see it."""


async def in_thread(name: str, function: Callable[[], Any]) -> Any:
    """Call a plain function in a worker thread.

    A StopIteration cannot pass through a future, nor a GeneratorExit through a coroutine.
    """

    def call() -> Any:
        try:
            return function()
        except (StopIteration, GeneratorExit) as error:
            raise RuntimeError(f"{name!r} raised {type(error).__name__}") from error

    return await asyncio.to_thread(call)


async def call_step(
    name: str, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """Call a step's function: on the loop if it is a coroutine function, else in a thread."""
    token = step_at_work.set(name)
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments, **keywords)
        value = await in_thread(name, partial(function, *arguments, **keywords))
        return await value if inspect.isawaitable(value) else value
    finally:
        step_at_work.reset(token)


def takes_idempotency_key(function: Callable[..., Any]) -> bool:
    """Tell whether a function has a parameter of that name."""
    try:
        return IDEMPOTENCY_KEY in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return the function's return annotation, or None if it has none that can be resolved."""
    return annotations_of(function).get("return")
