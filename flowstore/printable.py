"""Text for people: what someone else wrote, made fit to be shown, and counts with their nouns."""

from __future__ import annotations

from typing import Final

_STEERS_MERMAID: Final = frozenset('"#<>&`\\;%')
"""What ends a quoted text, or begins an entity, HTML, Markdown or a directive (``%%{init``)."""

_LONGEST_LABEL: Final = 80


def printable(text: str) -> str:
    """Return the text with control characters written as escapes: they may steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 run``, ``2,000 runs``.

    Args:
        number: how many.
        one: the noun for one.
        many: for any other number; None for the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def mermaid_label(text: str) -> str:
    """Return a text that Mermaid, between quotes, shows as it is, whatever is in it."""
    if len(text) > _LONGEST_LABEL:
        text = text[: _LONGEST_LABEL - 1] + "…"
    return "".join(
        letter if letter.isprintable() and letter not in _STEERS_MERMAID else f"#{ord(letter)};"
        for letter in text
    )
