"""SIGKILL while deadlines pass and are set anew: each run ends by its own, once (G2, G3, G6)."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from killing import killed_after

CHILD = Path(__file__).with_name("deadline_child.py")


def test_every_run_ends_by_the_deadline_that_counts(tmp_path):
    path, acknowledged, chance = tmp_path / "runs.db", set(), random.Random(3)
    for _ in range(8):
        acknowledged |= killed_after(CHILD, path, chance.randint(1, 40))
    subprocess.run([sys.executable, CHILD, "drain", path], check=True, timeout=120)
    assert problems(path, acknowledged) == []
    with closing(sqlite3.connect(path)) as connection:
        (passed,) = connection.execute('SELECT count(*) FROM "drop"').fetchone()
    assert passed > 5, "what is tested did not happen: deadlines that passed too early"

    wrong = tmp_path / "wrong.db"  # the control: the check sees what is wrong
    shutil.copy(path, wrong)
    with closing(sqlite3.connect(wrong)) as connection:
        connection.execute("UPDATE run SET status = 'idle' WHERE id = 1")
        connection.execute("UPDATE run SET reason = 'another' WHERE id = 2")
        connection.execute(
            "UPDATE transition SET handler = 'slow' WHERE handler LIKE 'flowstore%' AND run_id = 3"
        )
        connection.commit()
    assert len(problems(wrong, acknowledged)) == 3


def problems(path, acknowledged):
    """Compare the runs with what was asked for."""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        runs = dict(connection.execute("SELECT correlation_id, id FROM run"))
        found += [f"{name} is missing" for name in acknowledged - set(runs)]
        if connection.execute("SELECT count(*) FROM timer").fetchone() != (0,):
            found.append("timers are left")
        for name, run in runs.items():
            end = connection.execute(
                "SELECT status, reason FROM run WHERE id = ?", (run,)
            ).fetchone()
            if end != ("failed", "its deadline passed"):
                found.append(f"{name} is {end}")
            closed_by = connection.execute(
                "SELECT event.id FROM transition JOIN event USING (run_id, position)"
                " WHERE run_id = ? AND handler = 'flowstore.deadline'",
                (run,),
            ).fetchall()
            if closed_by not in ([("2/slow/d1",)], [("1/go/d1",)]) or (
                # The first counts only where the second was never set.
                closed_by == [("1/go/d1",)] and _was_set_anew(connection, run)
            ):
                found.append(f"{name} was closed by {closed_by}")
    return found


def _was_set_anew(connection, run):
    handled = (
        "SELECT count(*) FROM transition WHERE run_id = ? AND position = 2 AND handler = 'slow'"
    )
    return connection.execute(handled, (run,)).fetchone() != (0,)
