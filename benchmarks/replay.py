"""Old runs and the code at hand: executed again, checked, exported and imported."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.case_log import EXAMPLE, source_of
from benchmarks.measure import Report, Settings, Spread, say
from flowstore.replay import rerun
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from pathlib import Path

SPEED = 5_000
CHECK_SECONDS = 60
FILE_SPEED = 20_000
RUNS_AT_ONCE = 200


def measure(settings: Settings) -> Report:
    """Load a log once; then do each thing with all of its runs."""
    report = Report("Replay")
    rounds = min(3, settings.rounds)
    with settings.folder() as folder:
        log, source = source_of(settings, folder)
        store = folder / "store.db"
        say("replay: loading the log")
        _run(EXAMPLE, str(log), "--store", str(store), "--json")
        found = [asyncio.run(_execute(store)) for _ in range(rounds)]
        speed = Spread.of([events / seconds for events, seconds in found])
        report.add(
            f"replay: rerun over all runs of {source}",
            speed.text(unit="events/s"),
            f">= {SPEED:,}",
            met=speed.median >= SPEED,
        )
        app = f"{EXAMPLE}:workflow"
        check = _times(rounds, "check", "--app", app, "--store", str(store))
        report.add(
            "  flowstore check, the whole command",
            check.text(".1f", "s"),
            f"<= {CHECK_SECONDS} s",
            met=check.median <= CHECK_SECONDS,
        )
        verify = _times(rounds, "verify", "--store", str(store))
        report.add("  flowstore verify, the whole command", verify.text(".1f", "s"))
        _files(report, rounds, folder, events=found[0][0])
    return report


def _files(report: Report, rounds: int, folder: Path, *, events: int) -> None:
    store, file, other = folder / "store.db", folder / "runs.jsonl", folder / "other.db"
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        for path in folder.glob("other.db*"):
            path.unlink()
        file.unlink(missing_ok=True)
        out = _time("export", "--all", "-o", str(file), "--store", str(store))
        times.append((out, _time("import", str(file), "--store", str(other))))
    for index, name in enumerate(("export", "import")):
        speed = Spread.of([events / pair[index] for pair in times])
        report.add(
            f"  flowstore {name} of them all, the whole command",
            speed.text(unit="events/s"),
            f">= {FILE_SPEED:,}",
            met=speed.median >= FILE_SPEED,
        )
    report.notes.append(f"the file has {file.stat().st_size / 1e6:.0f} MB, {events:,} events")


async def _execute(store: Path) -> tuple[int, float]:
    """Return events and seconds of executing every run again; reading them is not counted."""
    queries = open_queries(StoreUrl(store))
    workflow = _example().workflow()
    names = [run.correlation_id for run in await queries.list_runs()]
    events, seconds = 0, 0.0
    for start in range(0, len(names), RUNS_AT_ONCE):
        archives = await queries.read_archives(names[start : start + RUNS_AT_ONCE])
        started = time.perf_counter()
        for archive in archives:
            again = await rerun(workflow, archive)
            if not again.is_identical:
                raise AssertionError(again.divergence)
            events += again.events
        seconds += time.perf_counter() - started
    return events, seconds


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("case_log_example", EXAMPLE)
    if spec is None or spec.loader is None:
        message = f"{EXAMPLE} cannot be imported"
        raise AssertionError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _times(rounds: int, *words: str) -> Spread:
    return Spread.of([_time(*words) for _ in range(rounds)])


def _time(*words: str) -> float:
    started = time.perf_counter()
    _run("-m", "flowstore.cli", *words)
    return time.perf_counter() - started


def _run(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(done.stderr)
