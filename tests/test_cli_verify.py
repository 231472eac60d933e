"""The command `verify`, `workflow.verify()`, and stores that are at work or were upgraded."""

# ruff: noqa: S608 - the names of columns are those of this file

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3

import pytest
from alembic import command
from alembic.config import Config
from command_line import Called
from test_verify import fill, flaws, forge

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import RunNotFoundError
from flowstore.store import migrate
from flowstore.store.verify import verify

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "runs.db"
    asyncio.run(fill(path))
    return path


def spoil(path, sql="UPDATE event SET data = '{}' WHERE position = 7"):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


@pytest.fixture
def path(original, tmp_path):
    path = tmp_path / "flowstore.db"
    with (
        contextlib.closing(sqlite3.connect(original)) as source,
        contextlib.closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)
    return path


def test_the_command_says_what_it_has_found(path, capfd):
    called = Called(capfd, "verify")
    assert (called.code, called.out) == (
        0,
        "flowstore.db: sound: 18 events in 4 runs, as appended\n",
    )
    spoil(path)
    called = Called(capfd, "verify")
    assert called.code == 1
    assert called.out.splitlines() == [
        (
            "run 'many', position 7: changed: its cells do not fit its hash (or position 6 was "
            "changed, and its hash made anew)"
        ),
        "flowstore.db: 1 run is not sound, 3 are",
    ]
    assert Called(capfd, "verify", "one").code == 0
    assert Called(capfd, "verify", "many").code == 1


def test_what_it_prints_as_json_can_be_kept_and_given_back(path, tmp_path, capfd):
    kept = tmp_path / "heads.json"
    kept.write_text(Called(capfd, "verify", "--json").out)
    said = json.loads(kept.read_text())
    assert (said["ok"], said["events"], said["flaws"]) == (True, 18, [])
    assert [(run["correlation_id"], run["head"]) for run in said["runs"]] == list(
        {"one": 1, "many": 12, "más": 5, "none": 0}.items()
    )
    assert Called(capfd, "verify", "--against", "heads.json").code == 0
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        forge(connection, "many", 3)
    assert Called(capfd, "verify").code == 0
    assert Called(capfd, "verify", "one", "--against", "heads.json").code == 0
    called = Called(capfd, "verify", "--against", "heads.json", "--json")
    assert called.code == 1
    said = json.loads(called.out)
    assert [(flaw["correlation_id"], flaw["kind"]) for flaw in said["flaws"]] == [
        ("many", "changed")
    ]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"runs": [1]}', '{"runs": [{"correlation_id": 1}]}',
             '{"runs": [{"correlation_id": "a", "head": "1", "chain": null}]}',
             '{"runs": [{"correlation_id": "a", "head": 1, "chain": "zz"}]}', "[" * 100_000],
)  # fmt: skip
@pytest.mark.usefixtures("path")
def test_a_file_that_is_none_of_ours_is_a_mistake(text, tmp_path, capfd):
    (tmp_path / "odd.json").write_text(text)
    called = Called(capfd, "verify", "--against", "odd.json")
    assert (called.code, called.out) == (2, "")
    assert called.err.count("\n") == 1
    assert "odd.json" in called.err


@pytest.mark.usefixtures("path")
def test_mistakes(capfd):
    for words, code, says in (
        (("verify", "nobody"), 1, "there is no run 'nobody'"),
        (("verify", "--against", "none.json"), 2, "cannot be read"),
        (("verify", "--store", "none.db"), 1, "there is no database"),
    ):
        called = Called(capfd, *words)
        assert (called.code, called.out) == (code, "")
        assert says in called.err


def test_a_database_of_an_older_schema_says_what_to_do(path, capfd):
    spoil(path, "UPDATE flowstore_version SET version_num = '0003'")
    called = Called(capfd, "verify")
    assert called.code == 1
    assert "flowstore db upgrade" in called.err


async def test_runs_that_go_on_meanwhile_are_sound(tmp_path):
    """Pages are read one by one; what is appended between them is no flaw."""
    path = tmp_path / "busy.db"
    workflow = WorkflowManager(path)
    loop = asyncio.get_running_loop()

    async def send(number):
        for _ in range(number):
            await workflow.send(WorkflowEvent("go"), correlation_id="r")

    await send(5)
    reports = []

    def look():
        def seen(_):
            reports.append(asyncio.run_coroutine_threadsafe(send(3), loop).result(30))

        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return verify(connection, seen=seen)

    found = await asyncio.to_thread(look)
    assert len(reports) > 0
    assert found.flaws == []
    await workflow.close()


def test_the_events_of_an_older_database_get_their_hashes_when_it_is_upgraded(tmp_path):
    """More than the upgrade reads at a time, and in runs that took turns."""
    path = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", str(migrate.find_scripts()))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    command.upgrade(config, "0003")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        columns = "workflow, status, head, cursor, state_version, epoch, created_at, updated_at"
        for run in range(1, 4):
            connection.execute(
                f"INSERT INTO run (id, correlation_id, {columns})"
                " VALUES (?, ?, 'w', 'idle', 4000, 0, 0, 0, 0, 0)",
                (run, f"ä{run}"),
            )
        rows = [
            (run, position, f"e{position}", '{"ü":1}' if run == 2 else None, 10**15)
            for position in range(1, 4001)
            for run in range(1, 4)
        ]
        connection.executemany(
            "INSERT INTO event (run_id, position, id, name, version, data, created_at)"
            " VALUES (?, ?, ?, 'go', 1, ?, ?)",
            rows,
        )
        connection.execute("COMMIT")
        migrate.prepare(connection, path)
        found = verify(connection)
        assert (found.flaws, found.events) == ([], 12_000)
        connection.execute("UPDATE event SET id = 'x' WHERE run_id = 2 AND position = 3999")
        assert flaws(connection) == [("ä2", 3999, "changed")]


@pytest.mark.parametrize("place", ["runs.db", ":memory:"])
async def test_a_program_can_ask_its_workflow(make, tmp_path, place):
    workflow = make(place if place == ":memory:" else tmp_path / place)
    for name in ("r", "s"):
        await workflow.send(WorkflowEvent("go"), correlation_id=name)
    assert await workflow.verify() == await workflow.verify("r") == []
    with pytest.raises(RunNotFoundError):
        await workflow.verify("nobody")
    if place == "runs.db":
        spoil(tmp_path / place, "UPDATE event SET name = 'Go' WHERE run_id = 2")
        (flaw,) = await workflow.verify()
        assert (flaw.correlation_id, flaw.position, flaw.kind) == ("s", 1, "changed")
        assert await workflow.verify("r") == []
