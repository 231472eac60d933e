"""What is said of values and errors: never the value itself, and never too much."""

from __future__ import annotations

from typing import Any


def brief(value: Any) -> str:
    """Name the kind of a value; the value itself may be a secret."""
    return f"an object of type {type(value).__name__}"


def storable(text: str, limit: int = 16_384) -> str:
    """Return a text that every database takes: no NUL, no lone surrogates, not too long."""
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text):,} characters)"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def told(error: BaseException) -> str:
    """Return what an exception says; some cannot even say that."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the user's __str__ is the user's code
        return f"{type(error).__name__} (its message cannot be shown)"
