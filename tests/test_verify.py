"""What was changed, removed or inserted in the log is found, and the row named."""

# ruff: noqa: S608 - the names of columns are those of this file

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3

import pytest

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.store import chain
from flowstore.store.verify import Known, verify

COLUMNS = (
    "position", "id", "name", "version", "data", "metadata", "error", "causation_id", "created_at",
    "expires_at", "hash",
)  # fmt: skip
RUNS = {"one": 1, "many": 12, "más": 5, "none": 0}


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store whose runs have as many events as `RUNS` says, sent in turns."""
    path = tmp_path_factory.mktemp("original") / "runs.db"
    asyncio.run(fill(path))
    return path


async def fill(path):
    workflow = WorkflowManager(path)
    for number in range(1, 13):
        for name, count in RUNS.items():
            if number <= count:
                data = {"n": number, "text": "ü" * number}
                event = WorkflowEvent("go", data, {"by": "ada"} if number % 2 else None)
                await workflow.send(event, correlation_id=name, id=f"{name}-{number}")
    await workflow.close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        values = ("none", "w", "idle", 0, 0, 0, 0, 0, 0)
        connection.execute(
            "INSERT INTO run (correlation_id, workflow, status, head, cursor, state_version, epoch,"
            " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )


@pytest.fixture
def copy(original):
    """The same in memory, to be spoiled."""
    with (
        contextlib.closing(sqlite3.connect(original)) as source,
        contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
    ):
        source.backup(connection)
        yield connection


def flaws(connection, name=None, **options):
    return [
        (flaw.correlation_id, flaw.position, flaw.kind)
        for flaw in verify(connection, name, **options).flaws
    ]


def run_id(connection, name):
    return connection.execute("SELECT id FROM run WHERE correlation_id = ?", (name,)).fetchone()[0]


def run_sql(connection, sql, name, *values):
    """Change something of a run; its id is the last parameter."""
    done = connection.execute(sql, (*values, run_id(connection, name)))
    assert done.rowcount > 0


def test_an_untouched_store_is_sound(copy):
    """The control of every test here."""
    found = verify(copy)
    assert (found.flaws, found.events) == ([], 18)
    assert {name: known.head for name, known in found.runs.items()} == RUNS
    for name, count in RUNS.items():
        alone = verify(copy, name)
        assert (alone.flaws, alone.events) == ([], count)
        assert alone.runs == {name: found.runs[name]}
    assert verify(copy, "nobody") is None


def test_whoever_has_the_connection_reads_texts_as_before(copy):
    run_sql(copy, "UPDATE event SET name = CAST(x'ff' AS TEXT) WHERE run_id = ?", "one")
    assert [flaw.correlation_id for flaw in verify(copy).flaws] == ["one"]
    with pytest.raises(sqlite3.OperationalError, match="decode"):
        copy.execute("SELECT name FROM event").fetchall()


# --- any byte of any cell ------------------------------------------------------------------


def altered(chance, value):
    """Return a cell that differs by a byte, a type, or by being there."""
    if value is None:
        return chance.choice(["", 0, b"", "null", 1.5, float("inf"), b"\0"])
    if isinstance(value, int):
        return chance.choice([value ^ (1 << chance.randrange(62)), value + 0.5, f"x{value}", b"1"])
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    way = chance.randrange(7)
    if way == 0:
        return bytes(raw) if isinstance(value, str) else value.hex()
    if way == 6:
        return None
    if way == 1:
        return "" if raw else "x"
    place = chance.randrange(len(raw) + 1)
    if way == 2 or place == len(raw):
        raw.insert(place, chance.randrange(256))
    elif way == 3:
        del raw[place]
    else:
        raw[place] ^= 1 << chance.randrange(8)
    return bytes(raw)


@pytest.mark.parametrize("seed", range(400))
def test_any_byte_of_any_cell(copy, seed):
    """It need be no UTF-8 any more, and no JSON, nor of the right type."""
    chance = random.Random(seed)
    name, column = chance.choice(["one", "many", "más"]), chance.choice(COLUMNS)
    position = chance.randint(1, RUNS[name])
    _without_constraints(copy)
    place = (run_id(copy, name), position)
    (seq,) = copy.execute(
        "SELECT seq FROM event WHERE run_id = ? AND position = ?", place
    ).fetchone()
    shown = f"SELECT CAST({column} AS BLOB), typeof({column}) FROM event WHERE seq = ?"
    before = copy.execute(shown, (seq,)).fetchone()
    (value,) = copy.execute(f"SELECT {column} FROM event WHERE seq = ?", (seq,)).fetchone()
    while copy.execute(shown, (seq,)).fetchone() == before:  # the column's type may undo it
        cell = altered(chance, value)
        is_text = isinstance(cell, bytes) and isinstance(value, str) and chance.random() < 0.8
        mark = "CAST(? AS TEXT)" if is_text else "?"
        copy.execute(f"UPDATE event SET {column} = {mark} WHERE seq = ?", (cell, seq))
    found = flaws(copy)
    assert [flaw[0] for flaw in found] == [name]
    named, kind = found[0][1:]
    if column == "position":
        # It is missed where it was, or stands where nothing can.
        assert named in {position, None} or not 1 <= named <= RUNS[name]
    else:
        assert (named, kind) == (position, "changed")
    assert flaws(copy, name) == found


def _without_constraints(connection):
    """Have a table of the events that takes anything."""
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'event'").fetchone()
    head, *lines = sql.splitlines()
    kept = [line for line in lines if not line.strip().startswith("CONSTRAINT")]
    loose = (
        "\n".join([head, *kept])
        .replace("NOT NULL", "")
        .replace("seq INTEGER ", "seq INTEGER PRIMARY KEY")
    )
    body, _, _ = loose.rpartition(")")
    connection.execute("ALTER TABLE event RENAME TO strict_event")
    connection.execute(f"{body.rstrip().rstrip(',')})")
    connection.execute("INSERT INTO event SELECT * FROM strict_event")
    connection.execute("DROP TABLE strict_event")
    assert verify(connection).flaws == []


# --- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [1, 2, 7, 12])
def test_a_row_that_was_removed(copy, position):
    run_sql(copy, "DELETE FROM event WHERE position = ? AND run_id = ?", "many", position)
    assert flaws(copy) == flaws(copy, "many") == [("many", position, "removed")]
    (flaw,) = verify(copy).flaws
    assert ("cut off" in flaw.message) == (position == 12)


@pytest.mark.parametrize("position", [1, 2, 7, 11])
def test_a_row_that_was_removed_and_the_rest_moved_up(copy, position):
    run_sql(copy, "DELETE FROM event WHERE position = ? AND run_id = ?", "many", position)
    for later in range(position + 1, 13):
        run_sql(
            copy, "UPDATE event SET position = position - 1 WHERE position = ? AND run_id = ?",
            "many", later,
        )  # fmt: skip
    run_sql(copy, "UPDATE run SET head = 11 WHERE id = ?", "many")
    ((name, named, kind),) = flaws(copy)
    assert (name, named) == ("many", position)
    assert kind == ("removed" if position < 11 else "changed")  # nothing behind it tells


def test_all_rows_of_a_run_that_were_removed(copy):
    run_sql(copy, "DELETE FROM event WHERE run_id = ?", "many")
    assert flaws(copy) == [("many", 1, "removed")]


@pytest.mark.parametrize("position", [1, 2, 7, 12])
def test_a_row_that_was_inserted(copy, position):
    """In the middle, with what is behind it moved down."""
    for later in range(12, position - 1, -1):
        run_sql(
            copy, "UPDATE event SET position = position + 1 WHERE position = ? AND run_id = ?",
            "many", later,
        )  # fmt: skip
    _insert(copy, "many", position, b"no such hash")
    run_sql(copy, "UPDATE run SET head = 13 WHERE id = ?", "many")
    assert flaws(copy) == [("many", position, "inserted")]


def _insert(connection, name, position, digest):
    run_sql(
        connection,
        "INSERT INTO event (position, hash, id, name, version, created_at, run_id)"
        f" VALUES (?, ?, '{'forged' if position < 20 else 'forged, too'}', 'go', 1, 7, ?)",
        name,
        position,
        digest,
    )


def test_a_row_that_was_appended_with_its_hash(copy):
    found = verify(copy).runs["many"]
    cells = (13, "forged", "go", 1, None, None, None, None, 7, None)
    _insert(copy, "many", 13, chain.link(found.chain, cells))
    assert flaws(copy) == [("many", 13, "inserted")]
    _insert(copy, "many", 20, None)
    run_sql(copy, "DELETE FROM event WHERE position = 13 AND run_id = ?", "many")
    assert flaws(copy) == [("many", 20, "inserted")]
    run_sql(copy, "UPDATE event SET position = -1 WHERE position = 20 AND run_id = ?", "many")
    assert flaws(copy) == [("many", -1, "inserted")]


@pytest.mark.parametrize("number", [-(2**63), -1, 2**63 - 1])
def test_a_row_that_was_inserted_at_the_very_end_of_the_numbers(copy, number):
    _insert(copy, "many", 13, None)
    run_sql(copy, f"UPDATE event SET seq = {number} WHERE position = 13 AND run_id = ?", "many")
    assert flaws(copy) == [("many", 13, "inserted")]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (3, 9), (11, 12)])
def test_rows_that_were_swapped(copy, one, other):
    sql = "UPDATE event SET position = ? WHERE position = ? AND run_id = ?"
    for to, place in ((99, one), (one, other), (other, 99)):
        run_sql(copy, sql, "many", to, place)
    assert flaws(copy) == [("many", one, "changed")]


def test_rows_whose_order_in_the_store_was_swapped(copy):
    sql = "UPDATE event SET seq = ? WHERE position = ? AND run_id = ?"
    seqs = dict(copy.execute("SELECT position, seq FROM event WHERE run_id = 2").fetchall())
    assert run_id(copy, "many") == 2
    for to, place in ((999, 4), (seqs[4], 8), (seqs[8], 4)):
        run_sql(copy, sql, "many", to, place)
    assert flaws(copy) == [("many", 5, "changed")]


def test_rows_that_were_given_to_another_run(copy):
    sql = "UPDATE event SET run_id = ? WHERE position = ? AND run_id = ?"
    run_sql(copy, sql, "many", run_id(copy, "one"), 12)
    assert flaws(copy) == [("one", 12, "inserted"), ("many", 12, "removed")]


def test_rows_of_a_run_that_is_not_there(copy):
    run_sql(copy, "DELETE FROM run WHERE id = ?", "many")
    assert flaws(copy) == [(None, 1, "inserted")]
    (flaw,) = verify(copy).flaws
    assert "12 rows" in flaw.message


def test_two_runs_are_both_named(copy):
    for name in ("many", "más"):
        run_sql(copy, "UPDATE event SET name = 'Go' WHERE position = 3 AND run_id = ?", name)
    assert flaws(copy) == [("many", 3, "changed"), ("más", 3, "changed")]


# --- the run's own row -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ("head = 13", None),
        ("head = 11", None),
        ("head = 'x'", None),
        ("chain = NULL", 12),
        ("chain = X'00'", 12),
        ("correlation_id = 'money'", 1),
    ],
)
def test_a_run_whose_row_was_changed(copy, change, position):
    run_sql(copy, f"UPDATE run SET {change} WHERE id = ?", "many")
    ((_, named, kind),) = flaws(copy)
    assert (named, kind) == (position, "changed")


def test_a_run_without_events_that_has_a_hash(copy):
    run_sql(copy, "UPDATE run SET chain = X'00' WHERE id = ?", "none")
    assert flaws(copy) == [("none", None, "changed")]


# --- against what was noted ------------------------------------------------------------------


def forge(connection, name, position):
    """Change an event and make all hashes from there on anew, as who knows how can."""
    run_sql(
        connection, "UPDATE event SET data = '{}' WHERE position = ? AND run_id = ?", name, position
    )
    before = chain.begin(name)
    number = run_id(connection, name)
    columns = ", ".join(COLUMNS[:-1])
    for cells in connection.execute(
        f"SELECT {columns} FROM event WHERE run_id = ? ORDER BY position", (number,)
    ).fetchall():
        before = chain.link(before, cells)
        connection.execute(
            "UPDATE event SET hash = ? WHERE run_id = ? AND position = ?",
            (before, number, cells[0]),
        )
    connection.execute("UPDATE run SET chain = ? WHERE id = ?", (before, number))


def test_hashes_that_were_made_anew_are_found_by_what_was_noted(copy):
    """Alone, the store is sound: the hashes have no key."""
    noted = verify(copy).runs
    assert flaws(copy, against=noted) == []
    forge(copy, "many", 7)
    assert flaws(copy) == []
    assert flaws(copy, against=noted) == [("many", 12, "changed")]
    assert flaws(copy, "many", against={"many": noted["many"]}) == [("many", 12, "changed")]


def test_a_run_that_goes_on_fits_what_was_noted_earlier(copy):
    found = verify(copy).runs["many"]
    early = {"many": Known(4, _hash_at(copy, "many", 4))}
    assert flaws(copy, against=early) == []
    assert found.head == 12
    forge(copy, "many", 9)
    assert flaws(copy, against=early) == []  # it is as it was then
    forge(copy, "many", 2)
    assert flaws(copy, against=early) == [("many", 4, "changed")]


def _hash_at(connection, name, position):
    return connection.execute(
        "SELECT hash FROM event WHERE run_id = ? AND position = ?",
        (run_id(connection, name), position),
    ).fetchone()[0]


def test_what_was_cut_off_with_the_runs_row_is_found_by_what_was_noted(copy):
    noted = verify(copy).runs
    run_sql(
        copy, "UPDATE run SET head = 10, chain = ? WHERE id = ?", "many", _hash_at(copy, "many", 10)
    )
    run_sql(copy, "DELETE FROM event WHERE position > 10 AND run_id = ?", "many")
    for table, column in (("event", "run_id"), ("run", "id")):
        run_sql(copy, f"DELETE FROM {table} WHERE {column} = ?", "one")
    assert flaws(copy) == []
    assert flaws(copy, against=noted) == [("many", 11, "removed"), ("one", 1, "removed")]
