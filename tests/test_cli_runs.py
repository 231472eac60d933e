"""The commands that look at runs."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from command_line import Called, start
from sample import add_drop, add_event, add_run, writing

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("folder")


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
RUN = {
    "correlation_id", "workflow", "status", "head", "cursor", "state_version", "epoch", "owner",
    "ready_at", "result", "reason", "lineage", "created_at", "updated_at",
}  # fmt: skip


@pytest.mark.usefixtures("filled")
def test_looking_works_as_a_program_and_again():
    first = start("runs")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[1].split()[:3] == ["mail", "mail", "completed"]
    assert start("runs").stdout == first.stdout


@pytest.mark.usefixtures("filled")
def test_runs(capfd: pytest.CaptureFixture[str]):
    runs = Called(capfd, "runs", "--json").json
    assert [run["correlation_id"] for run in runs] == ["mail", "order-2", "order-1"]
    assert all(set(run) == RUN for run in runs)
    assert runs[0]["result"] == {"sent": True}
    assert all(TIME.fullmatch(run["created_at"]) for run in runs)
    for words in (("idle,running",), ("running", "--status", "idle"), (" idle , running,idle",)):
        several = Called(capfd, "runs", "--status", *words, "--json").json
        assert {run["status"] for run in several} == {"idle", "running"}
    running = Called(capfd, "runs", "--status", "running", "--workflow", "orders", "--json").json
    assert [run["correlation_id"] for run in running] == ["order-2"]
    assert Called(capfd, "runs", "--workflow", "none", "--json").json == []


@pytest.mark.usefixtures("filled")
def test_a_list_that_is_cut_says_so(capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "runs", "--limit", "2")
    assert len(called.out.splitlines()) == 1 + 2
    assert "--limit" in called.err
    assert Called(capfd, "runs", "--limit", "3").err == ""
    assert "no runs" in Called(capfd, "runs", "--workflow", "none").err


def test_a_database_of_another_version_is_told_in_one_line(filled: Path):
    with contextlib.closing(sqlite3.connect(filled)) as connection:
        connection.execute("DROP TABLE timer")
    shown = start("show", "order-1")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert len(shown.stderr.splitlines()) == 1
    assert "flowstore db upgrade" in shown.stderr


@pytest.mark.usefixtures("filled")
def test_show(capfd: pytest.CaptureFixture[str]):
    shown = Called(capfd, "show", "order-1", "--json").json
    assert set(shown) == RUN | {"counts", "outstanding", "dead", "drops", "unhandled"}
    assert shown["counts"]["transitions"] == {"dead": 1, "handled": 2, "retried": 1}
    assert shown["dead"][0]["event_id"] == "event-4"
    assert [drop["reason"] for drop in shown["drops"]] == ["duplicate", "duplicate", "expired"]
    assert [event["name"] for event in shown["unhandled"]] == ["odd", "unknown"]
    text = Called(capfd, "show", "order-1").out
    assert re.search(r"^status +idle$", text, re.MULTILINE)
    assert re.search(r"^drops +duplicate 2, expired 1$", text, re.MULTILINE)


@pytest.mark.usefixtures("filled")
def test_log(capfd: pytest.CaptureFixture[str]):
    events = Called(capfd, "log", "order-1", "--json").json
    assert [event["position"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert events[0]["data"] == {"total": 12.5, "note": "two\nlines"}
    assert [each["handler"] for each in events[0]["transitions"]] == ["handle", "audit"]
    assert events[3]["transitions"][1]["outcome"] == "dead"
    assert TIME.fullmatch(events[5]["expires_at"])
    some = Called(capfd, "log", "order-1", "--after", "2", "--limit", "2", "--json").json
    assert [event["position"] for event in some] == [3, 4]
    assert Called(capfd, "log", "order-1", "--after", "7", "--json").json == []


@pytest.mark.usefixtures("filled")
def test_log_says_what_became_of_each_event(capfd: pytest.CaptureFixture[str]):
    lines = Called(capfd, "log", "order-1").out.splitlines()
    outcome = lines[0].index("outcome")
    assert [re.split(r" {2,}", line[outcome:])[0] for line in lines[1:]] == [
        "handled by handle, handled by audit",
        "-",
        "unhandled",
        "dead by handle at attempt 2",
        "-",
        "dropped",
        "unhandled",
    ]
    assert "pending" in Called(capfd, "log", "order-2").out


def test_a_log_of_many_pages_is_whole(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_run(connection, 9, "long", head=1203, cursor=1203)
        for position in range(1, 1204):
            add_event(connection, 9, position, "step")
    events = Called(capfd, "log", "long", "--json").json
    assert [event["position"] for event in events] == list(range(1, 1204))
    events = Called(capfd, "log", "long", "--limit", "1001", "--json").json
    assert [event["position"] for event in events] == list(range(1, 1002))


@pytest.mark.usefixtures("filled")
def test_state(capfd: pytest.CaptureFixture[str]):
    for options in ((), ("--json",)):
        assert Called(capfd, "state", "order-1", *options).json == {"total": 12.5, "seen": True}
        assert Called(capfd, "state", "order-1", "--at", "0", *options).json == {}


@pytest.mark.usefixtures("filled")
def test_drops_and_dead_letters(capfd: pytest.CaptureFixture[str]):
    drops = Called(capfd, "drops", "--json").json
    assert [drop["correlation_id"] for drop in drops] == ["mail", *["order-1"] * 3]
    assert len(Called(capfd, "drops", "order-1", "--reason", "duplicate", "--json").json) == 2
    assert Called(capfd, "drops", "mail", "--limit", "1", "--json").json == drops[:1]
    (dead,) = Called(capfd, "dead", "--json").json
    assert (dead["event_id"], dead["attempt"], dead["traceback"]) == ("event-4", 2, "Traceback …")
    assert Called(capfd, "dead", "mail", "--json").json == []
    assert "no money" in Called(capfd, "dead", "order-1").out


def test_a_damaged_row_is_reported(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_event(connection, 3, 2, "reply", data="{no json")
    called = Called(capfd, "log", "mail", "--json")
    assert called.code == 1
    assert "the column data holds no JSON" in called.err


def test_drops_of_a_worker_show_their_run(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_drop(connection, 2, "event-2", "lease_lost", handler="handle", position=2)
    (drop,) = Called(capfd, "drops", "--reason", "lease_lost", "--json").json
    assert (drop["correlation_id"], drop["handler"], drop["position"]) == ("order-2", "handle", 2)
