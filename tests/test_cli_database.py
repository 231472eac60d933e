"""The commands about the database itself."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from command_line import Called, settle, start
from sample import fill

from flowstore.store import migrate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "flowstore.db"
    fill(path)
    return path


def test_upgrade_creates_the_database_and_is_repeatable(capfd: pytest.CaptureFixture[str]):
    made = start("db", "upgrade")
    assert (made.returncode, made.stderr) == (0, "")
    assert f"created at revision {migrate.LATEST}" in made.stdout
    assert "already" in Called(capfd, "db", "upgrade").out
    current = Called(capfd, "db", "current", "--json").json
    assert current == {
        "store": "flowstore.db",
        "revision": migrate.LATEST,
        "latest": migrate.LATEST,
    }
    assert Called(capfd, "db", "check", "--json").json == {
        "store": "flowstore.db",
        "ok": True,
        "problems": [],
    }


def test_check_finds_what_is_wrong_and_leaves_it(path: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX ix_drop_run_id")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    called = Called(capfd, "db", "check")
    assert called.code == 1
    assert "ix_drop_run_id" in called.out
    checked = start("db", "check", "--json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["ok"] is False
    assert path.read_bytes() == before


def test_a_newer_database_is_refused(path: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE flowstore_version SET version_num = '9999'")
        connection.commit()
    called = Called(capfd, "db", "upgrade")
    assert called.code == 1
    assert "'9999'" in called.err
    assert "not" in Called(capfd, "db", "current").out
    assert Called(capfd, "db", "check").code == 1
