"""How much is done, counted in calls of functions: these are the same on every machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def calls_of(work: Callable[[], Result]) -> tuple[int, Result]:
    """Do something, and return how many functions written in Python that called, and its result."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        result = work()
    finally:
        sys.setprofile(before)
    return count, result
