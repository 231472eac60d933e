"""The hash of each event, chained over its run: what is changed afterwards no longer fits."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 20
"""The length of a hash: finding two events with the same one takes about 2**80 attempts."""


def begin(correlation_id: str) -> bytes:
    """Return what stands before the hash of a run's first event."""
    return blake2b(correlation_id.encode(), digest_size=HASH_BYTES).digest()


def link(before: bytes, cells: Sequence[Any]) -> bytes:
    """Return the hash of an event.

    Args:
        before: the hash of the event before it, or `begin`.
        cells: position, id, name, version, data, metadata, error, causation_id, created_at and
            expires_at, as the table has them. JSON has no two texts that stand for the same
            cells in this order, so that no other event has the same.
    """
    return blake2b(before + orjson.dumps(cells), digest_size=HASH_BYTES).digest()
