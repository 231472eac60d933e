"""Paths to values that are to be hidden: ``data.email``, ``data.items.*.email``, ``state.x``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOTS: Final = ("data", "metadata", "state", "steps")
ANY: Final = "*"

_PART: Final = re.compile(r"(?:[^.\\]|\\.)+", re.DOTALL)


class Pattern(NamedTuple):
    """A path, or what is left of it below a value.

    Attributes:
        text: the path as it was given.
        steps: keys, numbers of items, or ``*`` for any.
    """

    text: str
    steps: tuple[str, ...]


def parse(text: str) -> tuple[str, Pattern]:
    r"""Return what a path is a path in, and the path in it.

    Args:
        text: names with dots between them; a dot within a name is written ``\.``.

    Raises:
        ConfigurationError: it is not a path.
    """
    parts = _PART.findall(text)
    steps = tuple(re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)
    if ".".join(parts) != text or len(steps) < 2 or steps[0] not in ROOTS:  # noqa: PLR2004 - a root and a key
        raise ConfigurationError(
            f"{text!r} is no path to a value: write data.x, metadata.x, state.x or steps.NAME.x; "
            "* stands for any key or item, \\. for a dot in a name"
        )
    return steps[0], Pattern(text, steps[1:])


def below(patterns: Sequence[Pattern], key: str | int, *, is_exact: bool = True) -> list[Pattern]:
    """Return what is left of patterns below a key, or below an item of a list.

    Args:
        patterns: those at the value.
        key: the key, or the number of the item.
        is_exact: whether a number in a pattern stands for that item alone; items of a state
            move, so there it stands for all.
    """
    return [
        Pattern(text, steps[1:])
        for text, steps in patterns
        if steps and _fits(steps[0], key, is_exact=is_exact)
    ]


def _fits(step: str, key: str | int, *, is_exact: bool) -> bool:
    if step == ANY or step == str(key):
        return True
    return type(key) is int and not is_exact and step.isdecimal()


def reached(patterns: Sequence[Pattern]) -> list[str]:
    """Return the paths that end here."""
    return [text for text, steps in patterns if not steps]


class Walk:
    """Goes through JSON values, with the patterns that are below each.

    Args:
        leaf: is given each value that is no list or object, and whether it is to be hidden;
            returns what takes its place.
        key: is given each key; returns what takes its place.
        matched: is told each path that leads to something.
    """

    def __init__(
        self,
        leaf: Callable[[Any, bool], Any],
        key: Callable[[str], str],
        matched: Callable[[str], object],
    ) -> None:
        self._leaf = leaf
        self.key = key
        self._matched = matched

    def value(
        self, value: Any, patterns: Sequence[Pattern], *, is_hidden: bool = False, is_exact: bool
    ) -> Any:
        """Return what a value becomes.

        Args:
            value: any JSON value.
            patterns: those that lead to, or below, it.
            is_hidden: it is all below a value that is to be hidden.
            is_exact: as in `below`.
        """
        for text in reached(patterns):
            is_hidden = True
            self._matched(text)
        given: object = value
        if type(given) is dict:
            return {
                self.key(key): self.value(
                    item,
                    below(patterns, key, is_exact=is_exact),
                    is_hidden=is_hidden,
                    is_exact=is_exact,
                )
                for key, item in value.items()
            }
        if type(given) is list:
            return [
                self.value(
                    item,
                    below(patterns, index, is_exact=is_exact),
                    is_hidden=is_hidden,
                    is_exact=is_exact,
                )
                for index, item in enumerate(value)
            ]
        return self._leaf(value, is_hidden)
