"""A debugger that stops in a handler, at its first line."""

from __future__ import annotations

import pdb  # noqa: T100 - debugging is what it is for
import sys
from typing import TYPE_CHECKING, Any

from flowstore.outside import refusal
from flowstore.replay.users_code import code_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NOT_THE_USERS = [
    "flowstore",
    "flowstore.*",
    "asyncio",
    "asyncio.*",
    "concurrent.*",
    "contextlib",
    "functools",
    "threading",
]


class HandlerDebugger(pdb.Pdb):
    """Stops where a handler begins; stepping leaves out what is not the user's.

    Attributes:
        is_left: the user has quit.
    """

    def __init__(self) -> None:
        super().__init__(skip=_NOT_THE_USERS, nosigint=True)
        self.is_left = False

    def wait_for(self, function: Callable[..., Any]) -> None:
        """Stop at the first line of this function when it is next called in this thread."""
        code = code_of(function)
        if code is None:
            return

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            if event != "call" or frame.f_code is not code:
                return None
            self.reset()
            self.botframe = frame  # callers are the engine's
            self.set_step()
            sys.settrace(self.trace_dispatch)
            return self.trace_dispatch

        sys.settrace(trace)

    def interaction(self, frame: FrameType | None, traceback: Any) -> None:
        """Let the user type; that may reach outside."""
        guarded = refusal.set(None)
        try:
            super().interaction(frame, traceback)
        finally:
            refusal.reset(guarded)

    def set_quit(self) -> None:
        """Take note that the user has had enough."""
        self.is_left = True
        super().set_quit()
