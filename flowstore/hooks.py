"""Where instruments plug in: they are told what the engine does and cannot harm it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Hook = Callable[[str, Mapping[str, Any]], None]

logger = logging.getLogger("flowstore")


class Hooks:
    """Functions called as ``hook(what, fields)`` on the event loop, after the fact.

    ``what`` is one of ``handled``, ``dropped``, ``retried``, ``dead``, ``unhandled``,
    ``settled`` and ``lease_lost``; ``fields`` always has the ``correlation_id``.
    """

    def __init__(self) -> None:
        self._hooks: list[Hook] = []

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def subscribe(self, hook: Hook) -> Callable[[], None]:
        """Add a hook and return how to remove it."""
        self._hooks.append(hook)

        def stop() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)

        return stop

    def tell(self, what: str, **fields: Any) -> None:
        """Call every hook; one that fails is logged and does not disturb the run."""
        for hook in tuple(self._hooks):
            try:
                hook(what, fields)
            except Exception:
                logger.exception("a hook failed on %s", what)
