"""The case log as a program, compared with a plain fold of the same file (G3, G4, G5, G9)."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from programs import EXAMPLES, ROOT, TIMEOUT, environment, read_runs, run

RECEIPT = ROOT.parent / "shared" / "data" / "receipt.jsonl.gz"

OFFSETS = [timezone(timedelta(minutes=minutes)) for minutes in (0, 60, 120, -210)]


def make_rows(seed, cases=60, events=900):
    """Lines of interleaving cases, with equal times, several offsets and repeated ids."""
    chance = random.Random(seed)
    moment, rows = datetime(2024, 2, 28, 22, tzinfo=UTC), []
    for number in range(events):
        moment += timedelta(microseconds=chance.choice([0, 1, 999_999, 3_600_000_001]))
        row = {
            "case": f"case-{number % cases if number < cases else chance.randrange(cases)}",
            "activity": chance.choice(["Register", "Prüfen", "Ask > again", "Decide"]),
            "time": moment.astimezone(chance.choice(OFFSETS)).isoformat(sep=chance.choice("T ")),
            "group": chance.choice(["Nord", "Süd"]),
        }
        # An id has to be unique in its case only.
        row["id"] = "first" if number < cases else f"line-{number}"
        if chance.random() < 0.9:
            row["resource"] = f"Person {chance.randrange(4)}"
        rows.append(row)
    return rows


def repeat_a_third(rows, seed):
    """Send a third of the lines again, at once or later."""
    chance = random.Random(seed)
    mixed = list(rows)
    for row in chance.sample(rows, len(rows) // 3):
        mixed.insert(chance.randint(mixed.index(row) + 1, len(mixed)), row)
    return mixed


def interleave(rows, seed):
    """Mix the cases anew; the order within each of them stays."""
    waiting = {}
    for row in rows:
        waiting.setdefault(row["case"], []).append(row)
    turns = [row["case"] for row in rows]
    random.Random(seed).shuffle(turns)
    return [waiting[case].pop(0) for case in turns]


def plain_fold(rows):
    """What the summary has to say, from the lines alone."""
    cases = {}
    for row in rows:
        cases.setdefault(row["case"], {}).setdefault(row["id"], row)
    paths, hand_overs, times = Counter(), 0, []
    for lines in (list(case.values()) for case in cases.values()):
        paths[tuple(line["activity"] for line in lines)] += 1
        people = [line.get("resource") for line in lines]
        hand_overs += sum(one != other for one, other in pairwise(people))
        moments = [datetime.fromisoformat(line["time"]) for line in lines]
        times.append((max(moments) - min(moments)) // timedelta(microseconds=1))
    times.sort()
    frequent = sorted(paths.items(), key=lambda item: (-item[1], item[0]))[:5]
    return {
        "cases": len(cases),
        "events": sum(map(len, cases.values())),
        "hand_overs": hand_overs,
        "different_paths": len(paths),
        "open_time": {
            "shortest": times[0],
            "median": times[(len(times) - 1) // 2],
            "mean": sum(times) // len(times),
            "longest": times[-1],
            "total": sum(times),
        },
        "paths": [{"cases": count, "path": list(path)} for path, count in frequent],
    }


def write_log(path, rows, *more):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + "".join(more)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def feed(log, *options, example="case_log.py"):
    return run(example, log, "--store", log.parent / "cases.db", *options, cwd=log.parent)


def summary_of(done):
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    return figures, {key: figures.pop(key) for key in ("lines", "duplicates")}


def feed_and_kill(log, reports, delay, *options):
    """Kill the process some time after its so-many-th report of progress."""
    store = log.parent / "cases.db"
    command = [sys.executable, EXAMPLES / "case_log.py", log, "--store", store, *options]
    with subprocess.Popen(
        list(map(str, command)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(reports):
            assert process.stderr.readline(), "it ended before it could be killed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
        return process.returncode


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_case_log_agrees_with_a_plain_fold(tmp_path, name):
    rows = make_rows(1)
    figures, lines = summary_of(feed(write_log(tmp_path / name, rows), "--json"))
    assert figures == plain_fold(rows)
    assert lines == {"lines": len(rows), "duplicates": 0}


def test_case_log_refuses_lines_sent_twice(tmp_path):
    """G5: a third of the lines twice, cases interleaved, and then the whole log again."""
    rows = make_rows(2)
    mixed = repeat_a_third(interleave(rows, 3), 4)
    log = write_log(tmp_path / "log.jsonl", mixed)
    figures, lines = summary_of(feed(log, "--json"))
    assert figures == plain_fold(rows) == plain_fold(mixed)
    assert lines == {"lines": len(mixed), "duplicates": len(rows) // 3}
    figures, lines = summary_of(feed(log, "--json"))
    assert figures == plain_fold(rows)
    assert lines == {"lines": len(mixed), "duplicates": len(mixed)}


def test_the_comparison_notices_lines_counted_twice(tmp_path):
    """The negative control: without the events' ids, repeats are counted."""
    source = (EXAMPLES / "case_log.py").read_text(encoding="utf-8")
    careless = source.replace("id=identity, ", "")
    assert careless != source
    (tmp_path / "careless.py").write_text(careless, encoding="utf-8")
    mixed = repeat_a_third(make_rows(5), 6)
    log = write_log(tmp_path / "log.jsonl", mixed)
    figures, _ = summary_of(feed(log, "--json", example=tmp_path / "careless.py"))
    expected = plain_fold(mixed)
    assert figures["events"] == len(mixed) > expected["events"]
    assert figures["hand_overs"] != expected["hand_overs"]


def test_the_comparison_notices_one_line_less():
    rows = make_rows(7)
    assert all(plain_fold(rows) != plain_fold(rows[:k] + rows[k + 1 :]) for k in range(0, 900, 90))


@pytest.mark.parametrize("seed", range(4))
def test_case_log_killed_and_run_again_agrees_with_a_plain_fold(tmp_path, seed):
    """G1, G3, G5, G9: killed at random points, more than once, and then left to its end."""
    chance = random.Random(seed)
    rows = make_rows(seed)
    log = write_log(tmp_path / "log.jsonl", repeat_a_third(interleave(rows, seed), seed))
    before = 0
    for _ in range(2):
        killed = feed_and_kill(log, chance.randint(1, 10), chance.random() / 50, "--batch", "5")
        assert killed == -signal.SIGKILL
        heads = sum(head for _, _, head, _ in read_runs(tmp_path / "cases.db"))
        assert heads >= before
        before = heads
    assert before > 0
    figures, _ = summary_of(feed(log, "--json", "--batch", "50"))
    assert figures == plain_fold(rows)
    ends = {(status, head - cursor) for _, status, head, cursor in read_runs(tmp_path / "cases.db")}
    assert ends == {("idle", 0)}


@pytest.mark.skipif(not RECEIPT.exists(), reason="the municipality's log is not here")
def test_case_log_agrees_on_a_real_log(tmp_path):
    """8,577 events of 1,434 permit applications: a third twice, mixed, killed, run again."""
    with gzip.open(RECEIPT, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    log = write_log(tmp_path / "log.jsonl.gz", repeat_a_third(interleave(rows, 1), 2))
    assert feed_and_kill(log, 3, 0.01, "--batch", "100") == -signal.SIGKILL
    figures, lines = summary_of(feed(log, "--json"))
    assert figures == plain_fold(rows)
    assert (figures["cases"], figures["events"]) == (1434, 8577)
    assert lines["lines"] == len(rows) + len(rows) // 3


def test_case_log_summary_for_people(tmp_path):
    keys = ("id", "case", "activity", "time", "resource")
    lines = [
        ("1", "a", "Open", "2024-01-01T10:00:00+01:00", "Ann"),
        ("2", "b", "Open", "2024-01-01 09:30:00+00:00", "Ann"),
        ("3", "a", "Close", "2024-01-02T09:00:00.000001Z", "Bo"),
        ("3", "a", "Close", "2024-01-02T09:00:00.000001Z", "Bo"),
    ]
    rows = [dict(zip(keys, line, strict=True)) for line in lines]
    done = feed(write_log(tmp_path / "log.jsonl", rows))
    assert (done.stderr, done.returncode) == ("", 0)
    longest = "1 day, 0:00:00.000001"
    assert done.stdout.splitlines() == [
        "cases         2",
        "events        3",
        "duplicates    1 refused of 4 lines now",
        "hand-overs    1",
        f"open time     shortest 0:00:00, median 0:00:00, mean 12:00:00, longest {longest}",
        "paths         2, the most frequent:",
        "        1   Open",
        "        1   Open > Close",
    ]


def test_case_log_shows_progress_on_long_files(tmp_path):
    done = feed(write_log(tmp_path / "log.jsonl", make_rows(8)), "--batch", "20")
    assert re.findall(r"^(\d+) lines, [\d,]+ a second$", done.stderr, re.MULTILINE) == [
        "400",
        "800",
    ]


GOOD = {"id": "x", "case": "c", "activity": "a", "time": "2024-01-01T10:00:00Z"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "not JSON: depth limit"),
        (json.dumps({**GOOD, "case": None}), "'case' must be a text"),
        (json.dumps({**GOOD, "id": 7}), "'id' must be a text"),
        (json.dumps({**GOOD, "time": "yesterday"}), "yesterday"),
        (json.dumps({**GOOD, "time": "2024-01-01T10:00:00"}), "no offset"),
        (json.dumps({**GOOD, "cost": float("nan")}), "not JSON"),
        (json.dumps({**GOOD, "note": "\0"}), "data.note"),
        (json.dumps({**GOOD, "note": "\ud800"}), "not JSON: no low surrogate"),
    ],
)
def test_case_log_names_the_line_that_is_damaged(tmp_path, line, problem):
    """G10: the events before it stay; mended, the rest of the log goes in."""
    rows = make_rows(9, events=100)
    log = write_log(tmp_path / "log.jsonl", rows[:70], "\n", line, "\n", json.dumps(rows[70]))
    done = feed(log)
    assert (done.returncode, done.stdout) == (1, "")
    [message] = done.stderr.splitlines()
    assert message.startswith(f"error: {log}, line 72: ")
    assert problem in message
    assert sum(head for _, _, head, _ in read_runs(tmp_path / "cases.db")) == 70
    figures, lines = summary_of(feed(write_log(log, rows), "--json"))
    assert figures == plain_fold(rows)
    assert lines == {"lines": 100, "duplicates": 70}


def test_case_log_says_where_a_compressed_log_ends_too_early(tmp_path):
    log = write_log(tmp_path / "log.jsonl.gz", make_rows(10))
    log.write_bytes(log.read_bytes()[:-100])
    done = feed(log)
    assert done.returncode == 1
    assert re.match(rf"error: {re.escape(str(log))}: damaged after line \d+: ", done.stderr)


def test_case_log_says_that_a_file_is_missing(tmp_path):
    done = feed(tmp_path / "none.jsonl")
    assert done.returncode == 1
    assert "none.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("size", ["0", "-5"])
def test_case_log_refuses_a_batch_of_no_lines(tmp_path, size):
    done = feed(write_log(tmp_path / "log.jsonl", [GOOD]), f"--batch={size}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(
        f"error: argument --batch: {size} lines cannot be sent; give 1 or more"
    )
    assert not (tmp_path / "cases.db").exists()


def test_case_log_of_an_empty_file(tmp_path):
    figures, _ = summary_of(feed(write_log(tmp_path / "log.jsonl", []), "--json"))
    assert (figures["cases"], figures["paths"]) == (0, [])
