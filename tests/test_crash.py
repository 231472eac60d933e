"""Killed at any instant, a run goes on from where it was (G1, G2, G3, G4, G5, G9).

Workers are killed with SIGKILL at random moments while they send and handle; then the log,
the states, the steps and the file must be as if nothing had happened. Two stores at a time,
each with a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from crash_check import Wrecked
from programs import environment

CHILD = Path(__file__).with_name("crash_child.py")
CYCLES = 21
TIMEOUT = 150


class Driver:
    """One store whose workers are being killed, each by its parent."""

    def __init__(self, folder: Path, seed: str, cycles: int, variant: str = "good") -> None:
        folder.mkdir()
        self.folder = folder
        self.store = folder / "runs.db"
        self.seed = seed
        with (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, CHILD, self.store, folder, seed, str(cycles), variant],
                env=environment(),
                stderr=errors,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wrecked(self) -> Wrecked:
        code = self.process.wait(TIMEOUT)
        assert code == 0, f"seed {self.seed}: {(self.folder / 'errors').read_text()[-4000:]}"
        return Wrecked(self.store, self.folder)


@pytest.mark.parametrize("number", range(5))
def test_killed_at_random_moments(tmp_path: Path, number: int):
    """2 * 5 stores, 21 kills each: 210 kills."""
    with (
        Driver(tmp_path / "one", f"{number}/one", CYCLES) as one,
        Driver(tmp_path / "two", f"{number}/two", CYCLES) as two,
    ):
        for driver in (one, two):
            wrecked = driver.wrecked()
            assert wrecked.problems()[:5] == [], f"seed {driver.seed}"
            assert len(wrecked.acknowledged) >= CYCLES


@pytest.mark.parametrize(
    ("variant", "finding"),
    [("early", "acknowledged, but 0 times"), ("no-step", "a finished step was run again")],
)
def test_what_is_broken_is_found(tmp_path: Path, variant: str, finding: str):
    """The same check on programs that acknowledge too early, or act outside ctx.step."""
    with Driver(tmp_path / variant, variant, CYCLES, variant) as driver:
        found = driver.wrecked().problems()
    assert any(finding in problem for problem in found), found
