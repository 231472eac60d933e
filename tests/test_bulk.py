"""Rows that are written many at a time: columns without a value are left out, and hold NULL."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.store import migrate, schema
from flowstore.store.base import DropRow, RunRow, StepRow
from flowstore.store.bulk import CHANGED, Bulk
from flowstore.store.records import RUN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS = st.none() | st.sampled_from(["", "a", "0"])
NUMBERS = st.none() | st.integers(0, 3)

DROPS = st.builds(
    DropRow, st.just(1), TEXTS, TEXTS, NUMBERS, TEXTS, st.just("stale"), TEXTS, st.just(7)
)
CHANGES = st.fixed_dictionaries(
    {"owner": TEXTS, "ready_at": NUMBERS, "result": TEXTS, "reason": TEXTS}
)


@contextlib.contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate.prepare(connection, None)
        yield connection


def run_row(number: int, **cells: Any) -> RunRow:
    row = RunRow(number, f"r{number}", "w", "idle", 0, 0, 0, 0, None, None, None, None, None, 1, 1)
    for name, value in cells.items():
        setattr(row, name, value)
    return row


@given(st.lists(st.lists(DROPS, max_size=4), max_size=3))
def test_rows_are_read_as_they_were_written(batches: list[list[DropRow]]) -> None:
    with database() as connection:
        bulk = Bulk(connection)
        for rows in batches:
            bulk.insert(schema.drop, rows)
        found = connection.execute(
            f'SELECT {", ".join(DropRow._fields)} FROM "drop" ORDER BY seq'  # noqa: S608 - of names
        )
        assert [DropRow(*row) for row in found] == [row for rows in batches for row in rows]


@given(st.lists(CHANGES, min_size=1, max_size=4), st.data())
def test_a_change_of_runs_empties_what_has_no_value(
    before: list[dict[str, Any]], data: st.DataObject
) -> None:
    after = data.draw(st.lists(CHANGES, min_size=len(before), max_size=len(before)))
    with database() as connection:
        bulk = Bulk(connection)
        bulk.insert(schema.run, [run_row(i, **cells).values() for i, cells in enumerate(before)])
        changed = [run_row(i, head=2, waits=1, **cells) for i, cells in enumerate(after)]
        bulk.change_runs([(*(getattr(run, name) for name in CHANGED), run.id) for run in changed])
        found = connection.execute(f"SELECT {', '.join(RUN_COLUMNS)} FROM run ORDER BY id")  # noqa: S608 - of names
        assert [RunRow(*row) for row in found] == changed


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_that_is_done_takes_the_place_of_what_it_had_failed_of(count: int) -> None:
    failed = [StepRow(1, 1, "h", f"s{i}", 1, None, 5, 6, "{}") for i in range(count)]
    done = [StepRow(1, 1, "h", f"s{i}", 1, "2", 7, 8) for i in range(count)]
    with database() as connection:
        bulk = Bulk(connection)
        bulk.insert(schema.step, failed)
        bulk.insert(schema.step, done)
        found = connection.execute("SELECT * FROM step ORDER BY name").fetchall()
    assert [StepRow(*row) for row in found] == done


def test_no_rows_are_no_statement() -> None:
    with database() as connection:
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        bulk = Bulk(connection)
        bulk.insert(schema.drop, [])
        bulk.change_runs([])
        assert seen == []
