"""JSON merge patches: RFC 7396."""

from __future__ import annotations

from typing import Any, cast


def merged(target: Any, patch: Any) -> Any:
    """Return a value with a merge patch applied; neither is changed.

    What the patch has takes the place of what the value has; null removes a key. Lists are
    replaced as a whole.
    """
    given: object = patch
    if type(given) is not dict:
        return patch
    found: object = target
    result = dict(cast("dict[str, Any]", found)) if type(found) is dict else {}
    for key, value in cast("dict[str, Any]", given).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
