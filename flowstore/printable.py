"""Text that someone else wrote, made fit to be shown: in a terminal, in a log, in XML."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with control characters written as escapes: they may steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
