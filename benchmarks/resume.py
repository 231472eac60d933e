"""Runs killed half way and finished by a new process, against the same work uninterrupted."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, Spread, paired

if TYPE_CHECKING:
    from pathlib import Path

BAR = 1.5
EVENTS = 10


@dataclass(frozen=True, slots=True)
class _Timing:
    process: float
    work: float


def measure(settings: Settings) -> Report:
    """Time the second half of interrupted runs, and the two halves together."""
    runs = settings.size(1_000, 200)
    report = Report("Resume")
    works: dict[str, list[float]] = {"fresh": [], "finish": []}

    def fresh() -> float:
        timing = _fresh(settings, runs, EVENTS // 2)
        works["fresh"].append(timing.work)
        return timing.process

    def finish() -> float:
        timing = _finish(settings, runs)
        works["finish"].append(timing.work)
        return timing.process

    pairs = paired(settings, fresh, finish)
    ratio = Spread.of([late / base for base, late in pairs])
    inner = Spread.of(
        [late / base for base, late in zip(works["fresh"], works["finish"], strict=True)]
    )
    name = f"resume: {runs:,} runs of {EVENTS} events, all killed after half of them"
    report.add(
        f"{name}: finishing / a fresh process doing as many events",
        f"{ratio.text('.2f')} times",
        f"<= {BAR}",
        met=ratio.median <= BAR,
    )
    report.add("  the same without starting Python", f"{inner.text('.2f')} times")
    both = paired(
        settings,
        lambda: _fresh(settings, runs, EVENTS).process,
        lambda: _killed(settings, runs),
    )
    ratio = Spread.of([late / base for base, late in both])
    report.add(
        "  killed when half of all events are handled: both processes / one uninterrupted",
        f"{ratio.text('.2f')} times",
    )
    report.notes += [
        (
            f"finishing {Spread.of([late for _, late in pairs]).text('.2f')} s, fresh"
            f" {Spread.of([base for base, _ in pairs]).text('.2f')} s; both processes"
            f" {Spread.of([late for _, late in both]).text('.2f')} s, one uninterrupted"
            f" {Spread.of([base for base, _ in both]).text('.2f')} s"
        ),
        (
            "whole processes, from start to exit, on a store that exists; SIGKILL; the end of"
            " every run is checked"
        ),
    ]
    return report


def _command(mode: str, store: Path, runs: int, events: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "benchmarks.resume_work",
        mode,
        str(store),
        str(runs),
        str(events),
    ]


def _time(mode: str, store: Path, runs: int, events: int) -> _Timing:
    started = time.perf_counter()
    done = subprocess.run(
        _command(mode, store, runs, events), check=True, capture_output=True, text=True
    )
    process = time.perf_counter() - started
    return _Timing(process, float(done.stdout.split()[-1]))


def _kill_at_half(mode: str, store: Path, runs: int, events: int) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        _command(mode, store, runs, events), stdout=subprocess.PIPE, text=True
    ) as process:
        word = process.stdout.readline().strip() if process.stdout else ""
        process.send_signal(signal.SIGKILL)
        process.wait()
    if word != "half":
        message = f"the process to be killed said {word!r} instead of 'half'"
        raise AssertionError(message)
    return time.perf_counter() - started


def _fresh(settings: Settings, runs: int, events: int) -> _Timing:
    with settings.folder() as folder:
        store = folder / "store.db"
        _time("create", store, runs, events)
        timing = _time("whole", store, runs, events)
        _check(store, runs, events)
        return timing


def _finish(settings: Settings, runs: int) -> _Timing:
    with settings.folder() as folder:
        store = folder / "store.db"
        _time("create", store, runs, EVENTS)
        _kill_at_half("stop", store, runs, EVENTS)
        timing = _time("finish", store, runs, EVENTS)
        _check(store, runs, EVENTS)
        return timing


def _killed(settings: Settings, runs: int) -> float:
    with settings.folder() as folder:
        store = folder / "store.db"
        _time("create", store, runs, EVENTS)
        before = _kill_at_half("whole", store, runs, EVENTS)
        after = _time("finish", store, runs, EVENTS).process
        _check(store, runs, EVENTS)
        return before + after


def _check(store: Path, runs: int, events: int) -> None:
    connection = sqlite3.connect(store)
    found = connection.execute(
        "SELECT count(*) FROM run WHERE correlation_id LIKE 'run-%'"
        " AND head = ? AND cursor = ? AND status = 'idle'",
        (events, events),
    ).fetchone()
    connection.close()
    if found != (runs,):
        message = f"{found[0]} of {runs} runs came to their end"
        raise AssertionError(message)
