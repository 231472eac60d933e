"""SIGKILL while tasks are submitted, run and end: each ends once (G1, G2, G3, G9)."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from killing import killed_after, settle
from task_child import TASKS, build

from flowstore import WorkflowEvent
from flowstore.change import replay

CHILD = Path(__file__).with_name("task_child.py")


def test_every_task_ends_once_whenever_the_process_is_killed(tmp_path):
    path, acknowledged, chance = tmp_path / "runs.db", set(), random.Random(13)
    for _ in range(12):
        acknowledged |= killed_after(CHILD, path, chance.randint(1, 40))
    subprocess.run([sys.executable, CHILD, "drain", path], check=True, timeout=120)
    assert problems(path, acknowledged) == []
    assert len(acknowledged) > 50
    assert max(Counter(Path(f"{path}-ledger").read_text().split()).values()) > 1

    spoiled = tmp_path / "spoiled.db"  # the control: the check sees what is missing or double
    shutil.copy(path, spoiled)
    shutil.copy(f"{path}-ledger", f"{spoiled}-ledger")
    _spoil(spoiled, sorted(acknowledged))
    assert len(problems(spoiled, acknowledged)) == 5


async def test_another_process_goes_on_with_the_tasks_of_one_that_is_killed(tmp_path):
    """G9: within a second; its own go on meanwhile."""
    path = tmp_path / "runs.db"
    workflow = build(path)
    async with workflow:
        names = await asyncio.to_thread(killed_after, CHILD, path, 12)
        await workflow.send(WorkflowEvent("go", {"away": False}), correlation_id="mine")
        await settle(workflow)
    await workflow.close()
    assert problems(path, {*names, "mine"}) == []


def _spoil(path, names):
    with closing(sqlite3.connect(path)) as connection:
        ids = [
            run_id
            for name in names[:5]
            for (run_id,) in connection.execute(
                "SELECT id FROM run WHERE correlation_id = ?", (name,)
            )
        ]
        end = "name = 'task.completed' AND run_id = ?"
        connection.execute(f"DELETE FROM event WHERE {end}", ids[:1])  # noqa: S608 - written above
        connection.execute(
            f"UPDATE event SET data = json_set(data, '$.result', 99) WHERE {end} AND position = "  # noqa: S608
            "(SELECT max(position) FROM event WHERE name = 'task.completed' AND run_id = ?)",
            (ids[1], ids[1]),
        )
        connection.execute("UPDATE task SET status = 'pending' WHERE run_id = ?", ids[2:3])
        connection.execute("UPDATE run SET tasks = 1 WHERE id = ?", ids[3:4])
        connection.execute(
            "INSERT INTO transition (run_id, position, number, handler, attempt, outcome, change,"
            " started_at, duration) SELECT run_id, position, number + 1, handler, 2, outcome,"
            " change, 1, 1 FROM transition WHERE run_id = ? AND handler = 'count'"
            " ORDER BY number DESC LIMIT 1",
            ids[4:5],
        )
        connection.commit()


def problems(path, acknowledged):
    """Compare the log, the states and what the tasks have left with what was asked for."""
    found, done = [], set(Path(f"{path}-ledger").read_text().split())
    with closing(sqlite3.connect(path)) as connection:
        runs = connection.execute("SELECT id, correlation_id, tasks, waits FROM run").fetchall()
        found += [f"{name} is missing" for name in acknowledged - {run[1] for run in runs}]
        for run_id, name, tasks, waits in runs:
            events = connection.execute(
                "SELECT name, data FROM event WHERE run_id = ? ORDER BY position", (run_id,)
            ).fetchall()
            wanted = sorted([*range(TASKS), *[TASKS] * json.loads(events[0][1])["away"], -1])
            ends = [json.loads(data) for kind, data in events if kind == "task.completed"]
            state = _state(connection, run_id)
            seen = state.get("seen", [])
            if state.get("failed") != ["TaskTimeoutError"]:
                found.append(f"what has not come to {name}: {state.get('failed')}")
            if sorted(end["result"] for end in ends) != wanted:
                found.append(f"the ends of {name}: {ends}")
            elif seen != [[end["task_id"], end["result"]] for end in ends]:
                found.append(f"the state of {name}: {seen}")
            ours = {f"{name}/{end['task_id']}" for end in ends if end["result"] >= 0}
            if not ours <= done:
                found.append(f"a task of {name} has ended and was never done")
            pending = "SELECT count(*) FROM task WHERE run_id = ? AND status = 'pending'"
            if (tasks, waits, *connection.execute(pending, (run_id,)).fetchone()) != (0, 0, 0):
                found.append(f"tasks of {name} are left")
    return found


def _state(connection, run_id):
    changes = connection.execute(
        "SELECT change FROM transition WHERE run_id = ? AND change IS NOT NULL ORDER BY number",
        (run_id,),
    )
    return replay(None, [change for (change,) in changes])
