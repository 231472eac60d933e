"""Run the benchmarks and write their results."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Report, Settings, say

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUPS = (
    "chain",
    "fan_out",
    "hashes",
    "growth",
    "resume",
    "duplicates",
    "waiting",
    "timers",
    "waits",
    "streams",
    "tasks",
    "start",
    "time_travel",
    "replay",
    "case_log",
)
ROOT = Path(__file__).parent.parent


def main() -> int:
    """Measure, print, write; fail if a bar is missed."""
    options = _options()
    load = os.getloadavg()[0]
    directory: Path = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    settings = Settings(directory, options.data, options.rounds, options.quick)
    reports: list[Report] = []
    for name in options.only or GROUPS:
        say(f"measuring {name}")
        group = importlib.import_module(f"benchmarks.{name}")
        reports.append(group.measure(settings))
        sys.stdout.write(_table([reports[-1]]) + "\n")
        sys.stdout.flush()
    if not any(directory.iterdir()):
        directory.rmdir()
    text = _document(reports, settings, load)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
        say(f"wrote {options.output}")
    missed = [row.workload for report in reports for row in report.rows if row.met is False]
    for workload in missed:
        say(f"below its bar: {workload.strip()}")
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="one group; repeatable")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--rounds", type=int, help="repetitions of each pair (default 5)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(".benchmarks"),
        help="where the databases are made; must be on a real disk",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with incidents.jsonl.gz; without it a log is generated",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="where to write the results (default benchmarks/RESULTS.md for a full run)",
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    if options.output is None and not options.quick and not options.only:
        options.output = ROOT / "benchmarks" / "RESULTS.md"
    return options


def _document(reports: Sequence[Report], settings: Settings, load: float) -> str:
    command = "python -m benchmarks"
    if sys.argv[1:]:
        command += " " + " ".join(Path(word).name for word in sys.argv[1:])
    parts = [
        "# Benchmarks",
        (
            f"Made by `{command}` on {time.strftime('%Y-%m-%d', time.gmtime())}, with"
            f" `synchronous=FULL`. Figures are medians of {settings.rounds} repetitions, with the"
            " lowest and highest in brackets; ratios are taken pair by pair, of measurements made"
            " one after the other."
        ),
        "\n".join(f"- {line}" for line in _machine(settings.directory, load)),
        _table(reports),
    ]
    for report in reports:
        if report.notes:
            notes = "\n".join(f"- {note}" for note in report.notes)
            parts.append(f"## {report.title}\n\n{notes}")
    if settings.quick:
        parts.insert(1, "**A quick run with small sizes: its figures mean little.**")
    return "\n\n".join(parts) + "\n"


def _table(reports: Sequence[Report]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| workload | measured | bar | met |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.workload.strip()} | {row.measured} | {row.bar} | {marks[row.met]} |"
        for report in reports
        for row in report.rows
    ]
    return "\n".join(lines)


def _machine(directory: Path, load: float) -> list[str]:
    kind = _filesystem(directory)
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if _git("status", "--porcelain", "flowstore", "examples", "benchmarks/*.py"):
        commit += " with uncommitted changes"
    facts = [
        f"flowstore at commit {commit}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {kind}",
        f"load before the first measurement: {load:.1f}; others at work make it slower",
    ]
    if kind in {"tmpfs", "ramfs"}:
        facts.append("**not a real disk: a commit costs nothing here**")
    return facts


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


def _filesystem(directory: Path) -> str:
    """Return the type of the file system that a folder is on."""
    best = ("", "unknown file system")
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8")
    except OSError:
        return best[1]
    place = directory if directory.exists() else directory.parent
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        if place.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


if __name__ == "__main__":
    sys.exit(main())
