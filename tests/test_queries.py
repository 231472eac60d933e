"""What can be read from a store."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sample import (
    SECOND,
    START,
    add_drop,
    add_event,
    add_run,
    add_snapshot,
    add_transition,
    writing,
)
from sqlalchemy import event

from flowstore.errors import RunNotFoundError
from flowstore.store.queries import Queries
from flowstore.store.readonly import open_queries, read_only_engine
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from pathlib import Path


# --- runs ----------------------------------------------------------------------------


async def test_a_run_is_found_by_its_correlation_id(queries: Queries):
    run = await queries.get_run("mail")
    assert run is not None
    assert (run.workflow, run.status, run.head, run.cursor) == ("mail", "completed", 1, 1)
    assert run.result == '{"sent":true}'
    assert (run.created_at, run.updated_at) == (START, START + SECOND)
    assert await queries.get_run("no such run") is None


async def test_runs_come_youngest_first(queries: Queries):
    async def names(**options: Any) -> list[str]:
        return [run.correlation_id for run in await queries.list_runs(**options)]

    assert await names() == ["mail", "order-2", "order-1"]
    assert await names(limit=2) == ["mail", "order-2"]
    assert await names(before="order-2") == ["order-1"]
    assert await names(before="order-1") == []
    assert await names(workflow="orders") == ["order-2", "order-1"]
    assert await names(statuses=["running"]) == ["order-2"]
    assert await names(workflow="mail", statuses=["running"]) == []
    with pytest.raises(RunNotFoundError, match="no such run"):
        await queries.list_runs(before="no such run")


# --- the log -------------------------------------------------------------------------


async def test_events_between_positions(queries: Queries):
    async def positions(**options: Any) -> list[int]:
        return [event.position for event in await queries.read_events("order-1", **options)]

    assert await positions() == [1, 2, 3, 4, 5, 6, 7]
    assert await positions(after=2, until=5) == [3, 4, 5]
    assert await positions(after=2, limit=2) == [3, 4]
    assert await positions(limit=2, descending=True) == [7, 6]
    assert await positions(after=7) == []
    assert await queries.read_events("no such run") == []


async def test_an_event_is_read_as_it_was_written(queries: Queries):
    (event,) = await queries.read_events("order-1", limit=1)
    assert event.data == '{"total":12.5,"note":"two\\nlines"}'
    assert (event.id, event.name, event.created_at) == ("event-1", "order", START + SECOND)
    assert (event.metadata, event.error, event.causation_id, event.expires_at) == (None,) * 4
    (late,) = await queries.read_events("order-1", after=5, until=6)
    assert late.expires_at == START + 5 * SECOND


async def test_transitions_between_positions(queries: Queries):
    transitions = await queries.read_transitions("order-1")
    assert [(each.position, each.number, each.outcome) for each in transitions] == [
        (1, 1, "handled"),
        (1, 2, "handled"),
        (4, 3, "retried"),
        (4, 4, "dead"),
    ]
    (first,) = await queries.read_transitions("order-1", after=1, until=6, limit=1)
    assert (first.number, first.handler, first.duration) == (3, "handle", 250)
    assert await queries.read_transitions("no such run") == []


# --- state ---------------------------------------------------------------------------


async def test_state_starts_from_the_last_snapshot(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "long", head=6, cursor=6)
        for position in range(1, 7):
            add_event(connection, 9, position, "step")
            add_transition(connection, 9, position, position, change=f"change {position}")
        add_transition(connection, 9, 6, 7, handler="second", change="change 7")
        add_transition(connection, 9, 6, 8, handler="third")
        add_snapshot(connection, 9, 2, "state 2")
        add_snapshot(connection, 9, 4, "state 4")
    queries = open_queries(StoreUrl(filled))
    assert await queries.read_state("long") == ("state 4", ["change 5", "change 6", "change 7"])
    assert await queries.read_state("long", at=5) == ("state 4", ["change 5"])
    assert await queries.read_state("long", at=4) == ("state 4", [])
    assert await queries.read_state("long", at=3) == ("state 2", ["change 3"])
    assert await queries.read_state("long", at=1) == (None, ["change 1"])
    assert await queries.read_state("long", at=0) == (None, [])
    assert await queries.read_state("no such run") == (None, [])


async def test_a_snapshot_before_the_first_event_counts(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "fork", head=1, cursor=1)
        add_event(connection, 9, 1, "step")
        add_transition(connection, 9, 1, 1, change="change 1")
        add_snapshot(connection, 9, 0, "state 0")
    queries = open_queries(StoreUrl(filled))
    assert await queries.read_state("fork") == ("state 0", ["change 1"])
    assert await queries.read_state("fork", at=0) == ("state 0", [])


async def test_state_is_of_one_moment(filled: Path):
    """Snapshot and changes agree while a writer moves both on (G12)."""
    with writing(filled) as connection:
        add_run(connection, 9, "busy", head=0, cursor=0)
    stop = threading.Event()
    writer = threading.Thread(target=_write_states, args=(filled, stop))
    writer.start()
    queries = open_queries(StoreUrl(filled))
    seen: set[int] = set()
    try:
        while len(seen) < 20:
            snapshot, changes = await queries.read_state("busy")
            start = int(snapshot or 0)
            assert changes == [str(start + 1 + each) for each in range(len(changes))]
            assert len(changes) < 3
            seen.add(start)
    finally:
        stop.set()
        writer.join()


def _write_states(path: Path, stop: threading.Event) -> None:
    """One change a transaction; each third comes with a snapshot and without older rows."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        position = 0
        while not stop.is_set():
            position += 1
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO transition (run_id, position, number, handler, attempt, outcome, "
                "change, started_at, duration) VALUES (9, ?, ?, 'h', 1, 'handled', ?, 0, 0)",
                (position, position, str(position)),
            )
            if position % 3 == 0:
                row = (position, str(position))
                connection.execute("INSERT INTO snapshot VALUES (9, ?, ?)", row)
                connection.execute(
                    "DELETE FROM snapshot WHERE run_id = 9 AND position < ?", row[:1]
                )
                connection.execute("DELETE FROM transition WHERE run_id = 9")
            connection.execute("COMMIT")


# --- what was refused, failed or passed over (G7) --------------------------------------


async def test_drops_come_youngest_first_with_their_reason(queries: Queries):
    drops = await queries.list_drops()
    assert [(each.correlation_id, each.event_id, each.reason) for each in drops] == [
        ("mail", "another", "stale"),
        ("order-1", "event-1", "duplicate"),
        ("order-1", "event-7", "duplicate"),
        ("order-1", "event-6", "expired"),
    ]
    assert drops[0].detail == "the run is completed"
    assert len(await queries.list_drops("order-1")) == 3
    assert len(await queries.list_drops("order-1", reason="duplicate", limit=1)) == 1
    assert await queries.list_drops(reason="lease_lost") == []
    assert await queries.list_drops("no such run") == []


async def test_dead_letters_come_with_their_event(queries: Queries):
    (dead,) = await queries.list_dead()
    assert (dead.correlation_id, dead.position, dead.event_id, dead.name) == (
        "order-1",
        4,
        "event-4",
        "pay",
    )
    assert (dead.attempt, dead.error, dead.traceback) == (2, "no money", "Traceback …")
    assert await queries.list_dead("order-1") == [dead]
    assert await queries.list_dead("mail") == []


async def test_dead_letters_of_all_runs_come_youngest_first(filled: Path):
    with writing(filled) as connection:
        add_event(connection, 3, 2, "reply")
        add_transition(connection, 3, 2, 2, outcome="dead", started_at=START + 9 * SECOND)
    queries = open_queries(StoreUrl(filled))
    assert [dead.correlation_id for dead in await queries.list_dead()] == ["mail", "order-1"]
    assert [dead.correlation_id for dead in await queries.list_dead(limit=1)] == ["mail"]


async def test_dead_letters_are_found_by_their_index(filled: Path):
    """Listing them does not read every transition (G11)."""
    engine = read_only_engine(StoreUrl(filled))
    executed: list[tuple[str, Any]] = []
    event.listen(
        engine.sync_engine,
        "before_cursor_execute",
        lambda _, __, statement, parameters, *___: executed.append((statement, parameters)),
    )
    await Queries(engine.connect, "runs.db").list_dead(limit=5)
    statement, parameters = executed[-1]
    with contextlib.closing(sqlite3.connect(filled)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    assert any("ix_transition_dead" in row[3] for row in plan)


async def test_unhandled_events_were_neither_handled_nor_dropped(queries: Queries):
    """A repeat that was dropped does not hide that the original had no handler (G7)."""
    unhandled = await queries.list_unhandled()
    assert [(name, event.position) for name, event in unhandled] == [("order-1", 7), ("order-1", 3)]
    assert unhandled[1][1].name == "unknown"
    assert await queries.list_unhandled("order-1", limit=1) == unhandled[:1]
    assert await queries.list_unhandled("order-2") == []


async def test_pending_events_are_not_unhandled(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "waiting", status="running", head=2, cursor=1)
        add_event(connection, 9, 1, "one")
        add_event(connection, 9, 2, "two")
        add_drop(connection, 1, "event-1", "stale")
    unhandled = await open_queries(StoreUrl(filled)).list_unhandled("waiting")
    assert [event.name for _, event in unhandled] == ["one"]


async def test_counts_of_a_run(queries: Queries):
    counts = await queries.count("order-1")
    assert counts.events["order"] == 1
    assert sum(counts.events.values()) == 7
    assert counts.transitions == {"dead": 1, "handled": 2, "retried": 1}
    assert counts.drops == {"duplicate": 2, "expired": 1}
    assert (counts.steps, counts.unhandled) == (0, 2)
    assert (await queries.count("no such run")).events == {}
