"""What leads out of the process is asked for here first: a replay refuses it (G12)."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

Refusal = Callable[[str], None]
"""Is told what is reached for; raises."""

refusal: Final[ContextVar[Refusal | None]] = ContextVar("flowstore_refusal", default=None)
"""Set where a handler is called again from the record; None everywhere else."""


def reach_for(what: str) -> None:
    """Say what is about to be used outside; raises where that is refused."""
    refuse = refusal.get()
    if refuse is not None:
        refuse(what)
