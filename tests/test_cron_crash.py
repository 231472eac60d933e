"""SIGKILL while crons fire in two processes: each moment is there, and once (G1, G2, G3, G5)."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

from cron_child import BEGINNING, stamp

from flowstore.change import replay
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

CHILD = Path(__file__).with_name("cron_child.py")


def test_each_moment_fires_once_whichever_process_is_killed(tmp_path):
    path, chance = tmp_path / "runs.db", random.Random(12)
    zero = str(time.time_ns() // 1000)
    children = [_start(path, zero), _start(path, zero)]
    try:
        for _ in range(14):
            victim = children.pop(chance.randrange(2))
            for _ in range(chance.randint(1, 25)):
                victim.stdout.readline()
            _kill(victim)
            children.append(_start(path, zero))
    finally:
        for child in children:
            _kill(child)
    subprocess.run([sys.executable, CHILD, "drain", path, zero], check=True, timeout=120)
    assert problems(path) == []
    assert len(moments(path, "one")) > 100
    assert len(moments(path, "own")) > 30

    wrong = tmp_path / "wrong.db"  # the control: the check sees what is missing, and what is double
    shutil.copy(path, wrong)
    with closing(sqlite3.connect(wrong)) as connection:
        one, own = moments(wrong, "one")[9], moments(wrong, "own")[9]
        connection.execute("DELETE FROM event WHERE id = ?", (f"cron/own/{own}",))
        connection.execute(
            "INSERT INTO event (run_id, position, id, name, version, created_at)"
            " SELECT run_id, 1000000, id || ' ', name, version, created_at FROM event WHERE id = ?",
            (f"cron/one/{one}",),
        )
        connection.execute("UPDATE run SET status = 'running' WHERE correlation_id = 'r'")
        connection.commit()
    assert len(problems(wrong)) == 3


def _start(path, zero):
    return subprocess.Popen(
        [sys.executable, CHILD, "serve", path, zero], stdout=subprocess.PIPE, text=True
    )


def _kill(child):
    with suppress(ProcessLookupError):
        child.kill()
    child.stdout.close()
    child.wait()


def moments(path, name):
    """Return the moments that the log has of a cron, in the order in which they came."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT id FROM event WHERE id LIKE ? ORDER BY seq", (f"cron/{name}/%",)
        ).fetchall()
    return [each.rpartition("/")[2].strip() for (each,) in found]


def problems(path):
    """Compare the log with the clock."""
    found = []
    for name, minutes in (("one", 1), ("own", 3)):
        seen = moments(path, name)
        at = [datetime.fromisoformat(each) for each in seen]
        step = timedelta(minutes=minutes)
        if at != [at[0] + step * number for number in range(len(at))]:
            found.append(f"moments of {name}: not each of them, or not in order")
        if seen[0] < stamp(BEGINNING):
            found.append(f"{name} began before the beginning")
    state = replay(*asyncio.run(open_queries(parse(str(path))).read_state("r")))
    with closing(sqlite3.connect(path)) as connection:
        ids = [
            each
            for (each,) in connection.execute(
                "SELECT event.id FROM event JOIN run ON run.id = run_id"
                " WHERE correlation_id = 'r' AND position < 1000000 ORDER BY position"
            )
        ]
        if state["seen"] != ids:
            found.append("a firing was not handled, or twice")
        if connection.execute(
            "SELECT count(*) FROM run WHERE status NOT IN ('idle', 'completed')"
        ).fetchone() != (0,):
            found.append("runs that have not settled")
        if connection.execute(
            'SELECT count(*) FROM "drop" WHERE reason <> ?', ("lease_lost",)
        ).fetchone() != (0,):
            found.append("drops")
        results = connection.execute(
            "SELECT correlation_id, result FROM run WHERE result IS NOT NULL"
        )
        found += [f"{run} has {result}" for run, result in results if json.loads(result) != run]
    return found
