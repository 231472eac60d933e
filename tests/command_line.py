"""Starting the command line: as a program of its own, or in this process to save its start."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowstore.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder, with nothing of the tester's environment."""
    monkeypatch.chdir(folder)
    # A program that is loaded there is found by its folder, which is not to be searched later.
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("FLOWSTORE_URL", "FLOWSTORE_APP"):
        monkeypatch.delenv(name, raising=False)
    # A program that asks for colour in every case gets none in a pipe either.
    monkeypatch.setenv("FORCE_COLOR", "1")


def start(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program; its output is a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "flowstore.cli", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
        **options,
    )


def show(*arguments: str, columns: int = 200, code: int = 0, **environment: str) -> str:
    """Run the program in a terminal; return all that it has shown there.

    Args:
        arguments: of the program.
        columns: how wide the terminal is.
        code: with which exit code the program has to end.
        environment: what it gets beside the variables of this process.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", *arguments],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environment},
    ) as program:
        os.close(theirs)
        shown = b""
        # Linux reports the end of a terminal as an error.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert program.returncode == code
    return shown.decode().replace("\r\n", "\n")


@contextlib.contextmanager
def _no_modules_of_others() -> Iterator[None]:
    """Import programs in the working directory as a process of its own would.

    A module of this process may have the same name, as the modules beside this one have theirs.
    """
    names = {path.stem for path in Path.cwd().glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    searched = [*sys.path]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(others)
        sys.path[:] = searched


class Called:
    """What a command line came to in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str], *arguments: str) -> None:
        capfd.readouterr()
        with _no_modules_of_others():
            self.code = main(arguments)
        self.out, self.err = capfd.readouterr()

    @property
    def json(self) -> Any:
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)
