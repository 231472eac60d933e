"""examples/transcode_farm.py as a program: processes, Dask, kills, and a plain loop to compare."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from programs import EXAMPLES, TIMEOUT, environment, read_runs, run, run_into_head

PROGRAM = "transcode_farm.py"
SMALL = ("--videos", 3, "--segments", 2)
AGREED = "as a plain loop has them"


def ends(store):
    """Return how many events of each kind ended a task, and how many ids they have."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return dict(
            connection.execute(
                "SELECT name, count(DISTINCT run_id || id) FROM event"
                " WHERE name LIKE 'task.%' GROUP BY name"
            ).fetchall()
        )


def test_it_does_what_a_plain_loop_does_and_shows_how_far_it_is(tmp_path):
    done = run(PROGRAM, *SMALL, cwd=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    *progress, told, agreed = done.stdout.splitlines()
    assert (progress[0], progress[-1], agreed) == ("0/18 segments", "18/18 segments", AGREED)
    # Each is answered twice, the first also before its handler has committed: one counts. The
    # second does without, so that both of its answers come too late.
    assert told.endswith("answers about thumbnails: 2 accepted, 3 duplicate, 2 stale")
    store = tmp_path / "flowstore.db"
    assert {status for _, status, _, _ in read_runs(store)} == {"completed"}
    assert ends(store) == {"task.completed": 18 + 2, "task.failed": 1}

    again = run(PROGRAM, *SMALL, cwd=tmp_path)
    assert again.stdout.splitlines()[0] == "18/18 segments"
    assert again.stdout.splitlines()[-1] == AGREED
    assert ends(store) == {"task.completed": 18 + 2, "task.failed": 1}


def test_killed_again_and_again_it_ends_as_if_nothing_had_been(tmp_path):
    """G2, G3, G9: what had not finished is submitted again, nothing counts twice."""
    place = tmp_path / "elsewhere.db"
    variables = {**environment(), "FLOWSTORE_URL": str(place)}
    command = [sys.executable, str(EXAMPLES / PROGRAM), "--videos", "4", "--segments", "6"]
    chance = random.Random(5)
    killed = 0
    for _ in range(4):
        with subprocess.Popen(
            command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(chance.randint(1, 3)):
                if not process.stdout.readline():
                    break
            process.send_signal(signal.SIGKILL)
            process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    last = subprocess.run(
        command,
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (last.stderr, last.returncode) == ("", 0)
    assert last.stdout.splitlines()[-1] == AGREED
    assert ends(place) == {"task.completed": 4 * 18 + 3, "task.failed": 1}

    with closing(sqlite3.connect(place)) as connection:  # the control: the comparison can fail
        connection.execute("UPDATE run SET result = '{}' WHERE correlation_id = 'video-2'")
        connection.commit()
    wrong = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert "not as a plain loop has them: video-2" in wrong.stdout


def test_it_ends_when_no_one_looks_and_old_orders_do_it_no_harm(tmp_path):
    small = ("--videos", 2, "--segments", 1)
    assert run_into_head(PROGRAM, *small, cwd=tmp_path) == (0, "")
    again = run(PROGRAM, *small, cwd=tmp_path)
    assert (again.stderr, again.stdout.splitlines()[-1]) == ("", AGREED)

    other = run(PROGRAM, *small, "--store", "other.db", cwd=tmp_path)  # with the same orders
    assert (other.stderr, other.returncode) == ("", 0)
    assert "4 refused" in other.stdout


def test_a_video_that_cannot_be_done_is_told(tmp_path):
    (tmp_path / "orders").write_text("where the thumbnail service wants its folder")
    told = run(PROGRAM, "--videos", 1, "--segments", 1, cwd=tmp_path)
    assert (told.returncode, told.stdout.splitlines()[-1][:26]) == (1, "not as a plain loop has th")
    again = run(PROGRAM, "--videos", 1, "--segments", 1, cwd=tmp_path)
    assert again.returncode == 1


def test_on_a_local_dask_cluster(tmp_path):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    done = run(PROGRAM, "--dask", "--videos", 2, "--segments", 2, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, AGREED), done.stderr


def test_without_dask_it_says_which_extra(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('none here')\n")
    told = run(PROGRAM, "--dask", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert told.returncode == 1
    assert told.stderr == "--dask needs Dask: pip install 'flowstore-engine[dask]'\n"


def test_a_mistake_is_told_in_a_line(tmp_path):
    told = run(PROGRAM, "--videos", 0, cwd=tmp_path)
    assert told.returncode == 2
    assert "--videos and --segments: at least 1" in told.stderr
    assert not (tmp_path / "flowstore.db").exists()
