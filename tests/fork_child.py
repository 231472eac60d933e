"""Forks run ``r`` at 40, and is killed when all but its last rows have been written.

The folder has ``runs.db``; the fork goes into ``copy.db``: as the command does it, or, told to be
``careless``, row by row without a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowstore.codec import Codec
from flowstore.replay.fork import fork
from flowstore.replay.fork_writing import place
from flowstore.store.readonly import open_queries
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from flowstore.store.archive import Archive

AT = 40


class Fatal(list[Any]):
    """Rows whose writing ends the process."""

    def __iter__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path, how: str) -> None:
    codec = Codec()
    [archive] = await open_queries(StoreUrl(folder / "runs.db")).read_archives(["r"])
    store = SQLiteStore(StoreUrl(folder / "copy.db"))
    await store.open()

    def make(name: str) -> Archive:
        made = fork(archive, at=AT, name=name, now=archive.run.updated_at, codec=codec)
        made.chunks = Fatal()
        return made

    if how == "careless":

        def begin_no_transaction(session: Any) -> None:
            session._begin = session._turn.acquire
            session._connection.execute("PRAGMA synchronous=OFF")

        await store._call(begin_no_transaction)
    with contextlib.suppress(Exception):
        await place(store, codec, make, source="r", at=AT)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
