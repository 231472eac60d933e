"""The commands ``export`` and ``import``: whole runs as lines of a file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flowstore.cli import output
from flowstore.cli.archives import STANDARD, batches
from flowstore.cli.reading import existing, file_of, find_run, read
from flowstore.cli.times import moment_of
from flowstore.errors import ConfigurationError, RunFileError
from flowstore.replay.portable.files import written_whole
from flowstore.replay.portable.reading import FileLimits, read_file
from flowstore.replay.portable.redaction import Redaction
from flowstore.replay.portable.writing import RunWriter
from flowstore.store.base import CLOSED, Restore
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import RunRecord
    from flowstore.store.queries import Queries

_PAGE = 1000
_SHOWN = 3


@contextlib.contextmanager
def _without_collection() -> Generator[None]:
    """Keep Python from looking for circles among rows, which have none: it takes a sixth longer."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# --- export ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are to be exported.

    Args:
        names: their correlation_ids.
        every: all of them.
        statuses: all with one of these.
        since: all in which anything has happened since.
    """

    names: Sequence[str]
    every: bool = False
    statuses: Sequence[str] = ()
    since: str | None = None

    def check(self) -> int | None:
        """Return the moment that ``since`` means.

        Raises:
            typer.BadParameter: it does not say which runs, or says it twice.
        """
        selects = self.every or bool(self.statuses) or self.since is not None
        if selects == bool(self.names):
            message = "name the runs, or give --all, --status or --since, not both"
            raise typer.BadParameter(message, param_hint="RUN")
        return None if self.since is None else moment_of(self.since, "--since")

    async def find(self, queries: Queries, store: str, since: int | None) -> list[tuple[str, int]]:
        """Return the runs' names and how many events each has, the oldest run first.

        Raises:
            RunNotFoundError: one that is named is not there.
        """
        if self.names:
            named = [await find_run(queries, name, store) for name in dict.fromkeys(self.names)]
            return [(run.correlation_id, run.head) for run in named]
        found: list[tuple[str, int]] = []
        page: list[RunRecord] = []
        while not found or len(page) == _PAGE:
            before = page[-1].correlation_id if page else None
            page = await queries.list_runs(statuses=self.statuses, limit=_PAGE, before=before)
            found += [
                (run.correlation_id, run.head)
                for run in page
                if since is None or run.updated_at >= since
            ]
            if not page:
                break
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where runs are exported to, and how that is reported.

    Args:
        place: a file, or ``-`` for standard output.
        force: a file that is there is replaced.
        as_json: report in JSON.
    """

    place: str
    force: bool = False
    as_json: bool = False

    @contextlib.contextmanager
    def open(self, store: str) -> Generator[Any]:
        """Give what takes the lines.

        Raises:
            RunFileError: it is there, or cannot be written.
        """
        if self.place == STANDARD:
            sys.stdout.flush()
            yield _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(self.place)
        if path.exists() and path.samefile(existing(store)):
            raise RunFileError(self.place, "is the database itself; name another file")
        with written_whole(path, force=self.force) as file:
            yield file

    def report(self, writer: RunWriter, redaction: Redaction) -> None:
        """Say what has been written."""
        figures = {
            "file": self.place,
            "runs": writer.runs,
            "events": writer.events,
            "lines": writer.lines,
            "bytes": writer.bytes,
            "redacted": list(redaction.paths),
            "unmatched": redaction.unmatched,
        }
        text = f"{output.counted(writer.runs, 'run')}, {output.counted(writer.events, 'event')}"
        if self.place == STANDARD:
            if self.as_json:
                sys.stderr.write(json.dumps(figures) + "\n")
        elif self.as_json:
            output.print_json(figures)
        else:
            output.write(f"{output.printable(self.place)}: {text}, {writer.bytes:,} bytes\n")
        for path in redaction.unmatched:
            output.note(f"--redact {path}: nothing is there in any of these runs")


def export_runs(
    store: str, wanted: Wanted, destination: Destination, redacted: Sequence[str]
) -> int:
    """Write runs as lines, some at a time."""
    since = wanted.check()
    try:
        redaction = Redaction(redacted)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="--redact") from error

    async def work(queries: Queries) -> RunWriter:
        runs = await wanted.find(queries, store, since)
        with destination.open(store) as file:
            writer = RunWriter(file.write, redaction.paths)
            for names in batches(runs):
                for archive in await queries.read_archives(names):
                    writer.add(redaction.redacted(archive))
            writer.end()
        return writer

    with _without_collection():
        writer = read(store, work)
    destination.report(writer, redaction)
    return 0


class _Terminal:
    """Shows lines to a person; who wants the file as it is sends it elsewhere."""

    def write(self, line: bytes) -> None:
        """Show a line."""
        output.write(output.harmless(line.decode()))


# --- import ------------------------------------------------------------------------------------


def import_runs(
    store: str,
    file: str,
    *,
    skip_existing: bool,
    line_bytes: int,
    file_bytes: int,
    as_json: bool,
) -> int:
    """Put the runs of a file into the store, once all of it has been checked."""
    place = file_of(store)
    limits = FileLimits(line_bytes=line_bytes, file_bytes=file_bytes)
    with _without_collection():
        archives = read_file(file, limits=limits)
        ids = asyncio.run(_restore(store, archives, skips=skip_existing)) if archives else []
    pairs = list(zip(archives, ids, strict=True))
    came = [archive for archive, number in pairs if number is not None]
    skipped = [archive.run.correlation_id for archive, number in pairs if number is None]
    unfinished = [each for each in came if each.run.status not in {*CLOSED, "idle"}]
    events = sum(len(archive.events) for archive in came)
    if as_json:
        output.print_json(
            {
                "store": str(place),
                "file": file,
                "runs": len(came),
                "events": events,
                "skipped": skipped,
                "unfinished": [archive.run.correlation_id for archive in unfinished],
            }
        )
    else:
        text = f"{output.counted(len(came), 'run')}, {output.counted(events, 'event')} imported"
        output.write(f"{output.printable(str(place))}: {text}\n")
    if skipped:
        output.note(f"left out, being there already: {_some(skipped)}")
    if unfinished:
        _warn(unfinished)
    return 0


async def _restore(store: str, archives: Sequence[Archive], *, skips: bool) -> list[int | None]:
    opened = SQLiteStore(parse(store))
    try:
        ids: list[int | None] = await opened.perform(Restore(archives, skips_existing=skips))
        return ids
    finally:
        await opened.close()


def _warn(unfinished: Sequence[Archive]) -> None:
    workflows = dict.fromkeys(repr(archive.run.workflow) for archive in unfinished)
    names = [archive.run.correlation_id for archive in unfinished]
    output.note(
        f"running or waiting: {_some(names)}; whoever serves workflow {_some(list(workflows))} on "
        "this database goes on with them"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
