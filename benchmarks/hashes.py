"""What the hash of each event costs where it matters most: many runs at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.fan_out import process
from benchmarks.measure import Report, Settings, Spread, paired
from flowstore.store import chain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def measure(settings: Settings) -> Report:
    """Compare the fan-out with one whose hashes are a constant; the rows are as long."""
    runs = settings.size(1_000, 300)
    report = Report("Hashes")

    def ours() -> float:
        started = time.process_time()
        with settings.folder() as folder:
            asyncio.run(process(folder / "store.db", runs))
        return time.process_time() - started

    def without() -> float:
        link, chain.link = chain.link, _constant
        try:
            return ours()
        finally:
            chain.link = link

    pairs = paired(settings, without, ours)
    ratio = Spread.of([mine / bare for bare, mine in pairs])
    report.add(
        "hash chain: processor time of the fan-out, with / without hashing",
        f"{ratio.text('.3f')} times",
    )
    return report


def _constant(_before: bytes, _cells: Sequence[Any]) -> bytes:
    return bytes(chain.HASH_BYTES)
