"""Whether two events say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from flowstore.door import decode_json

if TYPE_CHECKING:
    from flowstore.store.base import NewEvent, StoredEvent


def is_same(event: NewEvent, original: NewEvent | StoredEvent) -> bool:
    """Compare contents; of other versions the texts cannot be compared, so the id decides."""
    if event.name != original.name:
        return False
    if event.version != original.version:
        return True
    return (
        event.error == original.error
        and same_content(event.data, original.data)
        and same_content(event.metadata, original.metadata)
    )


def same_content(one: str | None, other: str | None) -> bool:
    """Tell whether two JSON texts stand for the same value; the order of keys is no matter."""
    if one == other:
        return True
    # Not ==, for which 1 and 1.0 and true are the same.
    return _sorted_json(one) == _sorted_json(other)


def _sorted_json(text: str | None) -> bytes:
    return orjson.dumps(decode_json(text), option=orjson.OPT_SORT_KEYS)
