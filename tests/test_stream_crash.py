"""SIGKILL while streams are made: each is whole in the end, its readers are told (G1, G3, G9)."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from programs import TIMEOUT, environment
from stream_child import WORDS

CHILD = Path(__file__).with_name("stream_child.py")


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, CHILD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        **options,
    )


def hear(child):
    line = child.stdout.readline()
    assert line, "it ended early"
    return json.loads(line)


def test_every_stream_is_whole_whenever_the_process_is_killed(tmp_path):
    path, shown, chance = tmp_path / "runs.db", {}, random.Random(11)
    for _ in range(12):
        for name, number in killed_after(path, chance.randint(1, 8 * WORDS)):
            shown.setdefault(name, []).append(number)
    assert any(len(numbers) < WORDS for numbers in shown.values()), "all were killed between runs"
    subprocess.run([sys.executable, CHILD, "drain", path], check=True, timeout=TIMEOUT)
    assert problems(path, shown) == []
    assert anew(path) > 0

    lost = tmp_path / "lost.db"  # the control: the check sees what is missing, double or unfinished
    shutil.copy(path, lost)
    with closing(sqlite3.connect(lost)) as connection:
        (first, second, third, fourth) = connection.execute(
            "SELECT run_id FROM stream ORDER BY run_id LIMIT 4"
        ).fetchall()
        connection.execute("DELETE FROM chunk WHERE run_id = ?", first)
        connection.execute("UPDATE stream SET status = 'open' WHERE run_id = ?", second)
        connection.execute("DELETE FROM event WHERE run_id = ? AND name = 'stream'", third)
        connection.execute(
            "INSERT INTO chunk SELECT run_id, stream_id, ?, data FROM chunk WHERE run_id = ?"
            " ORDER BY first LIMIT 1",
            (WORDS, *fourth),
        )
        connection.commit()
    assert len(problems(lost, shown)) == 4


def killed_after(path, chunks):
    """Kill the child when it has shown so many chunks; return all that it showed."""
    with start("produce", path) as child:
        shown = [hear(child) for _ in range(chunks)]
        child.kill()
        shown += [json.loads(line) for line in child.stdout if line.endswith("\n")]
    return shown


def problems(path, shown):
    """Compare the store with what was streamed, and with what was shown of it."""
    found = []
    whole = list(range(WORDS))
    with closing(sqlite3.connect(path)) as connection:
        ids = dict(connection.execute("SELECT correlation_id, id FROM run"))
        found += [f"{name} is missing" for name in shown.keys() - ids.keys()]
        found += [
            f"{name} showed {numbers}"
            for name, numbers in shown.items()
            if numbers != whole[: len(numbers)]
        ]
        for name, key in sorted(ids.items()):
            stream = connection.execute(
                "SELECT status, chunks FROM stream WHERE run_id = ?", (key,)
            ).fetchall()
            rows = connection.execute(
                "SELECT data FROM chunk WHERE run_id = ? ORDER BY first", (key,)
            )
            chunks = [chunk for (data,) in rows for chunk in json.loads(data)]
            events = connection.execute(
                "SELECT name FROM event WHERE run_id = ? ORDER BY position", (key,)
            ).fetchall()
            if (
                stream != [("ended", WORDS)]
                or [chunk["number"] for chunk in chunks] != whole
                or len({chunk["pid"] for chunk in chunks}) != 1
                or events != [("go",), ("stream",), ("done",)]
            ):
                found.append(f"the stream of {name}")
    return found


def anew(path):
    """Return how many streams began anew."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM stream WHERE generation > 1").fetchone()[0]


def test_a_reader_in_another_process_is_told_that_it_begins_anew(tmp_path):
    """G9: it waits as long as no one goes on with the run, and then reads to the end."""
    path = tmp_path / "runs.db"
    with start("one", path, "r") as first:
        assert [hear(first), hear(first)] == [["event", "slow"], ["event", "stream"]]
        with start("follow", path, "r") as reader:
            heard = [hear(reader) for _ in range(3)]
            assert heard == [["chunk", number, first.pid] for number in range(3)]
            first.kill()
            first.wait(TIMEOUT)
            with start("one", path, "r") as second:
                assert hear(reader) == ["anew"]
                heard = [hear(reader) for _ in range(3)]
                assert heard == [["chunk", number, second.pid] for number in range(3)]
                print("go on", file=second.stdin, flush=True)
                assert hear(reader) == ["chunk", 3, second.pid]
                assert hear(reader) == ["end"]
                second.communicate(timeout=TIMEOUT)
                assert second.returncode == 0
            reader.communicate(timeout=TIMEOUT)
            assert reader.returncode == 0
