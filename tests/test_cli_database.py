"""The commands about the database itself."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from command_line import Called, start

from flowstore.store import migrate

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("folder")


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


def test_check_finds_what_is_wrong_and_leaves_it(filled: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(filled)) as connection:
        connection.execute("DROP INDEX ix_drop_run_id")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = filled.read_bytes()
    called = Called(capfd, "db", "check")
    assert called.code == 1
    assert "ix_drop_run_id" in called.out
    checked = start("db", "check", "--json")
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["ok"] is False
    assert filled.read_bytes() == before


def test_a_newer_database_is_refused(filled: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(filled)) as connection:
        connection.execute("UPDATE flowstore_version SET version_num = '9999'")
        connection.commit()
    called = Called(capfd, "db", "upgrade")
    assert called.code == 1
    assert "'9999'" in called.err
    assert "not" in Called(capfd, "db", "current").out
    assert Called(capfd, "db", "check").code == 1
