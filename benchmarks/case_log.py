"""A real process log through `examples/case_log.py`: speed, memory, and the right answer."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import Report, Settings, Spread, say

SPEED = 8_000
GROWTH = 1.1
COPIES = 3
LOG = "incidents.jsonl.gz"
EVENTS, CASES = 65_533, 7_554
EXAMPLE = Path(__file__).parent.parent / "examples" / "case_log.py"


@dataclass(frozen=True, slots=True)
class _Feed:
    speed: float
    peak: int
    store: int


def measure(settings: Settings) -> Report:
    """Feed a log, and one three times as long whose cases have other names."""
    report = Report("Case log")
    with settings.folder() as folder:
        log, source = source_of(settings, folder)
        longer = folder / "longer.jsonl.gz"
        _copies(log, longer)
        rounds = min(3, settings.rounds)
        short = [_feed(settings, log) for _ in range(rounds)]
        say(f"case log: {COPIES} times as long")
        long = [_feed(settings, longer) for _ in range(min(2, rounds))]
    speed = Spread.of([feed.speed for feed in short])
    report.add(
        f"case log: {source}",
        speed.text(unit="events/s"),
        f">= {SPEED:,}",
        met=speed.median >= SPEED,
    )
    report.add(
        f"  a log {COPIES} times as long",
        Spread.of([feed.speed for feed in long]).text(unit="events/s"),
    )
    peaks = max(feed.peak for feed in short), max(feed.peak for feed in long)
    report.add(
        f"  peak memory, {COPIES} times as long / once",
        f"{peaks[1] / peaks[0]:.2f} times ({peaks[0] / 1e6:.0f} MB, {peaks[1] / 1e6:.0f} MB)",
        f"<= {GROWTH}",
        met=peaks[1] / peaks[0] <= GROWTH,
    )
    report.notes += [
        (
            "a whole process each time: start, feed, summary, exit; cases, events and hand-overs"
            " are compared with a plain fold"
        ),
        (
            f"the store takes {short[-1].store / 1e6:.0f} MB, the longer one"
            f" {long[-1].store / 1e6:.0f} MB"
        ),
    ]
    return report


def source_of(settings: Settings, folder: Path) -> tuple[Path, str]:
    """Return the real log if it is there, else one that is made; and what it is called."""
    real = settings.data / LOG
    if real.exists() and not settings.quick:
        return real, f"{LOG} ({EVENTS:,} events of {CASES:,} cases)"
    made = folder / "made.jsonl.gz"
    events, cases = settings.size(EVENTS, 3_000), settings.size(CASES, 350)
    _generate(made, events, cases)
    return made, f"a generated log ({events:,} events of {cases:,} cases)"


def _generate(path: Path, events: int, cases: int) -> None:
    """Write a log with lines as long as the real one's; some hundred cases are open at once."""
    chance = random.Random(events)
    activities = ["Accepted", "Queued", "Completed", "Unmatched"]
    people = [f"Person {number}" for number in range(300)]
    moment = datetime(2010, 3, 31, tzinfo=UTC)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for number in range(events):
            moment += timedelta(seconds=chance.randrange(600))
            newest = number * cases // events
            row = {
                "id": f"made-{number}",
                "case": f"1-{364_000_000 + max(0, newest - int(chance.expovariate(1 / 50)))}",
                "activity": chance.choice(activities),
                "lifecycle": "In Progress",
                "time": moment.isoformat(),
                "group": f"V{chance.randrange(40)} 3rd",
                "resource": chance.choice(people),
                "note": "-" * 100,
            }
            lines.write(json.dumps(row) + "\n")


def _copies(log: Path, longer: Path) -> None:
    with gzip.open(longer, "wt", encoding="utf-8", compresslevel=1) as target:
        for copy in range(COPIES):
            with gzip.open(log, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    row["case"] = f"{row['case']}~{copy}"
                    target.write(json.dumps(row) + "\n")


def _feed(settings: Settings, log: Path) -> _Feed:
    with settings.folder() as folder:
        store = folder / "store.db"
        command = [sys.executable, str(EXAMPLE), str(log), "--store", str(store), "--json"]
        started = time.perf_counter()
        output, errors = folder / "output", folder / "errors"
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err)
            peak = _watch(process)
        elapsed = time.perf_counter() - started
        if process.returncode:
            raise AssertionError(errors.read_text())
        summary = json.loads(output.read_text())
        _check(log, summary)
        return _Feed(summary["events"] / elapsed, peak, store.stat().st_size)


def _watch(process: subprocess.Popen[bytes]) -> int:
    """Return the process's greatest memory, in bytes, when it has ended."""
    # A child's ru_maxrss starts from its parent's; the high-water mark is its own.
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while process.poll() is None:
        try:
            words = status.read_text().split()
            peak = int(words[words.index("VmHWM:") + 1]) * 1024
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    return peak


def _check(log: Path, summary: dict[str, Any]) -> None:
    last: dict[str, str | None] = {}
    found: Counter[str] = Counter()
    with gzip.open(log, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found["events"] += 1
            if row["case"] in last:
                found["hand_overs"] += last[row["case"]] != row.get("resource")
            last[row["case"]] = row.get("resource")
    found["cases"] = len(last)
    for name, value in found.items():
        if summary[name] != value:
            message = f"{name}: the summary has {summary[name]}, a plain fold {value}"
            raise AssertionError(message)
