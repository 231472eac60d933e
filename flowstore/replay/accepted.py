"""Changes of the code that are intended: how a divergence is known to be one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.replay.difference import ABSENT, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowstore.replay.difference import Difference
    from flowstore.replay.report import Divergence

_INDEX: Final = re.compile(r"\[\d+\]|\.\d+(?=[.\[]|$)")
_GONE_ON: Final = re.compile(r"@\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """What divergences have in common that are the same change of the code.

    Attributes:
        handler: the handler; None if it is about none.
        kind: what is not as it was; see `flowstore.replay.Divergence`.
        detail: more about that, where paths do not say it: ``dead -> handled``, or the step that it
            reached for.
    """

    handler: str | None
    kind: str
    detail: str | None = None

    @classmethod
    def of(cls, divergence: Divergence) -> Trait:
        """Return that of a divergence."""
        name = divergence.handler
        if name is not None:
            name = _GONE_ON.sub("", name)  # at which event it waited is that run's own affair
        return cls(handler=name, kind=divergence.kind, detail=_detail(divergence))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A change of the code that is intended.

    Attributes:
        trait: what changed.
        paths: where; the differences of one divergence may be at some of them.
        reason: why it is intended.
        event: only in handling this event; None for any.
        run: only in this run; None for any.
    """

    trait: Trait
    paths: tuple[str, ...]
    reason: str
    event: str | None = None
    run: str | None = None

    def concerns(self, divergence: Divergence, run: str) -> bool:
        """Tell whether it is about this change at all, whatever the paths."""
        return (
            self.trait == Trait.of(divergence)
            and self.event in (None, divergence.event)
            and self.run in (None, run)
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, and TOML; what is not said is left out."""
        fields: dict[str, Any] = {
            "handler": self.trait.handler or "",
            "kind": self.trait.kind,
            "detail": self.trait.detail,
            "event": self.event,
            "run": self.run,
            "paths": list(self.paths),
            "reason": self.reason,
        }
        return {name: value for name, value in fields.items() if value not in (None, [])}


def paths_of(divergence: Divergence) -> tuple[str, ...]:
    """Return the places of its differences, without indexes, in order and without repeats."""
    return tuple(dict.fromkeys(_signed(each) for each in divergence.differences))


def _signed(difference: Difference) -> str:
    sign = "+" if difference.expected is ABSENT else "-" if difference.actual is ABSENT else ""
    return sign + _INDEX.sub(".*", difference.path)


def _detail(divergence: Divergence) -> str | None:
    """Return what says, beside the paths, what happened; it has no data of the run in it."""
    expected, actual = divergence.expected, divergence.actual
    if divergence.kind == "step":
        return actual if isinstance(actual, str) else None
    if divergence.kind == "outcome" and not _is_result(divergence):
        return f"{_word(expected)} -> {_word(actual)}"
    if divergence.kind == "handler":
        if isinstance(expected, list) and isinstance(actual, list):
            return "moved"
        return "added" if isinstance(actual, str) else "gone"
    if divergence.kind == "error" and isinstance(actual, dict):
        said = cast("dict[str, Any]", actual)
        return str(said.get("exception") or said.get("outcome") or "") or None
    return None


def _is_result(divergence: Divergence) -> bool:
    roots = {each.path.partition(".")[0].partition("[")[0] for each in divergence.differences}
    return bool(roots) and roots.isdisjoint({"outcome", "error"})


def _word(side: Any) -> str:
    if isinstance(side, dict):
        return str(cast("dict[str, Any]", side).get("outcome"))
    if side is None:
        return "not called"
    return "completed" if side is True else "open"


def is_at(pattern: str, path: str) -> bool:
    """Tell whether a pattern names a place: both with their signs, ``*`` being any one key."""
    if pattern[:1] != path[:1] and {pattern[:1], path[:1]} & {"+", "-"}:
        return False
    wanted, given = words(pattern.lstrip("+-")), words(path.lstrip("+-"))
    return len(wanted) == len(given) and all(
        one in ("*", other) for one, other in zip(wanted, given, strict=True)
    )


class AcceptedChanges:
    """All changes that are intended, and which of them have been seen.

    Args:
        entries: the changes.

    Attributes:
        seen: how many runs have met an entry; those that none has are not in it.
    """

    def __init__(self, entries: Iterable[Accepted] = ()) -> None:
        self.entries = list(entries)
        self.seen: dict[Accepted, int] = {}

    def see(self, entries: Iterable[Accepted]) -> None:
        """Note that a run has met these entries, each counted once."""
        for entry in dict.fromkeys(entries):
            self.seen[entry] = self.seen.get(entry, 0) + 1

    def covering(self, divergence: Divergence, run: str) -> list[Accepted]:
        """Return the entries that together say that all of a divergence is intended, or nothing."""
        about = [each for each in self.entries if each.concerns(divergence, run)]
        used: list[Accepted] = []
        for path in paths_of(divergence):
            found = [entry for entry in about if any(is_at(each, path) for each in entry.paths)]
            if not found:
                return []
            used += found
        if not divergence.differences:
            used = about
        return list(dict.fromkeys(used))

    def unseen(self, run: str | None = None) -> list[Accepted]:
        """Return the entries that no divergence has met.

        Args:
            run: only those that are for this run alone; None for all.
        """
        return [each for each in self.entries if each not in self.seen and run in (None, each.run)]
