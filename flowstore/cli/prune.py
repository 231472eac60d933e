"""The command ``prune``: remove runs that have been over for long."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from flowstore.cli import output
from flowstore.cli.database import looking, require_latest
from flowstore.cli.reading import existing
from flowstore.cli.times import span_of
from flowstore.clock import SystemClock
from flowstore.printable import counted
from flowstore.store.base import Prune, PrunedRuns
from flowstore.store.prune import newest_runs
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse
from flowstore.store.vacuum import Room, give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

MOST_EVENTS = 10_000
"""Events removed in one transaction, if they are not those of one run."""


class Wanted(NamedTuple):
    """Which runs are to go.

    Attributes:
        statuses: of one of these.
        before: not touched since, in microseconds since 1970.
        workflow: of this one, if it is given.
    """

    statuses: tuple[str, ...]
    before: int
    workflow: str | None


def prune(
    store: str,
    older_than: str,
    *,
    statuses: tuple[str, ...],
    workflow: str | None,
    batch: int,
    dry_run: bool,
    vacuum: bool,
    as_json: bool,
) -> int:
    """Remove runs in batches, and print how many."""
    path = existing(store)
    now = SystemClock().now()
    before = now - span_of(older_than, "--older-than")
    wanted = Wanted(statuses, before, workflow)
    runs = find(path, wanted)
    done, room = PrunedRuns(), Room(0)
    if dry_run:
        done = PrunedRuns(len(runs), sum(head for _, head in runs))
    elif runs:
        with _progress(len(runs), quiet=as_json) as advance:
            done = asyncio.run(_remove(store, wanted, _batches(runs, batch), now, advance))
    if vacuum and not dry_run:
        room = give_back(parse(store), path)
    _tell(path, done, room, dry_run=dry_run, as_json=as_json)
    return 0


def find(path: Path, wanted: Wanted) -> list[tuple[int, int]]:
    """Return ids and numbers of events of the runs that are to go, the oldest first.

    The rule is that of `flowstore.store.prune.is_over`.
    """
    marks = ", ".join("?" for _ in wanted.statuses)
    sql = (
        f"SELECT id, head FROM run WHERE status IN ({marks}) AND updated_at < ? "  # noqa: S608 - of marks
        "AND owner IS NULL AND waits = 0 AND tasks = 0 AND cursor = head "
        "AND (? IS NULL OR workflow = ?) ORDER BY id"
    )
    values = (*wanted.statuses, wanted.before, wanted.workflow, wanted.workflow)
    with looking(path) as connection:
        require_latest(connection, path)
        newest = newest_runs(connection)
        return [row for row in connection.execute(sql, values) if row[0] not in newest]


def _batches(runs: Sequence[tuple[int, int]], most: int) -> list[list[int]]:
    batches: list[list[int]] = []
    events = MOST_EVENTS
    for run_id, head in runs:
        if not batches or len(batches[-1]) >= most or events + head > MOST_EVENTS:
            batches.append([])
            events = 0
        batches[-1].append(run_id)
        events += head
    return batches


async def _remove(
    store: str,
    wanted: Wanted,
    batches: list[list[int]],
    now: int,
    advance: Callable[[int], object],
) -> PrunedRuns:
    writer, done = SQLiteStore(parse(store)), PrunedRuns()
    try:
        for runs in batches:
            # One after another: between two of them others have their turn to write.
            part = await writer.perform(Prune(runs, wanted.statuses, wanted.before, now))
            done.runs += part.runs
            done.events += part.events
            done.left += part.left
            advance(len(runs))
    finally:
        await writer.close()
    return done


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Generator[Callable[[int], object]]:
    """Show on a terminal how far it has come."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe does not pay for it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("removing runs", total=total)
        yield lambda count: bar.advance(task, count)


def _tell(path: Path, done: PrunedRuns, room: Room, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        said: dict[str, Any] = {
            "store": str(path),
            "dry_run": dry_run,
            "runs": done.runs,
            "events": done.events,
            "left": done.left,
            "freed_bytes": room.freed,
            "problem": room.problem,
        }
        output.print_json(said)
        return
    verb = "would be removed" if dry_run else "removed"
    events = counted(done.events, "event")
    output.write(f"{path}: {counted(done.runs, 'run')} with {events} {verb}\n")
    if done.left:
        output.note(f"{counted(done.left, 'run was', 'runs were')} touched meanwhile, and stay")
    if room.freed:
        output.write(f"{path}: {room.freed} bytes given back\n")
    if room.problem is not None:
        output.note(room.problem)
