"""The examples as programs: how tests start them and look at what they leave behind."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TIMEOUT = 100


def run(program, *arguments, cwd, **variables):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / program), *map(str, arguments)],
        cwd=cwd,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def run_into_head(program, *arguments, cwd):
    """Run a program as in ``program | head -1``: the pipe is closed behind its first line."""
    command = [sys.executable, str(EXAMPLES / program), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=cwd, env=environment(), **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read().decode()
        process.wait(TIMEOUT)
    return process.returncode, told


def environment():
    ours = {"FLOWSTORE_URL", "FLOWSTORE_APP"}
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    # Warnings are errors in the examples' processes too.
    return {**kept, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"}


def read_runs(store):
    """Return correlation_id, status, head and cursor of every run."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    rows = connection.execute("SELECT correlation_id, status, head, cursor FROM run").fetchall()
    connection.close()
    return rows
