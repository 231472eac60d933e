"""The command line whose standard streams are closed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import checked
import pytest
from test_check import begin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
async def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path, monkeypatch)
    await checked.record(tmp_path / "flowstore.db")


def closed(command: str, streams: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m flowstore.cli {command} {streams}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("runs", 0),
        ("replay order-1 --app checked:dearer", 1),
        ("show nothing", 1),
        ("runs --nonsense", 2),
        ("import -", 1),
        ("tail --once", 0),
    ],
)
def test_the_exit_code_is_all_that_is_told(command: str, code: int):
    done = closed(command, "<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_mistakes_are_told_without_an_output():
    done = closed("show nothing", ">&-")
    assert done.returncode == 1
    assert done.stderr.startswith("flowstore: flowstore.db: there is no run")


def test_a_debugger_without_input_is_left():
    """The input that is missing is nothing that the handler has failed of."""
    done = closed("replay order-1 --app checked:dearer --pdb", "<&-")
    assert done.returncode == 1
    assert "diverged" not in done.stdout
    assert done.stderr == "(the debugger was left, so nothing was compared)\n"
