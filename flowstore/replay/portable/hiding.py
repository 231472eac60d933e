"""Values that are hidden, and the texts that stand for them."""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHORT: Final = 4
"""Texts of fewer characters are hidden where they stand alone: they are part of too much else."""


class Tokens:
    """Texts that stand for values: the same for the same value, and nothing tells which it is.

    Args:
        key: secret bytes; with others the texts are others.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}

    def of_text(self, value: str) -> str:
        """Return what stands for a text."""
        known = self._known.get(value)
        if known is None:
            known = self._known[value] = self.of(value)
        return known

    def of(self, value: Any) -> str:
        """Return what stands for a JSON value."""
        return f"redacted-{hmac.digest(self._key, orjson.dumps(value), 'sha256')[:8].hex()}"

    def forget(self) -> None:
        """Keep no values in memory; what stands for them stays the same."""
        self._known.clear()


class Hiding:
    """Hides texts wherever they occur, also as JSON, Python and addresses write them.

    Args:
        tokens: what to put in their place.
        secrets: the texts.

    Attributes:
        longest: how many characters the longest has, in whatever way it is written.
    """

    def __init__(self, tokens: Tokens, secrets: Iterable[str]) -> None:
        self._tokens = tokens
        self._secret_of: dict[str, str] = {}
        for secret in sorted(filter(None, secrets)):
            for form in _forms(secret):
                self._secret_of.setdefault(form, secret)
        self.longest = max(map(len, self._secret_of), default=0)
        long = [form for form in self._secret_of if len(form) >= _SHORT]
        short = [form for form in self._secret_of if len(form) < _SHORT]
        self._long = re.compile(_any_of(long)) if long else None
        parts = [_any_of(long)] if long else []
        parts += [rf"(?<!\w){_any_of(short)}(?!\w)"] if short else []
        self._all = re.compile("|".join(parts)) if parts else None

    def __bool__(self) -> bool:
        return self._all is not None

    def occurs_in(self, text: str) -> bool:
        """Tell whether there is anything to hide in a text, which may be JSON."""
        return self._all is not None and self._all.search(text) is not None

    def text(self, value: str) -> str:
        """Return a text without what is hidden."""
        return value if self._all is None else self._all.sub(self._token, value)

    def name(self, value: str) -> str:
        """Return an id or a name without what is hidden: a short text only if that is all of it."""
        if value in self._secret_of:
            return self._tokens.of_text(self._secret_of[value])
        return value if self._long is None else self._long.sub(self._token, value)

    def pieces(self, values: Sequence[str]) -> list[str]:
        """Return texts without what is hidden in them, or in what they are together."""
        together = "".join(values)
        ends: list[int] = []
        for value in values:
            ends.append((ends[-1] if ends else 0) + len(value))
        found = list(self._all.finditer(together)) if self._all is not None else []
        results: list[str] = []
        begin = 0
        for end in ends:
            results.append(self._piece(together, begin, end, found))
            begin = end
        return results

    def _piece(self, together: str, begin: int, end: int, found: list[re.Match[str]]) -> str:
        """Return a piece; what is hidden across pieces has its token in the first of them."""
        parts: list[str] = []
        place = begin
        for match in found:
            if match.end() <= begin or match.start() >= end:
                continue
            if match.start() >= begin:
                parts += [together[place : match.start()], self._token(match)]
            place = min(match.end(), end)
        return "".join([*parts, together[place:end]])

    def _token(self, match: re.Match[str]) -> str:
        return self._tokens.of_text(self._secret_of[match[0]])


def _forms(secret: str) -> dict[str, None]:
    """Return the ways in which a text is written in other texts."""
    written = (
        secret,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
    )
    return dict.fromkeys(written)


# --- one pattern for many texts ----------------------------------------------------------------


def _any_of(texts: Sequence[str]) -> str:
    """Return a pattern for the longest of these texts; its time hardly grows with their number."""
    ordered = sorted(texts)
    try:
        pattern = _branches(ordered, 0)
        re.compile(pattern)
    except (RecursionError, OverflowError):
        return f"(?:{'|'.join(re.escape(each) for each in sorted(texts, key=len, reverse=True))})"
    return pattern


def _branches(texts: Sequence[str], depth: int) -> str:
    """Return a pattern for what sorted texts have from a depth on, where all are the same up to."""
    end = _common(texts[0], texts[-1])
    head = re.escape(texts[0][depth:end])
    is_end = len(texts[0]) == end
    rest = texts[1:] if is_end else texts
    if not rest:
        return head
    groups: dict[str, list[str]] = {}
    for text in rest:
        groups.setdefault(text[end], []).append(text)
    found = "|".join(_branches(group, end) for group in groups.values())
    return f"{head}(?:{found})?" if is_end else f"{head}(?:{found})"


def _common(one: str, other: str) -> int:
    end = min(len(one), len(other))
    return next((place for place in range(end) if one[place] != other[place]), end)
