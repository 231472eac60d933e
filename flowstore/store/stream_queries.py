"""Reading streams: their rows, and pages of their chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from flowstore.store import schema
from flowstore.store.streams import StreamRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection


async def read_stream(
    correlation_id: str,
    stream_id: str,
    part: tuple[int, int],
    status: ColumnElement[str],
    connection: AsyncConnection,
) -> StreamRecord | None:
    """Return a stream and some of its chunks, as they are at one moment.

    Args:
        correlation_id: the run.
        stream_id: the stream's name in it.
        part: the first chunk that is wanted, and how many rows of chunks at most.
        status: what readers are shown as the run's status.
        connection: where to read.
    """
    offset, limit = part
    run, stream, chunk = schema.run.c, schema.stream.c, schema.chunk.c
    found = await connection.execute(
        select(run.id.label("key"), status.label("run_status"), *_OF_STREAM)
        .join_from(schema.stream, schema.run, stream.run_id == run.id)
        .where(run.correlation_id == correlation_id, stream.id == stream_id)
    )
    row = found.mappings().one_or_none()
    if row is None:
        return None
    fields = {name: value for name, value in row.items() if name != "key"}
    if not limit or offset >= row["chunks"]:
        return StreamRecord(**fields)
    these = (chunk.run_id == row["key"], chunk.stream_id == stream_id)
    start = select(func.max(chunk.first)).where(*these, chunk.first <= offset)
    pages = await connection.execute(
        select(chunk.first, chunk.data)
        .where(*these, chunk.first >= start.scalar_subquery())
        .order_by(chunk.first)
        .limit(limit)
    )
    return StreamRecord(**fields, pages=tuple((page.first, page.data) for page in pages))


async def list_streams(
    correlation_id: str,
    stream_ids: Sequence[str] | None,
    status: ColumnElement[str],
    connection: AsyncConnection,
) -> list[StreamRecord]:
    """Return a run's streams, all of them or those of these ids."""
    run, stream = schema.run.c, schema.stream.c
    statement = (
        select(status.label("run_status"), *_OF_STREAM)
        .join_from(schema.stream, schema.run, stream.run_id == run.id)
        .where(run.correlation_id == correlation_id)
        .order_by(stream.id)
    )
    if stream_ids is not None:
        statement = statement.where(stream.id.in_(stream_ids))
    rows = (await connection.execute(statement)).mappings()
    return [StreamRecord(**row) for row in rows]


_OF_STREAM = tuple(
    schema.stream.c[name] for name in ("id", "generation", "status", "chunks", "error")
)
