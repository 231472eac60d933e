"""The states of many runs, in three statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from flowstore.store import schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection


async def read_states(
    names: Sequence[str], connection: AsyncConnection
) -> dict[str, tuple[str | None, list[str]]]:
    """Return the newest snapshot and the changes behind it for each of these runs there is."""
    run, snapshot, transition = schema.run.c, schema.snapshot.c, schema.transition.c
    found = await connection.execute(
        select(run.id, run.correlation_id).where(run.correlation_id.in_(names))
    )
    keys = {row.id: row.correlation_id for row in found}
    newest = schema.snapshot.alias().c
    position = select(func.max(newest.position))
    snapshots = await connection.execute(
        select(snapshot.run_id, snapshot.state).where(
            snapshot.run_id.in_(keys),
            snapshot.position == position.where(newest.run_id == snapshot.run_id).scalar_subquery(),
        )
    )
    starts = {row.run_id: row.state for row in snapshots}
    changes: dict[int, list[str]] = {key: [] for key in keys}
    after = position.where(newest.run_id == transition.run_id).scalar_subquery()
    for row in await connection.execute(
        select(transition.run_id, transition.change)
        .where(
            transition.run_id.in_(keys),
            transition.position > func.coalesce(after, 0),
            transition.change.is_not(None),
        )
        .order_by(transition.run_id, transition.position, transition.number)
    ):
        changes[row.run_id].append(row.change)
    return {name: (starts.get(key), changes[key]) for key, name in keys.items()}
