"""The page docs/checking.md as its readers follow it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from programs import ROOT, TIMEOUT, environment
from test_debugging import commands, matches
from test_readme import blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")


def shell(line: str, folder: Path) -> str:
    """Run a command as somebody does who has activated the environment."""
    folder = folder.parent / "bin"
    return subprocess.run(
        ["/bin/sh", "-c", f"PATH='{folder}':$PATH\n{line}"],
        cwd=folder.parent / "shop",
        env={
            **environment(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    ).stdout


def change(text: str, folder: Path) -> None:
    """Make the change that a diff shows."""
    name, before, after = (line[1:] for line in text.splitlines())
    file = folder / name.removeprefix("-- ")
    source = file.read_text()
    assert source.count(f"{before}\n") == 1
    file.write_text(source.replace(f"{before}\n", f"{after}\n"))


def test_the_page(tmp_path: Path):
    folder = tmp_path / "shop"
    for each in (folder / "runs", tmp_path / "bin"):
        each.mkdir(parents=True)
    for name, words in (("python", '"$@"'), ("flowstore", '-m flowstore.cli "$@"')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {words}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    followed = 0
    for block in blocks(PAGE):
        if block.language == "python":
            (folder / block.text.split("\n")[0].removeprefix("# ")).write_text(block.text)
        elif block.language == "diff":
            change(block.text, folder)
        elif block.language == "console":
            for command in commands(block):
                output = shell(command.line, folder)
                # Notes are for a person, and of no use on every line of the page.
                lines = [line for line in output.splitlines() if not line.startswith("(look")]
                printed = "".join(f"{line}\n" for line in lines)
                assert matches(command.shown, printed), (command.line, printed)
                followed += 1
    assert followed == 12
