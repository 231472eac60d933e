"""Which runs are over is said twice, in SQL to find them and in Python under the lock: alike."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore.cli.prune import Wanted, find
from flowstore.store import migrate
from flowstore.store.base import Prune
from flowstore.store.prune import is_over
from flowstore.store.records import RUN_COLUMNS, RunRow

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = 1_700_000_000_000_000
PRUNABLE = ("completed", "failed", "cancelled", "idle")
OVER = {
    "workflow": "shop",
    "status": "completed",
    "head": 3,
    "cursor": 3,
    "state_version": 1,
    "epoch": 1,
    "created_at": BEFORE - 9,
    "updated_at": BEFORE - 1,
    "owner": None,
    "ready_at": None,
    "waits": 0,
    "tasks": 0,
}
OTHERWISE = {
    "workflow": st.just("mail"),
    "status": st.sampled_from([*PRUNABLE, "running", "waiting", "working"]),
    "cursor": st.integers(0, 3),
    "head": st.integers(3, 5),
    "updated_at": st.sampled_from([BEFORE - 2, BEFORE, BEFORE + 1]),
    "owner": st.sampled_from(["", "worker"]),
    "ready_at": st.integers(0, 2 * BEFORE),
    "waits": st.integers(0, 2),
    "tasks": st.integers(0, 2),
}
CHANGED = st.sets(st.sampled_from(sorted(OTHERWISE)), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: OTHERWISE[name] for name in sorted(names)})
)
STATUSES = st.lists(st.sampled_from(PRUNABLE), min_size=1, unique=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rule") / "runs.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        migrate.prepare(connection, path)
    return path


def put(store: Path, rows: list[dict[str, Any]]) -> None:
    """Put runs in the place of those that are there; the last is the newest, which stays."""
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM run")
        for number, changed in enumerate([*rows, {"status": "running"}], start=1):
            row = {"id": number, "correlation_id": f"r{number}", **OVER, **changed}
            marks = ", ".join("?" for _ in row)
            connection.execute(
                f"INSERT INTO run ({', '.join(row)}) VALUES ({marks})",  # noqa: S608 - of ours
                list(row.values()),
            )


def told_by_python(store: Path, wanted: Wanted) -> list[int]:
    names = list(RUN_COLUMNS)
    operation = Prune([], wanted.statuses, wanted.before, BEFORE + 9)
    with contextlib.closing(sqlite3.connect(store)) as connection:
        rows = connection.execute(f"SELECT {', '.join(names)} FROM run ORDER BY id")  # noqa: S608
        runs = [RunRow(*row) for row in rows]
    return [
        run.id
        for run in runs[:-1]
        if is_over(run, operation) and wanted.workflow in {None, run.workflow}
    ]


@settings(max_examples=150)
@given(
    rows=st.lists(CHANGED, max_size=12),
    statuses=STATUSES,
    workflow=st.sampled_from([None, "shop", "mail"]),
)
def test_both_say_the_same_of_any_runs(
    store: Path, rows: list[dict[str, Any]], statuses: list[str], workflow: str | None
) -> None:
    put(store, rows)
    wanted = Wanted(tuple(statuses), BEFORE, workflow)
    assert [run_id for run_id, _ in find(store, wanted)] == told_by_python(store, wanted)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "idle"},
        {"status": "working"},
        {"cursor": 2},
        {"updated_at": BEFORE},
        {"owner": "worker"},
        {"owner": ""},
        {"waits": 1},
        {"tasks": 1},
    ],
    ids=str,
)
def test_each_cell_counts_for_both(store: Path, changed: dict[str, Any]) -> None:
    wanted = Wanted(("completed", "failed"), BEFORE, None)
    put(store, [{}, changed])
    assert [run_id for run_id, _ in find(store, wanted)] == told_by_python(store, wanted) == [1]
