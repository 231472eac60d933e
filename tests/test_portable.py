"""Runs in files: what is exported comes back exactly (issue: portable runs; G10, G12)."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from portable import EVERYTHING, PARTS, VALUES, WORK, archives_of, check_round_trip, live, told

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import RunFileError, StoreCorruptError
from flowstore.replay import read_file, write_file


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs in which every kind of line occurs."""
    path = tmp_path_factory.mktemp("full") / "runs.db"
    asyncio.run(live(path, EVERYTHING))
    return path


operations = st.lists(
    st.tuples(st.sampled_from(WORK), st.sampled_from(VALUES)).map(list), max_size=5
)


@given(st.dictionaries(st.sampled_from("ab"), st.lists(operations, min_size=1, max_size=4)))
@settings(max_examples=25, deadline=None)
def test_random_runs_come_back_as_they_were(runs: dict[str, Any]):
    async def compare(folder: Path) -> None:
        await live(folder / "runs.db", runs)
        for archive in await check_round_trip(folder / "runs.db", folder):
            event(f"status: {archive.run.status}")
            for part in PARTS:
                event(f"{part}: {bool(getattr(archive, part))}")

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(Path(folder)))


async def test_everything_there_is_comes_back(full: Path, tmp_path: Path):
    read = await check_round_trip(full, tmp_path)
    for part in PARTS:
        assert any(getattr(archive, part) for archive in read), part


async def test_an_imported_run_goes_on(full: Path, tmp_path: Path):
    await check_round_trip(full, tmp_path)
    workflow = WorkflowManager(tmp_path / "copy.db")
    heard: list[Any] = []

    @workflow.on("unheard")
    async def hear(found: WorkflowEvent) -> None:
        heard.append(found.data)

    async with workflow:
        receipt = await workflow.send(WorkflowEvent("unheard", 7), correlation_id="\u00e9/ %?")
        await workflow.run("\u00e9/ %?").wait(timeout=30)
    await workflow.close()
    assert receipt.status == "accepted"
    assert heard == [7]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_events_are_cloudevents(full: Path, tmp_path: Path):
    """The attributes of CloudEvents 1.0 and of its extensions, with values of their types."""
    archives = await archives_of(full)
    write_file(tmp_path / "runs.jsonl", archives)
    events = [line for line in lines_of(tmp_path / "runs.jsonl") if "specversion" in line]
    assert len(events) == sum(len(archive.events) for archive in archives)
    for line in events:
        assert line["specversion"] == "1.0"
        for name in ("id", "source", "type", "correlationid", "sequence"):
            assert isinstance(line[name], str)
            assert line[name]
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert ("data" in line) == (line.get("datacontenttype") == "application/json")
        for name, value in line.items():
            assert name.isascii()
            assert name.isalnum()
            assert name == name.lower()
            assert len(name) <= 20
            assert name == "data" or isinstance(value, (str, int, bool))
    assert len({(line["source"], line["id"]) for line in events}) == len(events)
    assert {line["source"] for line in events} >= {"/workflows/workflow/runs/%C3%A9%2F%20%25%3F"}
    first = [line for line in events if line["correlationid"] == "all"]
    assert [line["sequence"] for line in first] == sorted(line["sequence"] for line in first)
    caused = next(line for line in first if line["type"] == "other")
    assert caused["causationid"] in {line["id"] for line in first}


async def test_the_words_of_the_file_are_those_of_the_design(full: Path, tmp_path: Path):
    write_file(tmp_path / "runs.jsonl", await archives_of(full))
    lines = lines_of(tmp_path / "runs.jsonl")
    header, *rest, end = lines
    assert header == {
        "line": "header", "format": "flowstore-runs", "version": 1, "flowstore": "0.1.0",
        "redacted": [],
    }  # fmt: skip
    text = (tmp_path / "runs.jsonl").read_bytes()
    head = text[: text.rindex(b"\n", 0, -1) + 1]
    events = [line for line in rest if "specversion" in line]
    assert end == {
        "line": "end", "runs": 5, "events": len(events), "lines": len(lines),
        "sha256": sha256(head).hexdigest(),
    }  # fmt: skip
    for line in rest:
        assert {"run_id", "seq", "owner"}.isdisjoint(line)
        for name, value in line.items():
            if name.endswith("_at") or name == "time":
                assert value.endswith("Z")
                assert len(value) == 27
    kinds = [line["line"] for line in rest if "line" in line]
    assert set(kinds) == {
        "run", "transition", "snapshot", "step", "drop", "timer", "task", "parked", "collected",
        "stream", "chunk",
    }  # fmt: skip


async def test_a_text_that_is_not_as_flowstore_writes_it_stays_as_it_is(full: Path, tmp_path: Path):
    (archive, *_) = await archives_of(full)
    step = archive.steps[0]._replace(result='{ "a": 1.0e0, "b": "\\u0041" }')
    archive.steps[0] = step
    write_file(tmp_path / "runs.jsonl", [archive])
    (read,) = read_file(tmp_path / "runs.jsonl")
    assert read.steps[0].result == step.result
    (line,) = [line for line in lines_of(tmp_path / "runs.jsonl") if "result_text" in line]
    assert line["result"] == {"a": 1.0, "b": "A"}


async def test_a_column_that_holds_no_json_is_told(full: Path, tmp_path: Path):
    (archive, *_) = await archives_of(full)
    archive.steps[0] = archive.steps[0]._replace(result="{")
    with pytest.raises(StoreCorruptError, match=r"run 'all': result holds no JSON but '\{'"):
        write_file(tmp_path / "runs.jsonl", [archive])
    assert names_in(tmp_path) == []


async def test_a_time_beyond_all_dates_comes_back(full: Path, tmp_path: Path):
    (archive, *_) = await archives_of(full)
    archive.timers = [row._replace(due_at=2**62) for row in archive.timers]
    write_file(tmp_path / "runs.jsonl", [archive])
    (read,) = read_file(tmp_path / "runs.jsonl")
    assert told(read) == told(archive)


async def test_a_run_from_before_there_were_hashes_has_none(full: Path, tmp_path: Path):
    (archive, *_) = await archives_of(full)
    archive.hashes = [None] * len(archive.events)
    archive.run.chain = None
    write_file(tmp_path / "runs.jsonl", [archive])
    (read,) = read_file(tmp_path / "runs.jsonl")
    assert told(read) == told(archive)


async def test_a_file_is_written_whole_or_not_at_all(full: Path, tmp_path: Path):
    archives = await archives_of(full)
    place = tmp_path / "runs.jsonl"
    place.write_text("precious")
    with pytest.raises(RunFileError, match="is there already; --force replaces it"):
        write_file(place, archives)
    assert place.read_text() == "precious"
    write_file(place, archives[:1], force=True)
    before = place.read_bytes()

    def failing() -> Any:
        yield archives[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(place, failing(), force=True)
    assert place.read_bytes() == before
    assert names_in(tmp_path) == ["runs.jsonl"]
    with pytest.raises(RunFileError, match="cannot be written: No such file or directory"):
        write_file(tmp_path / "none" / "runs.jsonl", archives)
    with pytest.raises(RunFileError, match="is a folder"):
        write_file(tmp_path, archives, force=True)
