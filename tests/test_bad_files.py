"""Stores that cannot be used: damaged, foreign, read-only, full, locked. Nothing is lost."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from disks import fill, read_only, small_disk
from programs import environment
from watching import collect, log, query

from flowstore import WorkflowEvent
from flowstore.errors import (
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreFullError,
    StoreUnavailableError,
    StoreUrlError,
)
from flowstore.store.sqlite import open_writer
from flowstore.store.url import parse


async def _refused(make, store, kind, *words):
    """Every way in is refused alike; the message names the file and what to do."""
    for action in (
        lambda workflow: workflow.send(WorkflowEvent("go")),
        lambda workflow: collect(workflow.process(WorkflowEvent("go"))),
        lambda workflow: workflow.resume(),
        lambda workflow: workflow.__aenter__(),
        lambda workflow: workflow.run("r").status(),
        lambda workflow: workflow.run("r").state(),
    ):
        workflow = make(store)
        with pytest.raises(kind) as caught:
            await action(workflow)
        assert str(store) in str(caught.value)
        for word in words:
            assert word in str(caught.value)
        await workflow.close()


@pytest.fixture
async def sound(make, path):
    """A database with one event in it, closed."""
    workflow = make()
    await workflow.send(WorkflowEvent("go", {"n": 1}), correlation_id="r")
    await workflow.close()
    return path


# --- files that are no store ---------------------------------------------------------------


async def test_a_file_that_is_no_database(make, path):
    path.write_text("Dear database, " * 1000)
    await _refused(make, path, StoreCorruptError, "not a database", "name another file")
    assert path.read_text() == "Dear database, " * 1000


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where open files can be seen")
def test_a_file_that_is_refused_is_closed(path):
    """The traceback, which knows the connection, is kept."""
    path.write_text("Dear database, " * 1000)
    with pytest.raises(StoreCorruptError) as caught:
        open_writer(parse(str(path)))
    held = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert held
    assert [link for link in held if link.samefile(path)] == []
    assert caught.tb is not None


async def test_a_damaged_database(make, sound):
    content = bytearray(sound.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    sound.write_bytes(content)
    await _refused(make, sound, StoreCorruptError, "damaged", "restore a backup")
    assert sound.read_bytes()[4096:] == content[4096:]


async def test_a_database_that_was_cut_short(make, sound):
    content = sound.read_bytes()
    sound.write_bytes(content[: len(content) // 2])
    await _refused(make, sound, StoreCorruptError, "damaged")
    assert sound.read_bytes() == content[: len(content) // 2]


async def test_a_sound_database(make, sound):
    """The control to the ones above."""
    assert await log(make(sound), "r") == [(1, "go")]


async def test_an_empty_file_becomes_a_store(make, path):
    path.touch()
    await make().send(WorkflowEvent("go"), correlation_id="r")
    assert query(path, "SELECT count(*) FROM event") == [(1,)]


async def test_a_database_of_another_program_with_tables_of_the_same_name(make, path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run (distance REAL)")
        connection.execute("INSERT INTO run VALUES (42.195)")
        connection.commit()
    await _refused(make, path, SchemaError, "run")
    assert query(path, "SELECT * FROM run") == [(42.195,)]
    assert query(path, "SELECT name FROM sqlite_master") == [("run",)]


async def test_a_database_of_a_newer_flowstore(make, sound):
    with contextlib.closing(sqlite3.connect(sound)) as connection:
        connection.execute("UPDATE flowstore_version SET version_num = '9999'")
        connection.commit()
    await _refused(make, sound, SchemaError, "9999", "newer")
    assert query(sound, "SELECT count(*) FROM event") == [(1,)]


async def test_a_users_own_tables_may_be_in_the_file(make, path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customer (name TEXT)")
        connection.commit()
    await make().send(WorkflowEvent("go"), correlation_id="r")
    assert query(path, "SELECT count(*) FROM customer") == [(0,)]


# --- rows that something else has written ----------------------------------------------------


async def test_a_row_that_is_not_json_is_a_dead_letter_and_holds_up_nothing(make, sound, caplog):
    with contextlib.closing(sqlite3.connect(sound)) as connection:
        connection.execute("UPDATE event SET data = '{broken'")
        connection.commit()
    seen = []

    async def handle(event):
        seen.append(event.position)

    workflow = make().register("go", handle)
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    assert await workflow.resume() == ["r"]
    assert seen == [2]
    (dead,) = await (await workflow._runtime.reader()).list_dead()
    assert "not JSON" in dead.error


async def test_a_state_that_something_else_has_written_stops_its_run_alone(make, path, caplog):
    async def handle(event, ctx):
        ctx["n"] = 1

    workflow = make().register("go", handle)
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="broken"))
    await workflow.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE transition SET change = '[broken'")
        connection.commit()
    await workflow.send(WorkflowEvent("go"), correlation_id="broken")
    with pytest.raises(Exception, match=r"state|stored value|change") as caught:
        await workflow.run("broken").state()
    assert type(caught.value).__module__ == "flowstore.errors"
    await collect(workflow.process(WorkflowEvent("go"), correlation_id="fine"))
    assert await workflow.run("fine").state() == {"n": 1}
    with pytest.raises(Exception, match=r"state|stored value|change") as caught:
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="broken"))
    assert type(caught.value).__module__ == "flowstore.errors"


# --- places where no file can be -------------------------------------------------------------


@pytest.mark.parametrize("store", ["none/runs.db", "file/runs.db", "folder"])
async def test_a_place_where_there_can_be_no_file_is_named_at_once(make, tmp_path, store):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUrlError, match=r"folder") as caught:
        make(tmp_path / store)
    assert str(tmp_path / store) in str(caught.value)
    assert not (tmp_path / "none").exists()


async def test_a_folder_that_goes_away_before_the_store_is_opened(make, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    workflow = make(folder / "runs.db")
    folder.rmdir()
    with pytest.raises(StoreUnavailableError, match=r"runs\.db: .*folder"):
        await workflow.send(WorkflowEvent("go"))
    # The control: it works as soon as there is one.
    folder.mkdir()
    assert (await workflow.send(WorkflowEvent("go"))).status == "accepted"


async def test_a_read_only_folder(make, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with read_only(folder):
        await _refused(make, folder / "runs.db", StoreUnavailableError, "folder")
    # The control: as soon as it may be written, it is.
    assert (await make(folder / "runs.db").send(WorkflowEvent("go"))).status == "accepted"


async def test_a_store_in_a_folder_that_has_become_read_only(make, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    workflow = make(folder / "runs.db")
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    await workflow.close()
    with read_only(folder):
        await _refused(make, folder / "runs.db", StoreUnavailableError)
    assert await log(make(folder / "runs.db"), "r") == [(1, "go")]


# --- full disks --------------------------------------------------------------------------------


async def _send_until_full(workflow, sent, size=2000):
    while True:
        receipt = await workflow.send(
            WorkflowEvent("go", {"n": len(sent), "text": "x" * size}), correlation_id="r"
        )
        assert receipt.status == "accepted"
        sent.append(len(sent))
        assert len(sent) < 100_000


async def test_a_full_disk_loses_nothing_that_was_acknowledged(make, tmp_path):
    """G1: and when there is room again, it goes on."""
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 500_000)
        workflow, sent = make(disk / "runs.db"), []
        with pytest.raises(StoreFullError, match=r"runs\.db: the disk is full.*make room"):
            await _send_until_full(workflow, sent)
        assert sent
        with pytest.raises(StoreFullError):
            await workflow.send(WorkflowEvent("go", "x" * 100_000), correlation_id="r")
        assert [e.data["n"] for e in await collect(workflow.run("r").events())] == sent
        ballast.unlink()
        receipt = await workflow.send(WorkflowEvent("go", {"n": len(sent)}), correlation_id="r")
        assert receipt.position == len(sent) + 1
        await workflow.close()
        events = await collect(make(disk / "runs.db").run("r").events())
        assert [event.data["n"] for event in events] == [*sent, len(sent)]


async def test_a_disk_that_is_full_while_a_run_is_handled(make, tmp_path, caplog):
    """G3: the run stops with an error, and goes on when there is room; nothing counts twice."""
    with small_disk(tmp_path / "disk") as disk:
        workflow, calls = make(disk / "runs.db"), []

        async def handle(event, ctx):
            calls.append(event.position)
            ctx["seen"] = [*ctx.get("seen", []), event.position]
            ctx["text"] = "x" * 200_000
            if len(calls) == 1:
                fill(disk)

        workflow.register("go", handle)
        with pytest.raises(StoreFullError, match="disk is full"):
            await collect(workflow.process(WorkflowEvent("go"), correlation_id="r", id="e"))
        (disk / "ballast").unlink()
        events = await collect(workflow.process(WorkflowEvent("go"), correlation_id="r", id="e"))
        assert [event.name for event in events] == ["go"]
        assert (await workflow.run("r").state())["seen"] == [1]
        assert calls == [1, 1]
        await workflow.close()


async def test_a_service_goes_on_by_itself_when_there_is_room_again(make, tmp_path, clock, caplog):
    with small_disk(tmp_path / "disk") as disk:
        workflow, calls = make(disk / "runs.db", clock=clock), []

        async def handle(event, ctx):
            calls.append(event.position)
            ctx["seen"] = [*ctx.get("seen", []), event.position]
            ctx["text"] = "x" * 200_000
            if len(calls) == 1:
                fill(disk)

        workflow.register("go", handle)
        async with workflow:
            await workflow.send(WorkflowEvent("go"), correlation_id="r")
            await clock.until_asleep()
            assert calls == [1]
            (disk / "ballast").unlink()
            await clock.advance(5)
            assert (await workflow.run("r").wait()).status == "idle"
        assert calls == [1, 1]
        assert (await workflow.run("r").state())["seen"] == [1]
        await workflow.close()


async def test_a_disk_with_no_room_for_a_database(make, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        ballast = fill(disk)
        await _refused(make, disk / "runs.db", StoreFullError, "make room")
        ballast.unlink()
        assert (await make(disk / "runs.db").send(WorkflowEvent("go"))).status == "accepted"


_LIMITED = """
import asyncio, resource
from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import StoreError

workflow = WorkflowManager("runs.db")

async def main():
    await workflow.send(WorkflowEvent("go", 0), correlation_id="r")
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    sent = 1
    try:
        while sent < 200:
            await workflow.send(WorkflowEvent("go", "x" * 20_000), correlation_id="r")
            sent += 1
    except StoreError as error:
        assert "runs.db" in str(error), error
        print("refused")
    print(sent)

asyncio.run(main())
"""


def _run(folder, program):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("limit", "words"), [(1_000_000, ["refused"]), (2**40, [])])
async def test_a_file_that_may_not_grow(make, tmp_path, limit, words):
    """Without a mount: the system stops the file from growing. Without the limit, it grows."""
    done = _run(tmp_path, _LIMITED.replace("LIMIT, LIMIT", f"{limit}, {limit}"))
    assert (done.returncode, done.stderr) == (0, "")
    *said, sent = done.stdout.split()
    assert said == words
    assert len(await log(make(tmp_path / "runs.db"), "r")) == int(sent)


# --- locked ------------------------------------------------------------------------------------


async def test_a_database_that_another_program_keeps_locked(make, path):
    workflow = make(f"sqlite:///{path}?busy_timeout=0.02")
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match=r"runs\.db: .*busy_timeout"):
            await workflow.send(WorkflowEvent("go"), correlation_id="r")
        other.execute("ROLLBACK")
    assert (await workflow.send(WorkflowEvent("go"), correlation_id="r")).position == 2


async def test_a_database_that_is_locked_for_a_while(make, path):
    """The control to the one above: within the time allowed, it waits."""
    workflow = make()
    await workflow.send(WorkflowEvent("go"), correlation_id="r")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sending = asyncio.create_task(workflow.send(WorkflowEvent("go"), correlation_id="r"))
        # Reading does not wait for it, meanwhile.
        assert await log(workflow, "r") == [(1, "go")]
        assert not sending.done()
        other.execute("ROLLBACK")
        assert (await sending).position == 2
