"""What a function says of itself: its parameters, which of them are filled in, its annotations."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

IDEMPOTENCY_KEY: Final = "idempotency_key"
PROGRESS_CALL: Final = "progress"
INJECTED: Final = frozenset({IDEMPOTENCY_KEY, PROGRESS_CALL})
"""Parameters that the engine fills when whoever submits the task does not."""

_MOST_SHAPES: Final = 64


class Parameters:
    """What a function takes, looked at once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = signature = inspect.signature(function)
        self._bound: dict[tuple[object, ...], list[str]] = {}
        every = signature.parameters.values()
        self._injected = INJECTED & signature.parameters.keys()
        # Only keyword-only ones can be given a default wherever they stand.
        self._needed = signature.replace(
            parameters=[
                each.replace(default=None)
                if each.name in INJECTED and each.kind is each.KEYWORD_ONLY
                else each
                for each in every
            ]
        )
        self._filled = [
            each.name
            for each in every
            if each.name in INJECTED
            and each.kind is each.POSITIONAL_OR_KEYWORD
            and each.default is each.empty
        ]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._positional = [each.name for each in every if each.kind in positional]
        self._rest = [each.name for each in every if each.kind is each.VAR_POSITIONAL]
        self._other = next((each.name for each in every if each.kind is each.VAR_KEYWORD), None)

    def __contains__(self, name: str) -> bool:
        return name in self._signature.parameters

    def __str__(self) -> str:
        return str(self._signature)

    def bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[str]:
        """Return the parameter that each positional argument is for.

        Raises:
            TypeError: the function does not take these arguments.
        """
        # The values do not matter, and most calls of a task look the same.
        shape = (len(arguments), *keywords)
        names = self._bound.get(shape)
        if names is None:
            names = [*self._positional, *(self._rest * len(arguments))][: len(arguments)]
            filled = {name: None for name in self._filled if name not in names}
            self._needed.bind(*arguments, **{**filled, **keywords})
            if len(self._bound) < _MOST_SHAPES:
                self._bound[shape] = names
        return names

    def of_keyword(self, key: str) -> str:
        """Return the parameter that a keyword is for: its own, or the one of the rest."""
        return key if key in self or self._other is None else self._other

    def not_given(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> frozenset[str]:
        """Return the injected parameters that these arguments leave to be filled."""
        if not self._injected:
            return self._injected
        given = self._signature.bind_partial(*arguments, **keywords).arguments.keys()
        return self._injected - given


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that can be resolved: one that cannot does not spoil the others."""
    try:
        return typing.get_type_hints(function)
    except (TypeError, NameError, AttributeError):
        pass  # so each for itself
    found: dict[str, Any] = {}
    names: dict[str, Any] = getattr(function, "__annotations__", {})
    for name, annotation in names.items():
        holder = type("_", (), {"__annotations__": {name: annotation}})
        try:
            found |= typing.get_type_hints(holder, getattr(function, "__globals__", {}))
        except (TypeError, NameError, AttributeError):
            continue
    return found
