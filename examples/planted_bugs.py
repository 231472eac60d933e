"""Make the five broken copies of the writing pipeline that docs/debugging.md examines.

    python examples/planted_bugs.py planted

Each is a folder of its own with the program, its inbox and the ``flowstore.db`` that it has left
behind; two more have nothing wrong with them. What is wrong with a copy is on the page: the diff
that mends it is undone here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "debugging.md"
TIDES = "tides-7@musee.example"
LIGHTHOUSE = "lighthouse-1@harbour.example"

# Runs the program, and kills it at its first call of a tool: the tool has done its work, and
# nothing is recorded yet.
KILLER = """
import os, runpy, signal, sys
from writing.tools import Desk
note = Desk._called
def noted(*arguments, **keywords):
    note(*arguments, **keywords)
    os.kill(os.getpid(), signal.SIGKILL)
Desk._called = noted
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What one of the copies does beyond the example, rightly: it notes when something happened.
TIMES = """\
--- writing_pipeline.py
@@
-    ctx.state.history.append(type(event).__name__)
+    ctx.state.history.append(f"{ctx.now():%H:%M:%S.%f} {type(event).__name__}")
"""


class Change:
    """A diff of the page: which lines of which files become which."""

    def __init__(self, text: str) -> None:
        files = re.split(r"^--- (\S+)\n", text, flags=re.MULTILINE)[1:]
        self._hunks = [
            (path, _side(hunk, "-"), _side(hunk, "+"))
            for path, lines in zip(files[::2], files[1::2], strict=True)
            for hunk in re.split(r"^@@.*\n", lines, flags=re.MULTILINE)[1:]
        ]
        if not self._hunks:
            raise ValueError(f"this is no diff with --- and @@:\n{text}")

    def apply(self, folder: Path) -> None:
        """Make the change in a copy of the program."""
        for path, old, new in self._hunks:
            _replace(folder / path, old, new)

    def undo(self, folder: Path) -> None:
        """Take the change back."""
        for path, old, new in self._hunks:
            _replace(folder / path, new, old)


def _side(hunk: str, sign: str) -> str:
    lines = hunk.splitlines(keepends=True)
    return "".join(line[1:] for line in lines if line[0] in {" ", sign})


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{file} does not have these lines exactly once:\n{old}")
    file.write_text(text.replace(old, new), encoding="utf-8")


def changes(name: str) -> list[Change]:
    """Return the diffs of a section of the page, by the name of its folder."""
    page = PAGE.read_text(encoding="utf-8")
    for section in page.split("\n## "):
        if f"$ cd planted/{name}\n" in section:
            diffs = re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
            return list(map(Change, diffs))
    raise ValueError(f"{PAGE} has no section about {name}")


# --- what the copies do -------------------------------------------------------------------


def run(folder: Path, *words: str) -> None:
    """Run the copy."""
    done = start(folder, "writing_pipeline.py", *words)
    if done.returncode:
        raise RuntimeError(f"{folder.name}: {done.stderr}")


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy: with its own store, and no compiled files that grow old."""
    kept = {key: value for key, value in os.environ.items() if key != "FLOWSTORE_URL"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**kept, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def draft(folder: Path) -> None:
    """Draft what is in the inbox, or go on with it."""
    run(folder, "inbox")


def draft_and_publish(folder: Path) -> None:
    """Draft all, and publish one article that Alex has approved."""
    draft(folder)
    run(folder, "approve", TIDES, "--by", "alex")
    draft(folder)


def lose_an_approval(folder: Path) -> None:
    """Draft all; Sam approves an article."""
    draft(folder)
    run(folder, "approve", LIGHTHOUSE, "--by", "sam")
    draft(folder)


def die_and_go_on(folder: Path) -> None:
    """Draft, and be killed by the first call of a tool; then begin again."""
    killed = start(folder, "-c", KILLER, "writing_pipeline.py", "inbox")
    if killed.returncode != -signal.SIGKILL:
        raise RuntimeError(f"{folder.name} was not killed: {killed.stderr}")
    draft(folder)


def deploy(folder: Path) -> None:
    """Publish one; another has been approved, and is not published yet, when new code comes."""
    draft_and_publish(folder)
    run(folder, "approve", LIGHTHOUSE, "--by", "sam")
    changes(folder.name)[0].apply(folder)


def ask_in_vain(folder: Path) -> None:
    """Draft while the calendar never answers."""
    run(folder, "inbox", "--calendar-fails", "1")


BUGS: dict[str, Callable[[Path], None]] = {
    "wrong-fold": draft,
    "lost-approval": lose_an_approval,
    "clock": draft,
    "charged-twice": die_and_go_on,
    "schema": deploy,
}
SOUND: dict[str, Callable[[Path], None]] = {
    "unbroken": draft_and_publish,
    "calendar-down": ask_in_vain,
}


def copy(folder: Path) -> None:
    """Copy the program, which has no bugs that we know of."""
    shutil.copytree(HERE / "writing", folder / "writing")
    shutil.copytree(HERE / "writing" / "inbox", folder / "inbox")
    shutil.copy(HERE / "writing_pipeline.py", folder)
    if folder.name == "clock":
        Change(TIMES).apply(folder)


def plant(folder: Path) -> None:
    """Make a copy, with the bug that its folder is named after, and let it do its work."""
    copy(folder)
    if folder.name in BUGS and folder.name != "schema":  # its bug comes with a later release
        changes(folder.name)[0].undo(folder)
    (BUGS | SOUND)[folder.name](folder)


def main() -> int:
    """Make all of them in a new folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the copies go; it must not be there yet")
    folder = parser.parse_args().folder.absolute()
    if folder.exists():
        parser.error(f"{folder} is there already")
    places = [folder / name for name in BUGS | SOUND]
    with ThreadPoolExecutor(max_workers=2) as threads:
        for place, _ in zip(places, threads.map(plant, places), strict=True):
            print(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
