"""What `import flowstore` costs, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import Report, Settings, Spread, paired

BAR = 1.25
ROUNDS = 15

_TIMED = """
import time
started = time.perf_counter()
import {modules}
print(time.perf_counter() - started)
"""
_OPEN = """
import asyncio, sys
from flowstore import WorkflowEvent, WorkflowManager

async def main():
    workflow = WorkflowManager({path!r}).register("note", lambda event: None)
    async for _ in workflow.process(WorkflowEvent("note")):
        pass
    await workflow.close()

asyncio.run(main())
print(sorted(name for name in sys.modules if name.split(".")[0] in ("alembic", "mako")))
"""


def measure(settings: Settings) -> Report:
    """Time imports in processes of their own; look for alembic among the modules."""
    report = Report("Start")
    many = Settings(
        settings.directory, settings.data, 3 if settings.quick else ROUNDS, settings.quick
    )
    needed = "sqlalchemy.ext.asyncio, pydantic, aiosqlite"
    for modules in ("flowstore", needed):
        _seconds(modules)  # compiled files are written once
    pairs = paired(many, lambda: _seconds(needed), lambda: _seconds("flowstore"))
    ratio = Spread.of([ours / theirs for theirs, ours in pairs])
    report.add(
        f"start: import flowstore / import {needed}",
        f"{ratio.text('.2f')} times",
        f"<= {BAR}",
        met=ratio.median <= BAR,
    )
    with settings.folder() as folder:
        _run(_OPEN.format(path=str(folder / "store.db")))
        found = _run(_OPEN.format(path=str(folder / "store.db"))).strip()
    report.add(
        "  modules of alembic after a run in a current store",
        "none" if found == "[]" else found,
        "none",
        met=found == "[]",
    )
    report.notes.append(
        f"import flowstore {_milli([ours for _, ours in pairs])}, the others"
        f" {_milli([theirs for theirs, _ in pairs])}, in {len(pairs)} pairs of processes;"
        " the start of Python itself is not counted"
    )
    return report


def _milli(seconds: list[float]) -> str:
    return Spread.of([value * 1e3 for value in seconds]).text(".0f", "ms")


def _seconds(modules: str) -> float:
    return float(_run(_TIMED.format(modules=modules)))


def _run(program: str) -> str:
    # As for users, what is imported has been compiled before.
    written = {key: it for key, it in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=written
    ).stdout
