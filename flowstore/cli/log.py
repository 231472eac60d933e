"""The command ``log``: a run's events, each with what its handlers made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowstore.cli import output
from flowstore.cli.reading import find_run, read
from flowstore.door import decode_json
from flowstore.events import ERROR, PROGRESS
from flowstore.replay.record import EDITED
from flowstore.store.base import STREAM_ENDED, STREAM_FAILED
from flowstore.stream import has_streams, marks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowstore.store.base import RunRecord, StoredEvent, StreamRecord, TransitionRecord
    from flowstore.store.queries import Queries

_PAGE = 500
_OF_STREAM = ("id", "status", "chunks", "generation", "error")
_COLUMNS = ("position", "created_at", "name", "id", "causation_id", "outcome", "data")


@dataclass(frozen=True, slots=True)
class _Page:
    """Some events with the transitions of each, and its streams by the keys in its data."""

    events: list[StoredEvent]
    transitions: dict[int, list[TransitionRecord]]
    streams: dict[int, dict[str, StreamRecord]]


def print_log(
    store: str, correlation_id: str, *, after: int, limit: int | None, as_json: bool
) -> int:
    """Print events after a position, page by page, so that a long log needs no memory."""

    async def work(queries: Queries) -> None:
        run = await find_run(queries, correlation_id, store)
        pages = _pages(queries, correlation_id, after, limit)
        if as_json:
            await _print_json(pages, correlation_id)
        else:
            await _print_text(pages, run, queries)

    read(store, work)
    return 0


async def _pages(
    queries: Queries, correlation_id: str, after: int, limit: int | None
) -> AsyncIterator[_Page]:
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        events = await queries.read_events(correlation_id, after=after, limit=size)
        if not events:
            return
        until = events[-1].position
        found = await queries.read_transitions(correlation_id, after=after, until=until)
        transitions: dict[int, list[TransitionRecord]] = {}
        for transition in found:
            transitions.setdefault(transition.position, []).append(transition)
        yield _Page(events, transitions, await _streams(queries, correlation_id, events))
        after = until
        left = None if left is None else left - len(events)


async def _streams(
    queries: Queries, correlation_id: str, events: list[StoredEvent]
) -> dict[int, dict[str, StreamRecord]]:
    found = {
        event.position: marks(event.id, decode_json(event.data))
        for event in events
        if has_streams(event.id)
    }
    if not found:
        return {}
    wanted = [name for names in found.values() for name in names.values()]
    records = {each.id: each for each in await queries.list_streams(correlation_id, wanted)}
    return {
        position: {key: records[name] for key, name in names.items() if name in records}
        for position, names in found.items()
    }


async def _print_json(pages: AsyncIterator[_Page], correlation_id: str) -> None:
    """Print one JSON array, one event to a line."""
    lead = "[\n"
    async for page in pages:
        for event in page.events:
            fields = output.to_json(event)
            del fields["run_id"]
            transitions = map(output.to_json, page.transitions.get(event.position, ()))
            value = {"correlation_id": correlation_id, **fields, "transitions": list(transitions)}
            if event.position in page.streams:
                value["streams"] = {
                    key: {name: getattr(stream, name) for name in _OF_STREAM}
                    for key, stream in page.streams[event.position].items()
                }
            output.write(lead + output.json_text(value))
            lead = ",\n"
    output.write("[]\n" if lead == "[\n" else "\n]\n")


async def _print_text(pages: AsyncIterator[_Page], run: RunRecord, queries: Queries) -> None:
    unhandled = {event.position for _, event in await queries.list_unhandled(run.correlation_id)}
    empty = True
    async for page in pages:
        rows: list[dict[str, Any]] = []
        for event in page.events:
            attempts = page.transitions.get(event.position, [])
            row = output.to_json(event)
            row["outcome"] = _outcome(event, attempts, run.cursor, unhandled)
            for key, stream in page.streams.get(event.position, {}).items():
                row["data"][key] = _told(stream)
            row["data"] = event.error if event.data is None else row["data"]
            rows.append(row)
        if not empty:
            output.write("\n")
        output.print_table(_COLUMNS, rows)
        empty = False
    if empty:
        output.note("no events")


def _told(stream: StreamRecord) -> str:
    """Say in a few words what there is of a stream."""
    words = "1 chunk" if stream.chunks == 1 else f"{stream.chunks} chunks"
    if stream.status == STREAM_FAILED:
        words += ", broken off"
    elif stream.status != STREAM_ENDED:
        words += ", unfinished"
    return words if stream.generation == 1 else f"{words}, begun {stream.generation} times"


def _outcome(
    event: StoredEvent, attempts: list[TransitionRecord], cursor: int, unhandled: set[int]
) -> str:
    """Say in a few words what became of an event."""
    if attempts:
        # The last attempt of a handler is what counts; how many it took is worth a word.
        last = {attempt.handler: attempt for attempt in attempts}
        told = ", ".join(_verdict(attempt) for attempt in last.values())
        is_pending = event.position > cursor and {each.outcome for each in attempts} == {EDITED}
        return f"{told}, pending" if is_pending else told
    if event.position > cursor:
        return "pending"
    if event.position in unhandled:
        return "unhandled"
    return "-" if event.name in (PROGRESS, ERROR) else "dropped"


def _verdict(attempt: TransitionRecord) -> str:
    tries = f" at attempt {attempt.attempt}" if attempt.attempt > 1 else ""
    return f"{attempt.outcome} by {attempt.handler}{tries}"
