"""Files of runs whose rows contradict one another: refused, though the closing line fits."""

from __future__ import annotations

import copy
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from signed import Line, export_everything, refusal, resigned

from flowstore.errors import RunFileError
from flowstore.replay import read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return export_everything(tmp_path_factory.mktemp("exported"))


def find(lines: list[Line], kind: str, **fields: Any) -> Line:
    """Return the first line of a kind that has these fields."""
    return next(
        line
        for line in lines
        if (line.get("line") == kind or (kind == "event" and "specversion" in line))
        and all(line.get(key) == value for key, value in fields.items())
    )


def put(lines: list[Line], kind: str, key: str, value: Any, **fields: Any) -> None:
    find(lines, kind, **fields)[key] = value


def remove(lines: list[Line], kind: str, **fields: Any) -> None:
    lines.remove(find(lines, kind, **fields))


def repeat(lines: list[Line], kind: str, **fields: Any) -> None:
    line = find(lines, kind, **fields)
    lines.insert(lines.index(line), copy.deepcopy(line))


def repeat_last_run(lines: list[Line]) -> None:
    start = max(place for place, line in enumerate(lines) if line.get("line") == "run")
    lines.extend(lines[start:])


SEQUENCE = "{:019d}".format

CHANGES: dict[str, tuple[Callable[[list[Line]], object], str]] = {
    "content": (partial(put, kind="event", key="data", value={"x": 1}), "does not fit its hash"),
    "name": (partial(put, kind="event", key="type", value="x"), "does not fit its hash"),
    "error": (partial(put, kind="event", key="error", value="x"), "does not fit its hash"),
    "hash": (partial(put, kind="event", key="hash", value="0" * 40), "does not fit its hash"),
    "short hash": (partial(put, kind="event", key="hash", value="00"), "not a hash of 40"),
    "run's hash": (partial(put, kind="run", key="hash", value="0" * 40), "not that of its last"),
    "gap": (partial(remove, kind="event", sequence=SEQUENCE(2)), "'sequence' of an event is"),
    "repeat": (partial(repeat, kind="event"), "'sequence' of an event is"),
    "last event": (partial(put, kind="run", key="head", value=99), "says that its head is 99"),
    "run twice": (repeat_last_run, "already"),
    "cursor": (partial(put, kind="run", key="cursor", value=99), "has its cursor at 99"),
    "cursor behind": (partial(put, kind="run", key="cursor", value=0), "its cursor is at 0"),
    "status": (partial(put, kind="run", key="status", value="done"), "is 'done', not one of"),
    "idle": (partial(put, kind="run", key="status", value="idle"), "cannot be idle"),
    "closed": (partial(put, kind="run", key="status", value="completed"), "cannot be completed"),
    "running": (partial(put, kind="run", key="status", value="running"), "cannot be running"),
    "state version": (partial(put, kind="run", key="state_version", value=1), "of transition 1"),
    "source": (partial(put, kind="event", key="source", value="/x"), "'source' of an event is"),
    "run of an event": (partial(put, kind="event", key="correlationid", value="x"), "is 'x', not"),
    "position": (partial(put, kind="event", key="sequence", value="1"), "is '1', not '0000"),
    "extension": (partial(put, kind="event", key="partitionkey", value="1"), "no attribute"),
    "version of CloudEvents": (partial(put, kind="event", key="specversion", value="0.3"), "'0.3'"),
    "time": (partial(put, kind="event", key="time", value="2026-05-01"), "not a time such as"),
    "week": (
        partial(put, kind="event", key="time", value="2026-W01-1T00:00:00.000000Z"), "not a time",
    ),
    "metadata": (partial(put, kind="event", key="metadata", value="{"), "a text that is not JSON"),
    "type of a field": (partial(put, kind="transition", key="number", value="1"), "not a whole"),
    "bool": (partial(put, kind="transition", key="attempt", value=True), "is True, not a whole"),
    "field": (partial(put, kind="transition", key="owner", value="x"), "has no field 'owner'"),
    "no field": (lambda lines: find(lines, "step").pop("name"), "a step without 'name'"),
    "null": (partial(put, kind="transition", key="error", value=None), "is None, not a text"),
    "change": (partial(put, kind="transition", key="change", value=[["?", ["a"], 1]]), "is none"),
    "path": (partial(put, kind="transition", key="change", value=[["=", "ab", 1]]), "is none"),
    "fold": (
        partial(put, kind="transition", key="change", value=[["-", ["nothing"]]]),
        "does not fit the state",
    ),
    "key": (
        lambda lines: next(
            line for line in reversed(lines) if line.get("line") == "transition"
        ).update(change=[["=", [1], 2]]),
        "what is not JSON",
    ),
    "transition twice": (partial(repeat, kind="transition"), "transitions are not in order"),
    "step twice": (partial(repeat, kind="step"), "steps are not in order"),
    "timer twice": (partial(repeat, kind="timer"), "has the timer"),
    "task twice": (partial(repeat, kind="task"), "tasks are not in order"),
    "kind of a task": (partial(put, kind="task", key="kind", value="x"), "not one of internal"),
    "parked twice": (partial(repeat, kind="parked"), "parked handlers are not in order"),
    "collected": (partial(put, kind="collected", key="event_id", value="x"), "has collected 'x'"),
    "snapshot": (partial(put, kind="snapshot", key="state", value={}), "is not what the changes"),
    "far step": (partial(put, kind="step", key="position", value=9999), "at position 9999"),
    "chunks": (partial(put, kind="stream", key="chunks", value=9), "says that it has 9"),
    "chunk": (partial(put, kind="chunk", key="first", value=5), "chunks are not in order"),
    "no chunk": (partial(put, kind="chunk", key="data", value={}), "chunks that are not a list"),
    "arranged": (
        lambda lines: next(line for line in lines if "arranged" in line)["arranged"].update(x=1),
        "has no part 'x'",
    ),
    "blameless": (
        lambda lines: next(line for line in lines if "arranged" in line)["arranged"].update(
            blameless=False
        ),
        "has no part 'blameless'",
    ),
    "answers": (partial(put, kind="parked", key="answers", value=[[[1]], [], 0]), "not a pair"),
    "no answers": (partial(put, kind="parked", key="answers", value={}), "not a list"),
    "far answer": (
        partial(put, kind="parked", key="answers", value=[[[99, None]], [], 0]), "of position 99",
    ),
    "condition": (partial(put, kind="parked", key="condition", value={"x": 1}), "not a condition"),
    "arguments": (partial(put, kind="task", key="arguments", value=[]), "not an object"),
    "raised": (partial(put, kind="step", key="error", value={"type": "x"}), "is None, not a text"),
    "lineage": (partial(put, kind="run", key="lineage", value="x"), "not an object"),
    "text beside": (partial(put, kind="step", key="result_text", value="1"), "not the value of"),
    "duplicate beside": (
        partial(put, kind="step", key="result_text", value='{"a":1,"a":2}'), "twice in one object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_rows_that_contradict_one_another_are_refused(name: str, exported: bytes, tmp_path: Path):
    """Each with a closing line that fits: so it is not that which tells."""
    change, told = CHANGES[name]
    assert told in refusal(tmp_path, resigned(exported, change)).problem


def test_an_id_twice_is_refused_even_if_all_hashes_were_made_anew(tmp_path: Path, exported: bytes):
    (tmp_path / "runs.jsonl").write_bytes(exported)
    archive = read_file(tmp_path / "runs.jsonl")[0]
    archive.events[1] = archive.events[1]._replace(id=archive.events[0].id)
    archive.hashes, archive.run.chain = [None] * len(archive.events), None
    write_file(tmp_path / "twice.jsonl", [archive])
    with pytest.raises(RunFileError, match=r"line 2: run 'all' has the id '<0@example.org>' twice"):
        read_file(tmp_path / "twice.jsonl")


def test_nothing_is_imported_by_name(exported: bytes, tmp_path: Path):
    """What a step raised names a class; reading it loads none."""
    line = '{"type":"antigravity.Error","message":"no"}'
    changed = resigned(
        exported,
        lambda lines: [
            each.update(error=json.loads(line))
            for each in lines
            if each.get("line") == "step" and "error" in each
        ],
    )
    (tmp_path / "named.jsonl").write_bytes(changed)
    archives = read_file(tmp_path / "named.jsonl")
    assert line in [step.error for archive in archives for step in archive.steps]
    assert "antigravity" not in sys.modules
