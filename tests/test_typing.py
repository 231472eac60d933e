"""Type checkers accept what users write, and see their mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ACCEPTED = Path(__file__).with_name("typing_accepted.py")


def _mypy(program: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-incremental",
            "--config-file=",
            f"--cache-dir={cache}",
            "--follow-imports=silent",
            "--python-version=3.11",
            str(program),
        ],
        cwd=ACCEPTED.parent.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_typical_code_is_accepted(tmp_path: Path) -> None:
    done = _mypy(ACCEPTED, tmp_path)
    assert done.stdout == "Success: no issues found in 1 source file\n"


def test_mistakes_are_seen(tmp_path: Path) -> None:
    """The control to the one above: the types are not all Any."""
    program = tmp_path / "mistakes.py"
    program.write_text(
        "from flowstore import Retry, WorkflowEvent, WorkflowManager\n"
        "workflow = WorkflowManager(concurrency='many')\n"
        "workflow.register(7, print)\n"
        "Retry(attempts='three')\n"
        "WorkflowEvent(name=1)\n"
        "async def main() -> int:\n"
        "    receipt = await workflow.send(WorkflowEvent('go'), id=7)\n"
        "    return receipt.status\n"
    )
    done = _mypy(program, tmp_path)
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == {"2", "3", "4", "5", "7", "8"}, done.stdout
