"""The doctor finds what is wrong, says what to do, and changes nothing."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys

import pytest
from command_line import Called, start
from sample import fill
from watching import collect
from workers import Process

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.store import doctor_files
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A store in good health, on a disk with room, with an SQLite without known bugs."""
    path = tmp_path / "flowstore.db"
    asyncio.run(_make(path))
    monkeypatch.setattr(doctor_files, "LEAST_ROOM", 0)
    monkeypatch.setattr(doctor_files, "RESET_FIXED", ((3, 0, 0),))
    return path


async def _make(path):
    workflow = WorkflowManager(path)

    @workflow.on("go")
    async def go(event, ctx):
        ctx.state["n"] = 1

    for name in ("one", "two"):
        await collect(workflow.process(WorkflowEvent("go"), correlation_id=name))
    await workflow.close()


def change(path, sql, *values):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, values).rowcount != 0


def found(capfd, *options):
    """Return the findings as the command prints them; the exit code must fit."""
    called = Called(capfd, "doctor", "--json", *options)
    said = json.loads(called.out)
    assert called.err == ""
    worst = any(each["severity"] != "info" for each in said["findings"])
    assert (called.code, said["ok"]) == (int(worst), not worst)
    return [(each["severity"], each["check"], each["message"]) for each in said["findings"]]


def only(capfd, severity, check, text, *options):
    """Have one finding, of this kind, with a remedy if it needs someone."""
    ((was, its_check, message),) = found(capfd, *options)
    assert (was, its_check) == (severity, check)
    assert text in message


# --- nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_a_store_in_good_health(path, capfd, options):
    assert found(capfd, *options) == []
    called = Called(capfd, "doctor", *options)
    assert (called.code, called.out) == (0, "flowstore.db: well\n")


def test_it_changes_nothing(path, capfd):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.parent.iterdir()}
    assert found(capfd) == found(capfd, "--full")
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before


def test_every_warning_has_a_remedy(path, capfd):
    fill_with_trouble(path)
    said = json.loads(Called(capfd, "doctor", "--json").out)
    assert len(said["findings"]) >= 5
    assert all(each["remedy"] for each in said["findings"] if each["severity"] != "info")
    text = Called(capfd, "doctor").out
    assert text.count("\n") == len(said["findings"])
    assert all(line.startswith(("info ", "warning ", "error ")) for line in text.splitlines())


def fill_with_trouble(path):
    now = 1_000_000
    change(path, "UPDATE run SET status = 'running', cursor = 0, updated_at = ? WHERE id = 1", now)
    change(path, "UPDATE event SET name = 'Go' WHERE run_id = 2")
    change(path, "UPDATE transition SET outcome = 'dead' WHERE run_id = 2")
    for table, columns, values in (
        ("timer", "run_id, key, workflow, due_at, event_id, name, version, created_at",
         (1, "k", "workflow", 5, "t", "n", 1, 5)),
        ("task", "run_id, id, name, kind, status, attempt, owner, submitted_at",
         (1, "1/go/t1", "pack", "internal", "pending", 0, "gone", 5)),
        ("worker", "id, host, pid, started_at, lease", ("gone", os.uname().nodename, 1, 5, 5)),
    ):  # fmt: skip
        marks = ", ".join("?" for _ in values)
        change(path, f"INSERT INTO {table} ({columns}) VALUES ({marks})", *values)  # noqa: S608 - ours


# --- the file --------------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(doctor_files, "LEAST_ROOM", 0)
    (tmp_path / "letter.txt").write_text("Dear flowstore, " * 300)
    messages = found(capfd, "--store", "letter.txt")
    assert {severity for severity, _, _ in messages} >= {"error"}
    assert any("not a database" in message for _, _, message in messages)


def test_somebody_elses_database(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(doctor_files, "LEAST_ROOM", 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other (id)")
    messages = found(capfd, "--store", "other.db")
    assert ("error", "schema", "this is not a flowstore database") in messages


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_damaged_file_is_reported(path, capfd, place):
    """Wherever it is damaged, there is a report and no traceback; the control is sound."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = bytearray(path.read_bytes())
    begin = 4096 * place % len(raw)
    raw[begin : begin + 300] = b"\xa5" * 300
    path.write_bytes(raw)
    messages = found(capfd)
    assert any(severity == "error" for severity, _, _ in messages), messages


def test_a_file_that_ends_too_soon(path, capfd):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, 4096 * 3)
    assert any(severity == "error" for severity, _, _ in found(capfd))


def test_broken_references_are_found_in_full(path, capfd):
    change(path, "DELETE FROM run WHERE id = 1")
    assert found(capfd) == []
    checks = {check for _, check, _ in found(capfd, "--full")}
    assert checks == {"integrity", "hashes"}


def test_a_schema_that_is_older_newer_or_changed(path, capfd):
    change(path, "UPDATE flowstore_version SET version_num = '0003'")
    only(capfd, "warning", "schema", "at revision 0003, not 0004")
    change(path, "UPDATE flowstore_version SET version_num = '9999'")
    only(capfd, "error", "schema", "at revision 9999")
    change(path, "UPDATE flowstore_version SET version_num = '0004'")
    change(path, "DROP INDEX ix_timer_due")
    only(capfd, "error", "schema", "ix_timer_due")


def test_another_journal_mode_and_settings(path, capfd):
    change(path, "PRAGMA journal_mode=DELETE")
    only(capfd, "warning", "journal", "journal mode is delete")
    change(path, "PRAGMA journal_mode=WAL")
    url = f"sqlite:///{path}?synchronous="
    only(capfd, "warning", "journal", "G1 does not hold", "--store", f"{url}OFF")
    only(capfd, "info", "journal", "lose the last commits", "--store", f"{url}NORMAL")


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True),
        ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)  # fmt: skip
def test_the_versions_with_the_wal_reset_bug(version, has_it):
    assert doctor_files.has_reset_bug(version) is has_it


def test_the_wal_reset_bug_matters_where_several_workers_write(path, capfd, monkeypatch):
    monkeypatch.setattr(doctor_files, "RESET_FIXED", ((99, 0, 0),))
    only(capfd, "info", "sqlite", "WAL-reset bug")
    findings = list(doctor_files.look_at_sqlite(2))
    assert [finding.severity for finding in findings] == ["warning"]
    assert "walresetbug" in findings[0].remedy


def test_a_large_wal_and_who_holds_it(path, capfd, monkeypatch):
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN'); c.execute('SELECT count(*) FROM run').fetchone(); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        reader.stdout.readline()
        change(path, "UPDATE run SET updated_at = updated_at + 1")
        monkeypatch.setattr(doctor_files, "LARGE_WAL", 1)
        messages = found(capfd)
        reader.stdin.close()
    ((severity, check, message),) = messages
    assert (severity, check) == ("warning", "wal")
    if doctor_files._DESCRIPTORS.is_dir():
        assert str(reader.pid) in message


def test_permissions_room_and_what_is_left_over(path, capfd, monkeypatch):
    path.chmod(0o666)
    only(capfd, "warning", "permissions", "every user")
    path.chmod(0o644)
    monkeypatch.setattr(doctor_files, "LEAST_ROOM", 2**80)
    only(capfd, "warning", "disk", "are free")
    monkeypatch.setattr(doctor_files, "LEAST_ROOM", 0)
    for name, severity, text in (
        ("flowstore.db.backup-0003", "info", "1 backup of upgrades"),
        ("flowstore.db.backup-0003.partial", "warning", "not finished"),
        ("flowstore.db-worker-0123", "info", "workers that are gone"),
    ):
        file = path.with_name(name)
        file.write_text("")
        only(capfd, severity, "files", text)
        file.unlink()
    path.with_name("flowstore.db.other").write_text("")  # not ours
    assert found(capfd) == []


def test_a_file_that_is_read_as_it_lies_there(path, capfd, monkeypatch):
    """As in a folder that cannot be written; SQLite then knows of no WAL."""
    assert not path.with_name("flowstore.db-wal").exists()
    monkeypatch.setattr("flowstore.store.readonly._is_frozen", lambda _: True)
    assert found(capfd) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(path, capfd):
    path.parent.chmod(0o555)
    try:
        only(capfd, "info", "permissions", "folder cannot be written")
    finally:
        path.parent.chmod(0o755)


# --- workers and runs ------------------------------------------------------------------------


def test_a_worker_at_work(path, capfd):
    """What it has under way is no finding."""
    worker = Process(path)
    worker.expect("ready")
    worker.ask("serve")
    worker.tell("send", run="r", name="slow", ids=["1"], data={"seconds": 30})
    worker.expect("started")
    only(capfd, "info", "workers", f"process {worker.pid} on {os.uname().nodename}) is at work")
    worker.kill()
    checks = {(severity, check) for severity, check, _ in found(capfd)}
    assert checks == {("info", "workers"), ("info", "files"), ("warning", "runs")}


async def test_a_worker_that_says_nothing(path, capfd):
    store = SQLiteStore(parse(path))
    await store.become_worker()
    change(path, "UPDATE worker SET lease = lease - 100000000")
    only(capfd, "warning", "workers", "beyond its lease")
    await store.close()


def test_a_worker_of_another_machine(path, capfd):
    change(
        path,
        "INSERT INTO worker (id, host, pid, started_at, lease) VALUES ('x', 'mars', 1, 5, 5)",
    )
    only(capfd, "warning", "workers", "another machine's")


def test_runs_that_no_one_serves(path, capfd):
    change(path, "UPDATE run SET status = 'running', cursor = 0")
    only(capfd, "warning", "runs", "2 runs with something to handle, and no worker is there")


def test_a_run_that_waits_for_its_next_attempt_is_fine(path, capfd):
    later = 9_000_000_000_000_000
    change(path, "UPDATE run SET status = 'running', cursor = 0, ready_at = ?", later)
    assert found(capfd) == []


def test_runs_of_a_worker_that_is_gone(path, capfd):
    change(path, "UPDATE run SET status = 'running', cursor = 0, owner = 'gone' WHERE id = 1")
    only(capfd, "warning", "runs", "1 run of workers that are gone: 'one'")


def test_what_is_overdue_and_what_is_left_of_tasks(path, capfd):
    fill_with_trouble(path)
    messages = {check: message for _, check, message in found(capfd)}
    assert "1 timer overdue" in messages["timers"]
    assert "1 task of workers that are gone, in 'one'" in messages["tasks"]
    assert "1 dead letter" in messages["dead"]
    assert "run 'two', position 1: changed" in messages["hashes"]


def test_waits_that_are_counted_wrong_or_last_for_ever(path, capfd):
    change(path, "UPDATE run SET status = 'waiting', waits = 1, updated_at = 5 WHERE id = 1")
    only(capfd, "warning", "runs", "1 run whose count of what is outstanding is wrong: 'one'")
    change(
        path,
        "INSERT INTO parked (run_id, position, handler, kind, answers, started_at, state_number)"
        " VALUES (1, 1, 'go', 'wait', '[[],[],0]', 5, 0)",
    )
    only(capfd, "info", "runs", "1 run waits for events without a time")


def test_dead_letters_and_unhandled_events(tmp_path, capfd, monkeypatch):
    fill(tmp_path / "flowstore.db")
    checks = {check: message for _, check, message in found(capfd)}
    assert checks["dead"].startswith("1 dead letter:")
    assert checks["unhandled"].startswith("2 events")
    Called(capfd, "dead", "discard", "order-1", "4")
    assert "dead" not in {check for _, check, _ in found(capfd)}


def test_only_a_sample_of_the_hashes_is_looked_at(path, capfd, monkeypatch):
    monkeypatch.setattr("flowstore.store.doctor.SAMPLE", 1)
    change(path, "UPDATE event SET name = 'Go' WHERE run_id = 1")
    change(path, "UPDATE run SET updated_at = updated_at + 9000000 WHERE id = 2")
    assert found(capfd) == []
    only(capfd, "error", "hashes", "'one'", "--full")


def test_no_database_is_a_mistake(tmp_path, capfd):
    called = Called(capfd, "doctor", "--store", "none.db")
    assert (called.code, called.out) == (1, "")
    assert "there is no database" in called.err
    assert list(tmp_path.iterdir()) == []


def test_the_program_has_no_traceback(path):
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    done = start("doctor")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "error" in done.stdout
