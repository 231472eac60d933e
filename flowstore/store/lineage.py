"""Where a fork comes from, as its row says."""

from __future__ import annotations

from typing import Any, cast

import orjson


def edited(lineage: str | None) -> list[int]:
    """Return the positions of events that are not as their authors left them."""
    told: object = orjson.loads(lineage) if lineage else None
    if type(told) is not dict:
        return []
    found = cast("dict[str, Any]", told)
    try:
        forked = found["forked_from"]
        own = [int(forked["position"])] if "event" in forked.get("edits", {}) else []
        return [*map(int, found.get("edited", ())), *own]
    except (KeyError, TypeError, ValueError, AttributeError):  # a lineage of another kind
        return []


def ancestors(lineage: str | None) -> list[tuple[str, int]]:
    """Return which run this was up to which position, the first one first; none if no fork.

    An event that was edited has been handled by the fork.
    """
    told: object = orjson.loads(lineage) if lineage else None
    if type(told) is not dict:
        return []
    found = cast("dict[str, Any]", told)
    try:
        forked = found["forked_from"]
        until = int(forked["position"]) - ("event" in forked.get("edits", {}))
        # One that was forked before the place where it had been is not that run behind it.
        before = [(str(name), min(int(place), until)) for name, place in found.get("before", ())]
        return [*before, (str(forked["correlation_id"]), until)]
    except (KeyError, TypeError, ValueError, AttributeError):  # a lineage of another kind
        return []
