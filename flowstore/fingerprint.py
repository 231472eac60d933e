"""Which code a function is: a short text that changes when the code does."""

from __future__ import annotations

import functools
from hashlib import blake2b
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGEST_BYTES = 6


def fingerprint(function: Callable[..., Any]) -> str | None:
    """Return 12 hexadecimal digits made of a function's own code; None if it has none.

    What it calls does not count. Another version of Python gives the same code other digits. It
    says that code has changed, to people; nothing is ever decided by it (G9).
    """
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 - an object that is called
    if not isinstance(code, CodeType):
        return None
    return blake2b(_told(code).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _told(constant: object) -> str:
    if isinstance(constant, CodeType):
        names = (*constant.co_names, *constant.co_varnames)
        return f"{constant.co_code.hex()} {names} {_told(constant.co_consts)}"
    if isinstance(constant, frozenset):
        # Their order is another one in each process.
        parts = sorted(map(_told, cast("frozenset[object]", constant)))
        return f"{{{', '.join(parts)}}}"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_told, cast('tuple[object, ...]', constant)))})"
    return repr(constant)
