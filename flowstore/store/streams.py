"""What readers get of a stream."""

from __future__ import annotations

from dataclasses import dataclass

# Where it stands.
STREAM_OPEN = "open"
STREAM_ENDED = "ended"
STREAM_FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """A stream, as readers see it.

    Attributes:
        id: its name within the run.
        generation: how often it has begun.
        status: ``open``, ``ended`` or ``failed``.
        chunks: how many it has.
        error: why it failed.
        run_status: the status of its run.
        pages: neighbouring chunks as JSON lists, each with the number of its first.
    """

    id: str
    generation: int
    status: str
    chunks: int
    error: str | None
    run_status: str
    pages: tuple[tuple[int, str], ...] = ()
