"""Which recorded runs a command goes through, and reading them, some at a time and ahead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from flowstore.cli.archives import batches, exported_in, is_exported
from flowstore.cli.reading import existing
from flowstore.errors import RunNotFoundError, StoreCorruptError
from flowstore.replay.check import Verdict, unreadable
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import RunRecord
    from flowstore.store.queries import Queries

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs are meant.

    Attributes:
        workflow: runs of this workflow.
        runs: only these; empty for all.
        since: only runs with something new since; microseconds since 1970.
        statuses: only runs with one of these; empty for all.
        limit: how many at most, the youngest.
    """

    workflow: str
    runs: tuple[str, ...] = ()
    since: int | None = None
    statuses: frozenset[str] = frozenset()
    limit: int | None = None

    def has(self, status: str, updated_at: int) -> bool:
        """Tell whether a run of the workflow is one of them."""
        if self.since is not None and updated_at < self.since:
            return False
        return not self.statuses or status in self.statuses


class Runs(Protocol):
    """Recorded runs, of a store or of a file."""

    async def find(self, wanted: Wanted) -> int:
        """Find those that are wanted, and return how many they are.

        Raises:
            RunNotFoundError: one that is named is not there, or none of the workflow.
        """
        ...

    def read(self) -> AsyncGenerator[Archive | Verdict]:
        """Yield what was found; a verdict on one that cannot be read.

        Called again, it goes on behind the last that was yielded.
        """
        ...


def runs_in(store: str) -> Runs:
    """Return the runs of a database, or of a file of exported runs; ``-`` is standard input."""
    if is_exported(store):
        return FileRuns(Path(store))
    existing(store)
    return StoreRuns(open_queries(parse(store)))


class FileRuns:
    """The runs of an exported file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest: Iterator[Archive] = iter(())

    async def find(self, wanted: Wanted) -> int:
        """Read the file and choose."""
        archives = exported_in(self._path)
        by_name = {each.run.correlation_id: each for each in archives}
        if wanted.runs:
            _require(wanted, {name: each.run.workflow for name, each in by_name.items()})
            archives = [by_name[name] for name in dict.fromkeys(wanted.runs)]
        archives = [each for each in archives if each.run.workflow == wanted.workflow]
        if not archives:
            raise _none(wanted, sorted({each.run.workflow for each in by_name.values()}))
        found = [
            each for each in archives if wanted.has(each.run.shown_status, each.run.updated_at)
        ]
        found = found[: wanted.limit]
        self._rest = iter(found)
        return len(found)

    async def read(self) -> AsyncGenerator[Archive | Verdict]:
        """Yield them."""
        for each in self._rest:
            yield each


class StoreRuns:
    """The runs of a database, which is only read.

    Args:
        queries: what reads it.
    """

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._found: list[RunRecord] = []
        self._place: dict[str, int] = {}
        self._yielded = 0

    async def find(self, wanted: Wanted) -> int:
        """List the runs, the youngest first, and choose."""
        if wanted.runs:
            records = await self._named(wanted)
        else:
            records = [each async for each in self._listed(wanted)]
        self._found = records[: wanted.limit]
        self._place = {each.correlation_id: count for count, each in enumerate(self._found, 1)}
        return len(self._found)

    async def _named(self, wanted: Wanted) -> list[RunRecord]:
        names = list(dict.fromkeys(wanted.runs))
        found = [await self._queries.get_run(name) for name in names]
        records = [each for each in found if each is not None]
        _require(wanted, {each.correlation_id: each.workflow for each in records})
        return [each for each in records if wanted.has(each.status, each.updated_at)]

    async def _listed(self, wanted: Wanted) -> AsyncIterator[RunRecord]:
        before: str | None = None
        while page := await self._queries.list_runs(
            workflow=wanted.workflow, before=before, limit=_PAGE
        ):
            for each in page:
                if wanted.has(each.status, each.updated_at):
                    yield each
            before = page[-1].correlation_id
        if before is None:
            others = {each.workflow for each in await self._queries.list_runs(limit=_PAGE)}
            raise _none(wanted, sorted(others))

    async def read(self) -> AsyncGenerator[Archive | Verdict]:
        """Yield them, reading the next while the last are at work."""
        reading: asyncio.Task[list[Archive | Verdict]] | None = None
        try:
            rest = ((each.correlation_id, each.head) for each in self._found[self._yielded :])
            for batch in (*batches(rest), None):
                last = reading
                reading = None if batch is None else asyncio.create_task(self._read(batch))
                for each in [] if last is None else await last:
                    self._yielded = self._place[_name_of(each)]
                    yield each
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])

    async def _read(self, names: Sequence[str]) -> list[Archive | Verdict]:
        try:
            return [*await self._queries.read_archives(names)]
        except StoreCorruptError as error:
            if len(names) == 1:
                return [unreadable(names[0], error)]
            # The others may be whole.
            parts = [await self._read([name]) for name in names]
            return [each for part in parts for each in part]


def _name_of(found: Archive | Verdict) -> str:
    return found.correlation_id if isinstance(found, Verdict) else found.run.correlation_id


def _require(wanted: Wanted, workflows: dict[str, str]) -> None:
    """Refuse names of runs that are not there, or are of another workflow."""
    for name in wanted.runs:
        if name not in workflows:
            raise RunNotFoundError(f"there is no run {name!r}; `flowstore runs` lists them")
        if workflows[name] != wanted.workflow:
            raise RunNotFoundError(
                f"run {name!r} is of workflow {workflows[name]!r}, not of {wanted.workflow!r}; "
                f"check it as one of that with --workflow {workflows[name]!r}"
            )


def _none(wanted: Wanted, others: list[str]) -> RunNotFoundError:
    there = f"; there are runs of {', '.join(map(repr, others))}" if others else ""
    return RunNotFoundError(
        f"there are no runs of workflow {wanted.workflow!r}{there}: see --store and --workflow"
    )
