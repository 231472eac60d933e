"""The writing pipeline as its tests use it: run it, kill it, look at what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from programs import EXAMPLES, TIMEOUT, environment, run

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "writing_pipeline.py"
INBOX = EXAMPLES / "writing" / "inbox"
LIGHTHOUSE = "lighthouse-1@harbour.example"
REGATTA = "hurry@regatta.example"
DETAILS = '{"topic": "our regatta", "words": 500, "due": "2026-12-22"}'

# Runs the pipeline and kills it at its so-many-th call of a tool: before or after the call is
# noted (either way the tool has done its work and the step is not recorded yet), or some
# seconds later, wherever it is then.
KILLER = """
import os, runpy, signal, sys, threading
program, when, wanted, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, os.path.dirname(program))
from writing.tools import Desk
note, calls = Desk._called, 0
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def noted(*arguments, **keywords):
    global calls
    number = calls = calls + 1
    is_last = number == int(wanted)
    if is_last and when == "before":
        die()
    note(*arguments, **keywords)
    if is_last and when == "after":
        die()
    if is_last:
        threading.Timer(float(when), die).start()
Desk._called = noted
runpy.run_path(program, run_name="__main__")
"""


def pipeline(folder, *words, program=PROGRAM, **variables):
    return run(program, *words, cwd=folder, **variables)


def rows_of(done):
    assert done.returncode == 0, done.stderr
    return {row["id"]: row for row in json.loads(done.stdout)}


def draft_all(folder, *words, **options):
    return rows_of(pipeline(folder, INBOX, "--json", *words, **options))


def flowstore(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "flowstore.cli", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    ).stdout


def calls(folder):
    """Return what the tools noted: the record of side effects, outside the store."""
    path = folder / "desk" / "calls.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def files(folder):
    desk = folder / "desk"
    return {
        str(path.relative_to(desk)): path.read_text(encoding="utf-8")
        for path in desk.glob("*/*")
        if path.suffix != ".new"
    }


def asked(rows):
    """Return the Message-IDs of all that is to be approved."""
    return sorted(name for name, row in rows.items() if row["stage"] == "draft ready")


def finished_steps(folder):
    """Return the idempotency keys of the steps whose results are on the disk."""
    query = """
        SELECT correlation_id, position, handler, name, number
        FROM step JOIN run ON run.id = step.run_id WHERE step.error IS NULL
    """
    store = folder / "flowstore.db"
    if not store.exists():
        return set()
    with contextlib.closing(sqlite3.connect(store)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'step'").fetchone():
            return set()
        return {"/".join(map(str, row)) for row in connection.execute(query)}


@dataclass
class Outcome:
    """What is there in the end: runs, files, keys of calls."""

    folder: Path = field(compare=False)
    rows: dict
    files: dict
    keys: set

    @classmethod
    def of(cls, folder, rows):
        return cls(folder, rows, files(folder), {call["key"] for call in calls(folder)})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Draft all of the inbox, then approve it all; return folder and outcome of both."""
    folder = tmp_path_factory.mktemp("undisturbed") / "drafted"
    folder.mkdir()
    drafted = Outcome.of(folder, draft_all(folder))
    later = shutil.copytree(folder, folder.with_name("published"))
    approve(later, *asked(drafted.rows))
    return drafted, Outcome.of(later, draft_all(later))


@pytest.fixture
def drafted(undisturbed, tmp_path):
    """Return a folder where all is drafted, and nothing approved."""
    return shutil.copytree(undisturbed[0].folder, tmp_path, dirs_exist_ok=True)


def approve(folder, *names):
    done = pipeline(folder, "approve", *names, "--by", "alex")
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_repeats(folder, action):
    """Do something; no step that was finished before may have been called by it (G3)."""
    finished, before = finished_steps(folder), len(calls(folder))
    outcome = action()
    again = finished & {call["key"] for call in calls(folder)[before:]}
    assert not again, f"finished, and done again: {again}"
    return outcome


def check_outcome(folder, expected):
    """Run once more, undisturbed; in the end all must be there that should be."""
    rows = check_repeats(folder, lambda: draft_all(folder))
    assert Outcome.of(folder, rows) == expected, "something was lost, or is there twice"
    assert finished_steps(folder) == expected.keys


def kill_at_call(folder, when, number):
    """Run the pipeline and kill it at a call; return whether it came so far."""
    words = [sys.executable, "-c", KILLER, EXAMPLES / PROGRAM, when, number, INBOX]
    done = subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode == -signal.SIGKILL


def kill_at_random(folder, seed, times, most, longest):
    """Kill the pipeline again and again; return how often it came so far.

    Args:
        most: calls of tools that it makes before, at most.
        longest: seconds that it goes on after them, at most.
    """
    chance = random.Random(seed)
    places = [(chance.random() * longest, chance.randint(1, most)) for _ in range(times)]
    return sum(
        check_repeats(folder, lambda place=place: kill_at_call(folder, *place)) for place in places
    )


@contextlib.contextmanager
def serving(folder, *words):
    """Run the pipeline until it is left; it must end without a complaint."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / PROGRAM), str(INBOX), "--serve", *words],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(process, "serving")
            yield process
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 130
    assert told.endswith("interrupted; run it again to go on\n")


def until(process, text):
    while text not in (line := process.stderr.readline()):
        assert line, "it ended"
