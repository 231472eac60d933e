"""What a look at a database comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is worth knowing about a database.

    Attributes:
        severity: ``info`` needs no one; ``warning``: look into it; ``error``: act.
        check: what was looked at, in a word.
        message: what is the case.
        remedy: what to do about it; None if there is nothing to be done.
    """

    severity: Severity
    check: str
    message: str
    remedy: str | None = None


def info(check: str, message: str, remedy: str | None = None) -> Finding:
    """Return what is worth knowing."""
    return Finding(severity="info", check=check, message=message, remedy=remedy)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Return what should be looked into."""
    return Finding(severity="warning", check=check, message=message, remedy=remedy)


def error(check: str, message: str, remedy: str) -> Finding:
    """Return what needs someone to act."""
    return Finding(severity="error", check=check, message=message, remedy=remedy)
