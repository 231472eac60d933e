"""The command `prune`: runs go as a whole, also if it is ended in the middle."""

# ruff: noqa: S608 - handlers have the parameters that users would write; tables are ours

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Called
from test_prune import run_to, shop, sound
from watching import query

from flowstore import WorkflowEvent
from flowstore.store.prune import PARTS

CHILD = Path(__file__).with_name("prune_child.py")


pytestmark = pytest.mark.usefixtures("folder")


# --- ended in the middle ---------------------------------------------------------------------


def torn(path, names):
    """Return the runs of which there is something, and not all."""
    found = set()
    for name in names:
        run = query(path, "SELECT id FROM run WHERE correlation_id = ?", name)
        note = query(path, "SELECT 1 FROM pruned WHERE correlation_id = ? AND event_id = ''", name)
        if bool(run) == bool(note):
            found.add(name)
    rest = [
        table for table in PARTS
        if query(path, f'SELECT 1 FROM "{table}" WHERE run_id NOT IN (SELECT id FROM run)')
    ]  # fmt: skip
    return found, rest, sound(path)


@pytest.mark.parametrize("is_torn", [False, True])
def test_killed_in_the_middle_whole_runs_are_left_and_the_next_goes_on(path, is_torn):
    """The control removes each table's rows by themselves, which this test must see."""
    names = [f"run-{number}" for number in range(60)]

    async def fill():
        workflow = shop(path)
        for name in (*names, "newest"):
            await run_to(workflow, name, "completed")
        await workflow.close()

    asyncio.run(fill())
    was_torn = was_midway = False
    for attempt in range(20):
        copy = path.with_name(f"copy-{attempt}.db")
        shutil.copy(path, copy)
        with subprocess.Popen(
            [sys.executable, CHILD, copy, *(["torn"] if is_torn else [])], stdout=subprocess.PIPE
        ) as child:
            child.stdout.readline()
            # No time is right on every machine: wait for what it has done.
            wanted = 3 + attempt
            while child.poll() is None and _count(copy) < wanted:
                pass
            child.kill()
        was_midway = was_midway or wanted <= _count(copy) < 60
        bad = torn(copy, names)
        was_torn = was_torn or bad != (set(), [], [])
        if not is_torn:
            assert bad == (set(), [], [])
        if was_midway and (was_torn or not is_torn):
            break
    assert was_midway
    assert was_torn is is_torn
    if not is_torn:
        subprocess.run([sys.executable, CHILD, copy], check=True, stdout=subprocess.PIPE)
        assert query(copy, "SELECT correlation_id FROM run") == [("newest",)]
        assert torn(copy, names) == (set(), [], [])


def _count(path):
    return query(path, "SELECT count(*) FROM pruned WHERE event_id = ''")[0][0]


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "flowstore.db"

    async def fill():
        workflow = shop(path)
        for number in range(30):
            event = WorkflowEvent("order", {"ends": "completed", "text": "x" * 20_000})
            async for _ in workflow.process(event, correlation_id=f"r{number}", id="1"):
                pass
        await run_to(workflow, "idle")
        await run_to(workflow, "newest", "completed")
        await workflow.close()

    asyncio.run(fill())
    return path


def test_the_command_removes_runs_and_gives_room_back(store, capfd):
    size = store.stat().st_size
    called = Called(capfd, "prune", "--older-than", "0s", "--dry-run")
    assert (called.code, called.out) == (
        0,
        "flowstore.db: 30 runs with 90 events would be removed\n",
    )
    assert len(Called(capfd, "runs", "--json").json) == 32
    for words in (("--status", "idle,completed"), ("--status", "completed", "--status", "idle")):
        told = Called(capfd, "prune", "--older-than", "0s", "--dry-run", "--json", *words).json
        assert told["runs"] == 31
    called = Called(capfd, "prune", "--older-than", "0s", "--batch", "7", "--json")
    said = called.json
    assert (said["runs"], said["events"], said["left"], said["problem"]) == (30, 90, 0, None)
    assert store.stat().st_size == size - said["freed_bytes"] < size / 3
    assert {run["correlation_id"] for run in Called(capfd, "runs", "--json").json} == {
        "idle", "newest",
    }  # fmt: skip
    assert sound(store) == []
    again = Called(capfd, "prune", "--older-than", "0s", "--json").json
    assert (again["runs"], again["freed_bytes"]) == (0, 0)


def test_the_file_can_be_left_as_large_as_it_is(store, capfd):
    size = store.stat().st_size
    said = Called(capfd, "prune", "--older-than", "0s", "--no-vacuum", "--json").json
    assert (said["runs"], said["freed_bytes"]) == (30, 0)
    assert store.stat().st_size >= size
    # What was left to do is done the next time.
    assert Called(capfd, "prune", "--older-than", "0s", "--json").json["freed_bytes"] > 0


def test_a_reader_in_the_way_is_named(store, capfd, monkeypatch):
    monkeypatch.setattr("flowstore.store.vacuum._PATIENCE_MILLISECONDS", 1)
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM run").fetchone()
        called = Called(capfd, "prune", "--older-than", "0s")
    assert called.code == 0
    assert "30 runs with 90 events removed" in called.out
    assert "another process is reading" in called.err


@pytest.mark.usefixtures("store")
def test_a_disk_without_room_is_named(capfd, monkeypatch):
    class Full:
        free = 0

    monkeypatch.setattr("flowstore.store.vacuum.shutil.disk_usage", lambda _: Full)
    called = Called(capfd, "prune", "--older-than", "0s")
    assert called.code == 0
    assert "needs" in called.err
    assert "bytes of room on its disk, which has 0" in called.err


@pytest.mark.usefixtures("store")
def test_idle_runs_go_only_when_named(capfd):
    said = Called(
        capfd, "prune", "--older-than", "0s", "--status", "idle", "--workflow", "workflow", "--json"
    ).json
    assert said["runs"] == 1
    other = ("prune", "--older-than", "0s", "--workflow", "other", "--json")
    assert Called(capfd, *other).json["runs"] == 0
    assert Called(capfd, "prune", "--older-than", "9999d", "--json").json["runs"] == 0


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("prune",), 2, "--older-than"),
        (("prune", "--older-than", "long"), 2, "--older-than"),
        (("prune", "--older-than", "1d", "--status", "running"), 2, "--status"),
        (("prune", "--older-than", "1d", "--status", ""), 2, "--status"),
        (("prune", "--older-than", "1d", "--batch", "0"), 2, "--batch"),
        (("prune", "--older-than", "1d", "--store", "none.db"), 1, "there is no database"),
    ],
)
def test_mistakes(words, code, says, capfd):
    called = Called(capfd, *words)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert called.err.count("\n") == 1


async def test_workers_go_on_meanwhile(tmp_path):
    """The turn to write is taken for each batch, and given to those who wait."""
    path = tmp_path / "busy.db"
    workflow = shop(path)
    for number in range(40):
        await run_to(workflow, f"r{number}", "completed")
    await run_to(workflow, "newest", "completed")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowstore.cli", "prune", "--older-than", "0s", "--batch", "1",
        "--json", "--store", path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    handled = 0
    while program.returncode is None:
        await run_to(workflow, f"new-{handled}", "completed")
        handled += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(program.wait(), 0.001)
    said = json.loads(await program.stdout.read())
    assert said["runs"] >= 40
    assert handled > 2
    assert sound(path) == []
    await workflow.close()
