"""Times and spans of time as people type them: ``7d``, ``2026-05-01``, ``2026-05-01T12:00Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

from flowstore.clock import SystemClock, to_microseconds

_SECOND = 1_000_000
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"(\d{1,9})(s|min|h|d|w)")


def span_of(text: str, option: str) -> int:
    """Return the microseconds that a text such as ``90min``, ``36h``, ``30d`` or ``2w`` means.

    Args:
        text: what was typed.
        option: where, for the message.

    Raises:
        typer.BadParameter: it means no span of time.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        message = f"{text!r} is no span of time; write 45s, 90min, 36h, 30d or 2w"
        raise typer.BadParameter(message, param_hint=option)
    return int(found[1]) * _UNITS[found[2]] * _SECOND


def moment_of(text: str, option: str, now: int | None = None) -> int:
    """Return the moment that a text means, in microseconds since 1970.

    Args:
        text: ``7d`` for seven days ago, or a date with or without a time in ISO 8601; without a
            zone it is in UTC.
        option: where it was typed, for the message.
        now: the time, in microseconds since 1970; None for that of the clock.

    Raises:
        typer.BadParameter: it means no moment.
    """
    if _SPAN.fullmatch(text):
        return (SystemClock().now() if now is None else now) - span_of(text, option)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is no time; write 7d for seven days ago, or 2026-05-01T12:00Z"
        raise typer.BadParameter(message, param_hint=option) from error
    return to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def bound_of(text: str | None, option: str) -> int | None:
    """Return the moment that a text means, as `moment_of` does, None if none was typed.

    Raises:
        typer.BadParameter: it means no moment.
    """
    return None if text is None else moment_of(text, option)
