"""Whether two events say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.codec import same_content

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
