"""SIGKILL while timers are set and fire: each fires, and fires once (G1, G2, G3)."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from killing import killed_after
from timer_child import DELAYS

CHILD = Path(__file__).with_name("timer_child.py")


def test_every_timer_fires_once_whenever_the_process_is_killed(tmp_path):
    path, acknowledged, chance = tmp_path / "runs.db", set(), random.Random(11)
    for _ in range(12):
        acknowledged |= killed_after(CHILD, path, chance.randint(1, 60))
    subprocess.run([sys.executable, CHILD, "drain", path], check=True, timeout=120)
    assert problems(path, acknowledged) == []
    assert len(acknowledged) > 50

    lost = tmp_path / "lost.db"  # the control: the check sees what is missing, and what is double
    shutil.copy(path, lost)
    with closing(sqlite3.connect(lost)) as connection:
        first, second = connection.execute(
            "SELECT min(seq), max(seq) FROM event WHERE name = 'due'"
        ).fetchone()
        connection.execute("DELETE FROM event WHERE seq = ?", (first,))
        connection.execute("UPDATE event SET data = '0' WHERE seq = ?", (second,))
        connection.execute(
            "INSERT INTO timer (run_id, key, workflow, due_at, event_id, name, version, created_at)"
            " VALUES (1, 'k', 'workflow', 1, 'e', 'due', 1, 1)"
        )
        connection.commit()
    assert len(problems(lost, acknowledged)) == 3


def problems(path, acknowledged):
    """Compare the log with what was asked for."""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT correlation_id FROM run")}
        found += [f"{name} is missing" for name in acknowledged - names]
        if connection.execute("SELECT count(*) FROM timer").fetchone() != (0,):
            found.append("timers are left")
        for name in sorted(names):
            due = connection.execute(
                "SELECT event.data FROM event JOIN run ON run.id = event.run_id "
                "WHERE correlation_id = ? AND name = 'due' ORDER BY position",
                (name,),
            )
            if sorted(json.loads(data) for (data,) in due) != sorted(DELAYS):
                found.append(f"the timers of {name}")
    return found
