"""The commands about runs: ``runs``, ``show`` and ``state``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flowstore.change import replay
from flowstore.cli import output
from flowstore.cli.raised import typed
from flowstore.cli.reading import file_of, find_run, read
from flowstore.cli.refused import DEAD_COLUMNS, DROP_COLUMNS, letter_json
from flowstore.errors import FlowstoreError
from flowstore.store.keys import failure_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.base import RunRecord
    from flowstore.store.queries import Queries

_COLUMNS = ("correlation_id", "workflow", "status", "head", "cursor", "updated_at")
_SHOWN = 20
"""How many dead letters, drops, unhandled events and things it waits for ``show`` has of each."""

_LISTS = {
    "outstanding": ("kind", "name", "key", "position", "handler", "since", "due_at", "where"),
    "dead": DEAD_COLUMNS[1:],
    "drops": DROP_COLUMNS[1:],
    "unhandled": ("position", "id", "name"),
}


def list_runs(
    store: str, *, statuses: Sequence[str], workflow: str | None, limit: int, as_json: bool
) -> int:
    """List runs, the youngest first."""

    async def work(queries: Queries) -> list[RunRecord]:
        return await queries.list_runs(statuses=statuses, workflow=workflow, limit=limit + 1)

    output.print_list(read(store, work), _COLUMNS, limit, "runs", as_json=as_json)
    return 0


def show(store: str, correlation_id: str, *, as_json: bool) -> int:
    """Show one run with its counts, what it waits for, dead letters, drops, unhandled events."""

    async def work(queries: Queries) -> dict[str, Any]:
        run = await find_run(queries, correlation_id, store)
        return await _gather(queries, run)

    shown = read(store, work)
    if as_json:
        output.print_json(shown)
    else:
        _print_shown(shown)
    return 0


async def _gather(queries: Queries, run: RunRecord) -> dict[str, Any]:
    name = run.correlation_id
    # One after another: the first that fails leaves none behind that still reads.
    counts = await queries.count(name)
    outstanding = await queries.list_outstanding(name, limit=_SHOWN)
    dead = await queries.list_dead(name, limit=_SHOWN)
    drops = await queries.list_drops(name, limit=_SHOWN)
    unhandled = await queries.list_unhandled(name, limit=_SHOWN)
    return {
        **output.to_json(run),
        "counts": asdict(counts),
        "outstanding": [output.to_json(each) for each in outstanding],
        "dead": [letter_json(each) for each in dead],
        "drops": [output.to_json(each) for each in drops],
        "unhandled": [
            {"position": event.position, "id": event.id, "name": event.name}
            for _, event in unhandled
        ],
    }


def _print_shown(shown: dict[str, Any]) -> None:
    fields = {name: value for name, value in shown.items() if name not in ("counts", *_LISTS)}
    counts = shown["counts"]
    for name in ("events", "transitions", "drops", "streams"):
        fields[name] = ", ".join(f"{key} {count}" for key, count in counts[name].items()) or None
    fields |= {"steps": counts["steps"], "unhandled": counts["unhandled"]}
    fields["reason"] = _reason(shown)
    output.print_fields(fields)
    for name, columns in _LISTS.items():
        if shown[name]:
            output.write(f"\n{name}\n")
            if name == "outstanding" and not any(row["where"] for row in shown[name]):
                columns = columns[:-1]  # noqa: PLW2901 - the last is "where"
            rows = map(typed, shown[name]) if name == "dead" else shown[name]
            output.print_table(columns, rows)


def _reason(shown: dict[str, Any]) -> str | None:
    """Return why a run is closed; if a dead letter is, with the type of its exception."""
    reason: str | None = shown["reason"]
    for letter in shown["dead"]:
        place = (letter["handler"], letter["name"], letter["position"])
        if reason == failure_reason(*place, letter["error"]):
            return failure_reason(*place, typed(letter)["error"])
    return reason


def print_state(store: str, correlation_id: str, *, at: int | None, as_json: bool) -> int:
    """Print a run's state, as it is or as it was after a position."""

    async def work(queries: Queries) -> dict[str, Any]:
        run = await find_run(queries, correlation_id, store)
        if at is not None and at > run.head:
            message = (
                f"{file_of(store)}: run {correlation_id!r} ends at position {run.head}, "
                f"so it has no state at {at}"
            )
            raise FlowstoreError(message)
        return replay(*await queries.read_state(correlation_id, at=at))

    state = read(store, work)
    if as_json:
        output.write(output.json_text(state) + "\n")
    else:
        output.print_json(state)
    return 0
