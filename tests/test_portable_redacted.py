"""Values that are hidden in an export: the same everywhere, and no trace of them is left."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portable import EVERYTHING, archives_of, live, told

from flowstore import change
from flowstore.errors import ConfigurationError, StoreCorruptError
from flowstore.replay import read_file, write_file
from flowstore.replay.portable.hiding import Hiding, Tokens
from flowstore.replay.portable.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.store.archive import Archive

SECRET = "ann@example.org"  # noqa: S105 - not one that matters


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs in which every kind of line occurs."""
    path = tmp_path_factory.mktemp("redacted") / "runs.db"
    asyncio.run(live(path, EVERYTHING))
    return path


def texts(value: Any) -> Iterator[str]:
    """Yield all strings in a JSON value, and its keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def states_of(archive: Archive) -> Iterator[dict[str, Any]]:
    """Yield the state after each change."""
    state: dict[str, Any] = {}
    for row in archive.transitions:
        if row.change is not None:
            yield change.apply(state, row.change)


def export(path: Path, archives: list[Archive], *paths: str) -> tuple[Redaction, list[Archive]]:
    """Write a redacted export and read it."""
    redaction = Redaction(paths)
    write_file(path, map(redaction.redacted, archives), force=True)
    return redaction, read_file(path)


async def test_no_trace_is_left_of_a_value(store: Path, tmp_path: Path):
    """In ids, events, metadata, states, steps, errors, timers, tasks, streams and reasons."""
    place = tmp_path / "runs.jsonl"
    archives = await archives_of(store)
    write_file(place, archives)
    assert place.read_bytes().count(SECRET.encode()) > 50
    before = [state for archive in archives for state in states_of(archive)]
    assert any("ann@example.org and more" in text for state in before for text in texts(state))

    redaction, read = export(place, archives, "metadata.user")
    assert redaction.unmatched == []
    assert SECRET.encode() not in place.read_bytes()
    after = [state for archive in read for state in states_of(archive)]
    assert len(after) == len(before)
    assert not any(SECRET in text for state in after for text in texts(state))
    assert any("redacted-" in text for state in after for text in texts(state))
    for one, other in zip(archives, read, strict=True):
        assert [row[1:4] for row in other.transitions] == [row[1:4] for row in one.transitions]
        assert other.run.head == one.run.head
        assert other.hashes != one.hashes


async def test_the_same_value_is_the_same_in_one_export_and_another_in_the_next(
    store: Path, tmp_path: Path
):
    archives = await archives_of(store)

    def seen(name: str) -> list[set[str]]:
        _, read = export(tmp_path / name, archives, "metadata.user")
        return [
            {json.loads(event.metadata or "{}").get("user") for event in archive.events} - {None}
            for archive in read
        ]

    first, second = seen("first"), seen("second")
    (token,) = set.intersection(*first)
    assert token.startswith("redacted-")
    assert set.intersection(*second) != {token}


async def test_a_file_of_runs_says_what_is_hidden_in_it(store: Path, tmp_path: Path):
    place = tmp_path / "runs.jsonl"
    write_file(place, await archives_of(store), redact=["metadata.user", "state.x"])
    assert SECRET.encode() not in place.read_bytes()
    header = json.loads(place.read_bytes().splitlines()[0])
    assert header["redacted"] == ["metadata.user", "state.x"]
    assert len(read_file(place)) == len(EVERYTHING)


async def test_an_export_without_paths_is_as_it_was(store: Path):
    for archive in await archives_of(store):
        assert told(Redaction(()).redacted(archive)) == told(archive)


async def test_a_path_that_leads_nowhere_is_told_and_hides_nothing(store: Path, tmp_path: Path):
    archives = await archives_of(store)
    redaction, read = export(tmp_path / "runs.jsonl", archives, "data.nowhere", "metadata.user")
    assert redaction.unmatched == ["data.nowhere"]
    _, read = export(tmp_path / "runs.jsonl", archives, "data.nowhere")
    assert [told(one)["hashes"] for one in read] == [told(one)["hashes"] for one in archives]


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("data.*.1.n", lambda run: [json.loads(event.data) for event in run.events]),
        ("state.step.n", lambda run: list(states_of(run))),
        ("steps.a step.n", lambda run: [json.loads(row.result or "0") for row in run.steps]),
        ("steps.*.n", lambda run: [json.loads(row.result or "0") for row in run.steps]),
    ],
)
async def test_a_number_is_hidden_at_its_path_alone(
    path: str, where: Any, store: Path, tmp_path: Path
):
    (archive, *_) = await archives_of(store)
    assert "41" in json.dumps(where(archive))
    _, (read,) = export(tmp_path / "runs.jsonl", [archive], path)
    assert "41" not in json.dumps(where(read)).replace("redacted-", "").split('"n": ')[1][:3]
    assert "41" in (tmp_path / "runs.jsonl").read_text()


@pytest.mark.parametrize(
    "path",
    ["email", "data", "data.", "data..x", "", "event.data.x", "data.x\\", "state", ".data.x"],
)
def test_a_path_that_is_none_is_refused(path: str):
    with pytest.raises(ConfigurationError, match="is no path to a value"):
        Redaction([path])


async def test_a_dot_in_a_name_is_written_with_a_backslash(store: Path, tmp_path: Path):
    (archive, *_) = await archives_of(store)
    archive.steps[0] = archive.steps[0]._replace(name="a.b", result='{"c.d":[1,"hidden"]}')
    _, (read,) = export(tmp_path / "runs.jsonl", [archive], r"steps.a\.b.c\.d.1")
    assert json.loads(read.steps[0].result or "")["c.d"][1].startswith("redacted-")
    assert json.loads(read.steps[0].result or "")["c.d"][0] == 1


async def test_what_was_tampered_with_is_not_given_new_hashes(store: Path):
    (archive, *_) = await archives_of(store)
    archive.events[0] = archive.events[0]._replace(data="[]")
    with pytest.raises(StoreCorruptError, match=r"run 'all' cannot be redacted: .* does not fit"):
        Redaction(["metadata.user"]).redacted(archive)


async def test_a_run_without_hashes_gets_none(store: Path):
    (archive, *_) = await archives_of(store)
    archive.hashes, archive.run.chain = [None] * len(archive.events), None
    hidden = Redaction(["metadata.user"]).redacted(archive)
    assert set(hidden.hashes) == {None}
    assert hidden.run.chain is None


# --- texts -------------------------------------------------------------------------------------


def hiding(*secrets: str) -> Hiding:
    return Hiding(Tokens(b"key"), secrets)


def test_of_secrets_within_one_another_the_longest_counts():
    hide = hiding("anna", "anna@x.org", "x.org")
    token = Tokens(b"key").of
    assert hide.text("anna@x.org, anna, x.org") == ", ".join(
        map(token, ("anna@x.org", "anna", "x.org"))
    )


def test_a_short_text_is_hidden_where_it_stands_alone():
    hide, token = hiding("Al"), Tokens(b"key").of("Al")
    assert hide.text("Al and Alan, (Al)") == f"{token} and Alan, ({token})"
    assert hide.name("7/Al/t1") == "7/Al/t1"
    assert hide.name("Al") == token


def test_a_text_is_hidden_as_other_texts_write_it():
    text = 'a "b"\n\u00e9'
    hide, token = hiding(text), Tokens(b"key").of(text)
    for written in (text, json.dumps(text)[1:-1], repr(text)[1:-1], "a%20%22b%22%0A%C3%A9"):
        assert hide.text(f"<{written}>") == f"<{token}>"


def test_what_comes_in_pieces_is_hidden():
    hide, token = hiding(SECRET), Tokens(b"key").of(SECRET)
    assert hide.pieces(["for ann", "@example", ".org!", "bye"]) == [f"for {token}", "", "!", "bye"]
    assert hide.pieces([]) == []
    assert hide.pieces([SECRET, SECRET]) == [token, token]


def test_many_secrets_cost_little_more_than_one():
    """One pattern is made of all of them; its time does not grow with their number."""
    text = "perry and person 7 with others, " * 2_000
    dice = random.Random(1)

    def seconds(count: int) -> float:
        hide = hiding(*("".join(dice.choices(ascii_lowercase, k=8)) for _ in range(count)))
        best = 1e9
        for _ in range(3):
            began = time.perf_counter()
            assert hide.text(text) == text
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(2_000) < 200 * seconds(10)  # a flat list takes 1,500 times as long


letters = st.text("abc\"\\\n'%\u00e9\u2028\U0001f600 @.", min_size=4, max_size=8)


@given(letters, st.data())
@settings(max_examples=25, deadline=None)
def test_no_trace_is_left_of_any_value_in_random_runs(secret: str, data: st.DataObject):
    """Wherever handlers put it: whole, within texts, in keys, and in two pieces."""
    half = len(secret) // 2
    values = st.sampled_from(
        [secret, f"to {secret}!", {"email": secret}, {secret: [1]}, [secret], secret[:half], 7]
    )
    kinds = st.sampled_from(
        ["set", "list", "step", "emit", "progress", "stream", "submit", "later", "wait", "fail",
         "complete"]
    )  # fmt: skip
    lines = st.lists(st.tuples(kinds, values).map(list), max_size=4)
    events = data.draw(st.lists(lines, max_size=3))
    runs = {
        "a": [
            [["grow", "x" * 40 + secret[:half]], ["emit", {"email": secret}]],
            [["grow", secret[half:]]],
            *events,
        ]
    }
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder) / "runs.db", runs))
        archives = asyncio.run(archives_of(Path(folder) / "runs.db"))
        place = Path(folder) / "runs.jsonl"
        _, read = export(place, archives, "data.email")
        seen = [json.loads(line) for line in place.read_bytes().splitlines()]
    assert not [text for text in texts(seen) if secret in text]
    assert not [text for state in states_of(read[0]) for text in texts(state) if secret in text]
    assert len(list(states_of(read[0]))) == len(list(states_of(archives[0])))
