"""A dead letter that is retried: what its event says of the handler that is to be called again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from flowstore.store.base import Load, ParkedRow, is_retry

if TYPE_CHECKING:
    from flowstore.engine.active import ActiveRun
    from flowstore.engine.surroundings import Surroundings
    from flowstore.store.base import StoredEvent


class Revived(NamedTuple):
    """How a handler goes on that had failed for good.

    Attributes:
        row: as if it had been parked so.
        waking: the event that it went on at when it failed; None if it begins anew.
        failure: why a run fails that has failed because of it.
    """

    row: ParkedRow
    waking: StoredEvent | None
    failure: str


async def revived(around: Surroundings, run: ActiveRun, stored: StoredEvent) -> Revived | None:
    """Return what an event says that retries a dead letter; None if it is none of ours."""
    if not is_retry(stored.name, stored.id):
        return None
    told = orjson.loads(stored.data or "{}")
    waking: StoredEvent | None = None
    if told["woken_by"] is not None:
        (waking,) = await around.perform(Load(run.id, told["woken_by"] - 1, 1))
    return Revived(ParkedRow(run.id, *told["row"]), waking, told["failure"])
