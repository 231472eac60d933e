"""The command ``tail``: what happens in a store, while it happens."""

from __future__ import annotations

import asyncio
import errno
import select
import sys
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, Any

from flowstore.cli import output, terminal
from flowstore.cli.raised import error_text, event_error, type_of
from flowstore.cli.reading import find_run, read
from flowstore.cli.words import said, span
from flowstore.store.feed import Feed
from flowstore.store.readonly import watch
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowstore.cli.terminal import Piece
    from flowstore.store.base import DropRow, StoredEvent, TransitionRow
    from flowstore.store.feed import News
    from flowstore.store.queries import Queries

_SECONDS = 0.03
"""How long it takes at most until something new is noticed."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Something that happened: in words, and as JSON."""

    at: int
    pieces: list[Piece]
    value: dict[str, Any]


def tail(store: str, run: str | None, *, last: int, follow: bool, as_json: bool) -> int:
    """Print the last events, and, with ``follow``, what comes until someone ends this."""

    async def work(queries: Queries) -> None:
        if run is not None:
            await find_run(queries, run, store)
        feed = Feed(run)
        _print(await queries.read_together(lambda each: feed.begin(last, each)), as_json=as_json)
        if not follow:
            return
        reader = _Reader()
        async with watch(parse(store)) as has_news:
            while True:
                if await has_news():
                    await _print_news(queries, feed, as_json=as_json)
                reader.check()
                await asyncio.sleep(_SECONDS)

    read(store, work)
    return 0


async def _print_news(queries: Queries, feed: Feed, *, as_json: bool) -> None:
    has_more = True
    while has_more:
        news = await queries.read_together(feed.more)
        _print(news, as_json=as_json)
        has_more = news.has_more


class _Reader:
    """Whoever reads standard output: `head`, which has seen enough, ends this as well."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(sys.stdout.fileno(), 0)

    def check(self) -> None:
        """Raise the error that writing would, if no one reads any more."""
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in self._poll.poll(0)):
            raise BrokenPipeError(errno.EPIPE, "no one reads the output")


# --- what is printed -----------------------------------------------------------------------


def _print(news: News, *, as_json: bool) -> None:
    """Print what is new: events in their order, each attempt where its time puts it."""
    drops = (_drop(drop, news.names) for drop in news.drops)
    attempts = sorted(
        (_attempt(row, news.names) for row in news.transitions), key=lambda line: line.at
    )
    for line in merge(_events(news.events, news.names), attempts, drops, key=lambda line: line.at):
        if as_json:
            output.write(output.json_text(line.value) + "\n")
        else:
            output.print_line(line.pieces)
    sys.stdout.flush()


def _events(events: Iterable[StoredEvent], names: dict[int, str]) -> Iterator[_Line]:
    latest = 0
    for event in events:
        # Their order is that of the log, also where the clocks of two machines differ.
        latest = max(latest, event.created_at)
        name = names.get(event.run_id, "-")
        fields = output.to_json(event)
        del fields["run_id"]
        yield _Line(
            latest,
            [
                *_lead(event.created_at, name, event.position),
                (output.printable(event.name), terminal.STRONG),
                (f"  {output.brief(event_error(event) or event.data)}", _style(event)),
            ],
            {"kind": "event", "correlation_id": name, **fields},
        )


def _style(event: StoredEvent) -> str:
    return terminal.PLAIN if event.error is None else terminal.BAD


def _attempt(row: TransitionRow, names: dict[int, str]) -> _Line:
    name = names.get(row.run_id, "-")
    text = f"{said(row.outcome, row.handler, row.attempt)} ({span(row.duration)})"
    if row.error is not None:
        text += f": {error_text(row)}"
    value = {
        "kind": "attempt",
        "correlation_id": name,
        "position": row.position,
        "handler": row.handler,
        "attempt": row.attempt,
        "outcome": row.outcome,
        "error": row.error,
        "error_type": type_of(row),
        "started_at": output.time_text(row.started_at),
        "duration": row.duration,
    }
    pieces = [
        *_lead(row.started_at, name, row.position),
        (output.brief(text), terminal.style_of(row.outcome)),
    ]
    return _Line(row.started_at, pieces, value)


def _drop(drop: DropRow, names: dict[int, str]) -> _Line:
    name = names.get(drop.run_id, "-")
    fields = output.to_json(drop)
    del fields["run_id"]
    text = f"refused as {drop.reason}: {drop.name or '-'} {drop.event_id or '-'}"
    if drop.detail is not None:
        text += f"; {drop.detail}"
    pieces = [
        *_lead(drop.created_at, name, drop.position),
        (output.printable(text), terminal.HELD),
    ]
    return _Line(drop.created_at, pieces, {"kind": "drop", "correlation_id": name, **fields})


def _lead(at: int, name: str, position: int | None) -> list[Piece]:
    return [
        (f"{output.time_text(at)}  ", terminal.QUIET),
        (output.printable(name), terminal.PLAIN),
        (f" {'-' if position is None else position} ", terminal.QUIET),
    ]
