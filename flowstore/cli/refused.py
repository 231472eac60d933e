"""The commands about what went wrong: ``drops`` and ``dead``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.cli import output
from flowstore.cli.raised import type_of, typed
from flowstore.cli.reading import find_run, read

if TYPE_CHECKING:
    from flowstore.store.base import DeadLetterRecord, DropRecord
    from flowstore.store.queries import Queries

DROP_COLUMNS = ("correlation_id", "created_at", "reason", "event_id", "name", "detail")
DEAD_COLUMNS = (
    "correlation_id", "started_at", "position", "event_id", "name", "handler", "attempt", "error",
)  # fmt: skip


def list_drops(
    store: str, run: str | None, *, reason: str | None, limit: int, as_json: bool
) -> int:
    """List drops, of one run or of all, the youngest first."""

    async def work(queries: Queries) -> list[DropRecord]:
        if run is not None:
            await find_run(queries, run, store)
        return await queries.list_drops(run, reason=reason, limit=limit + 1)

    output.print_list(read(store, work), DROP_COLUMNS, limit, "drops", as_json=as_json)
    return 0


def list_dead(store: str, run: str | None, *, limit: int, as_json: bool) -> int:
    """List dead letters, of one run or of all, the youngest first."""

    async def work(queries: Queries) -> list[DeadLetterRecord]:
        if run is not None:
            await find_run(queries, run, store)
        return await queries.list_dead(run, limit=limit + 1)

    to_row = letter_json if as_json else _letter_row
    output.print_list(
        read(store, work), DEAD_COLUMNS, limit, "dead letters", as_json=as_json, to_row=to_row
    )
    return 0


def letter_json(letter: DeadLetterRecord) -> dict[str, Any]:
    """Return a dead letter as JSON has it."""
    return output.to_json(letter) | {"error_type": type_of(letter)}


def _letter_row(letter: DeadLetterRecord) -> dict[str, Any]:
    return typed(letter_json(letter))
