"""What every group shares: its place on the disk, repetitions, and what it reports."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes:
        directory: a folder on the disk that is measured.
        data: the folder with real process logs; it may be missing.
        rounds: how often each pair of measurements is repeated.
        quick: make every workload small, to see that it runs; the figures mean little.
    """

    directory: Path
    data: Path
    rounds: int
    quick: bool

    def size(self, full: int, quick: int) -> int:
        """Return the size of a workload."""
        return quick if self.quick else full

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Make an empty folder on the measured disk, and remove it afterwards."""
        path = self.directory / uuid.uuid4().hex
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results.

    Attributes:
        workload: what was done.
        measured: what came out, with its spread.
        bar: what it must reach; empty if it is only told.
        met: whether it does; None if there is no bar.
    """

    workload: str
    measured: str
    bar: str = ""
    met: bool | None = None


@dataclass(slots=True)
class Report:
    """What a group found out: its rows, and lines that explain them."""

    title: str
    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])

    def add(self, workload: str, measured: str, bar: str = "", *, met: bool | None = None) -> None:
        """Add a row."""
        self.rows.append(Row(workload, measured, bar, met))


Group = Callable[[Settings], Report]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of repeated measurements, and how far they went."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up measurements."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str = ",.0f", unit: str = "") -> str:
        """Write ``median (low-high) unit``."""
        body = f"{self.median:{form}} ({self.low:{form}}-{self.high:{form}})"
        return f"{body} {unit}" if unit else body


def paired(
    settings: Settings, one: Callable[[], float], other: Callable[[], float]
) -> list[tuple[float, float]]:
    """Measure two things in turn, so that a slow spell of the disk meets both.

    The order changes from round to round, so that neither always comes second.
    """
    pairs: list[tuple[float, float]] = []
    for number in range(settings.rounds):
        if number % 2:
            second = other()
            pairs.append((one(), second))
        else:
            first = one()
            pairs.append((first, other()))
    return pairs


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
