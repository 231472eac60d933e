"""Whole runs, of a store that is only read, or of a file that was exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowstore.cli.reading import EXPORTED, file_of, read
from flowstore.errors import RunNotFoundError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowstore.store.archive import Archive
    from flowstore.store.queries import Queries

STANDARD = "-"

_RUNS_AT_ONCE = 200
_EVENTS_AT_ONCE = 5000


def is_exported(store: str) -> bool:
    """Tell whether this is no database but a file of exported runs, or standard input."""
    return store == STANDARD or store.endswith(EXPORTED)


def archive_of(store: str, correlation_id: str) -> Archive:
    """Return all there is of a run.

    Args:
        store: the database, or a file of exported runs; ``-`` for such a file on standard input.
        correlation_id: the run.

    Raises:
        RunNotFoundError: there is no such run.
        StoreUnavailableError: there is no such file.
    """
    if is_exported(store):
        return _exported(Path(store), correlation_id)

    async def work(queries: Queries) -> list[Archive]:
        return await queries.read_archives([correlation_id])

    found = read(store, work)
    if not found:
        message = f"{file_of(store)}: there is no run {correlation_id!r}"
        raise RunNotFoundError(f"{message}; `flowstore runs` lists them")
    return found[0]


def exported_in(path: Path) -> list[Archive]:
    """Return the runs of a file.

    Raises:
        StoreUnavailableError: there is no such file.
        RunFileError: it is not such a file.
    """
    from flowstore.replay import read_file  # noqa: PLC0415 - most commands do not need it

    if str(path) != STANDARD and not path.exists():
        raise StoreUnavailableError(
            f"{path}: there is no such file; make one with flowstore export"
        )
    return read_file(path)


def batches(runs: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Gather runs so that what is read at a time stays small, however long or many they are.

    Args:
        runs: the name of each, and how many events it has.
    """
    batch: list[str] = []
    events = 0
    for name, head in runs:
        if batch and (len(batch) == _RUNS_AT_ONCE or events + head > _EVENTS_AT_ONCE):
            yield batch
            batch, events = [], 0
        batch.append(name)
        events += head
    if batch:
        yield batch


def _exported(path: Path, correlation_id: str) -> Archive:
    for archive in exported_in(path):
        if archive.run.correlation_id == correlation_id:
            return archive
    raise RunNotFoundError(f"{path}: there is no run {correlation_id!r}")
