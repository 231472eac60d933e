"""SIGKILL while handlers wait, postpone and collect: nothing lost, nothing twice (G1, G2, G3)."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from wait_child import EVENTS, ROUNDS

from flowstore.change import replay

CHILD = Path(__file__).with_name("wait_child.py")


def test_whenever_the_process_is_killed_waits_come_to_their_ends_once(tmp_path):
    path, chance = tmp_path / "runs.db", random.Random(5)
    acknowledged, notes = set(), []
    for _ in range(12):
        said, noted = _killed_after(path, chance.randint(1, 80))
        acknowledged |= said
        notes += noted
    ended = subprocess.run(
        [sys.executable, CHILD, "drain", path],
        check=True, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    acknowledged |= set(ended.stdout.splitlines())
    notes += _whole(ended.stderr)
    assert problems(path, acknowledged, notes) == []
    assert len(acknowledged) > 200

    # The control: the check sees what is missing, and what is double.
    lost = tmp_path / "lost.db"
    shutil.copy(path, lost)
    with closing(sqlite3.connect(lost)) as connection:
        _spoil(connection)
        connection.commit()
    found = problems(lost, acknowledged, [*notes, *[["pay", notes[0][1]]]])
    assert len(found) == 5, found


def _spoil(connection):
    first, second, third = (
        run_id for (run_id,) in connection.execute("SELECT id FROM run ORDER BY id LIMIT 3")
    )
    execute = connection.execute
    execute(
        "DELETE FROM event WHERE seq ="
        " (SELECT max(seq) FROM event WHERE run_id = ? AND name = 'x')",
        (first,),
    )
    execute(
        "DELETE FROM transition WHERE run_id = ? AND number ="
        " (SELECT max(number) FROM transition WHERE run_id = ?)",
        (second, second),
    )
    execute(
        "INSERT INTO parked (run_id, position, handler, kind, answers, started_at, state_number)"
        " VALUES (?, 1, 'go', 'wait', '[[],[],0]', 1, 1)",
        (third,),
    )


def _killed_after(path, lines):
    """Kill the child when it has said so many lines; return those that were read."""
    with subprocess.Popen(
        [sys.executable, CHILD, "send", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        said = {child.stdout.readline().strip() for _ in range(lines)}
        child.kill()
        rest, noted = child.communicate()
    said |= {line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")}
    return said - {""}, _whole(noted)


def _whole(noted):
    lines = [line.split() for line in noted.splitlines()]
    return [words[:2] for words in lines if len(words) == 3 and words[2] == "."]


def problems(path, acknowledged, notes):
    """Compare what is in the store with what was asked for."""
    found = list(_steps_done_again(notes))
    with closing(sqlite3.connect(path)) as connection:
        runs = connection.execute("SELECT id, correlation_id, status, waits FROM run").fetchall()
        for table in ("parked", "collected", "timer"):
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            expected = {"collected": len(runs)}.get(table, 0)
            if count != expected:
                found.append(f"{count} rows are left in {table}")
        ids = {
            (run, event_id)
            for run, event_id in connection.execute(
                "SELECT correlation_id, event.id FROM event JOIN run ON run.id = event.run_id"
            )
        }
        for line in acknowledged:
            name, number = line.split()
            if (name, f"{name}.{number}") not in ids:
                found.append(f"{line} was acknowledged and is lost")
        for run_id, name, *standing in runs:
            if standing != ["waiting", 1]:
                found.append(f"{name} is {standing}")
            if _state(connection, run_id) != _expected(connection, run_id):
                found.append(f"the state of {name}: {_state(connection, run_id)}")
    return found


def _steps_done_again(notes):
    paid = set()
    for what, key in notes:
        if what == "paid":
            paid.add(key)
        elif key in paid:
            yield f"the finished step {key} was done again"


def _state(connection, run_id):
    changes = connection.execute(
        "SELECT change FROM transition WHERE run_id = ? AND change IS NOT NULL ORDER BY number",
        (run_id,),
    )
    return replay(None, [change for (change,) in changes])


def _expected(connection, run_id):
    """Say what the handlers of these events come to, in whatever order they were."""
    rows = connection.execute(
        "SELECT name, data FROM event WHERE run_id = ? ORDER BY position", (run_id,)
    ).fetchall()
    data = {kind: [json.loads(d) for name, d in rows if name == kind] for kind in "axb"}
    sent = [number for number, name in enumerate(EVENTS) if name == "b"]
    return {
        "began": 1,
        "a": ROUNDS + 1,
        "found": data["x"],
        "b": len(sent),
        "both": [[number, b] for number, b in enumerate(sent)],
        "ended": 1,
        "late": sent,
    }
