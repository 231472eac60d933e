"""How a command looks into a store: read-only, and only into one that is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from flowstore.errors import (
    RunNotFoundError,
    StoreCorruptError,
    StoreUnavailableError,
    StoreUrlError,
)
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from flowstore.store.base import RunRecord
    from flowstore.store.queries import Queries

_Result = TypeVar("_Result")

EXPORTED = ".jsonl"
"""How files of exported runs end."""


def existing(store: str) -> Path:
    """Return the path of a store that is there.

    Raises:
        StoreUrlError: it is in memory, where no other process can see it, or not understood.
        StoreUnavailableError: there is no such file.
    """
    path = file_of(store)
    if not path.exists():
        message = f"{path}: there is no database; name one with --store or FLOWSTORE_URL"
        raise StoreUnavailableError(message)
    return path


def file_of(store: str) -> Path:
    """Return the path of a store, which need not be there.

    Raises:
        StoreUrlError: it is in memory, where no other process can see it, or not understood.
    """
    path = parse(store).path
    if path is None:
        message = f"store {store!r}: is in the memory of one process; name a file"
        raise StoreUrlError(message)
    return path


def read(store: str, work: Callable[[Queries], Coroutine[Any, Any, _Result]]) -> _Result:
    """Do something with the queries of a store that is there."""
    path = existing(store)
    try:
        return asyncio.run(work(open_queries(parse(store))))
    except StoreCorruptError as error:
        if path.suffix != EXPORTED:
            raise
        message = f"{error}; if it holds exported runs: flowstore import {path} --store NEW.db"
        raise StoreCorruptError(message) from error


async def find_run(queries: Queries, correlation_id: str, store: str) -> RunRecord:
    """Return a run.

    Raises:
        RunNotFoundError: there is none.
    """
    run = await queries.get_run(correlation_id)
    if run is None:
        message = (
            f"{file_of(store)}: there is no run {correlation_id!r}; `flowstore runs` lists them"
        )
        raise RunNotFoundError(message)
    return run
