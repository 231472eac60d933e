"""Files that are no exports, or none any more: all is refused, and nothing of it is written."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import os
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portable import EVERYTHING, archives_of, live

from flowstore.errors import ConfigurationError, RunFileError
from flowstore.replay import FileLimits, read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Line = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An export of runs in which every kind of line occurs."""
    folder = tmp_path_factory.mktemp("exported")
    asyncio.run(live(folder / "runs.db", EVERYTHING))
    write_file(folder / "runs.jsonl", asyncio.run(archives_of(folder / "runs.db")))
    return (folder / "runs.jsonl").read_bytes()


def signed(lines: list[bytes]) -> bytes:
    """Return a file of these lines whose closing line fits: as who wants to deceive makes it."""
    body = b"".join(line + b"\n" for line in lines)
    end = {
        "line": "end",
        "runs": sum(b'"line":"run"' in line for line in lines),
        "events": sum(b'"specversion"' in line for line in lines),
        "lines": len(lines) + 1,
        "sha256": sha256(body).hexdigest(),
    }
    return body + orjson.dumps(end) + b"\n"


def resigned(exported: bytes, change: Callable[[list[Line]], object]) -> bytes:
    """Return an export with its lines changed, and signed anew."""
    lines: list[Line] = [json.loads(line) for line in exported.splitlines()[:-1]]
    change(lines)
    return signed([orjson.dumps(line) for line in lines])


def refusal(folder: Path, content: bytes, **limits: int) -> RunFileError:
    """Return how a file is refused."""
    (folder / "bad.jsonl").write_bytes(content)
    with pytest.raises(RunFileError) as caught:
        read_file(folder / "bad.jsonl", limits=FileLimits(**limits))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{folder / 'bad.jsonl'}, line ")
    return caught.value


def test_what_is_signed_anew_and_not_changed_is_read(exported: bytes, tmp_path: Path):
    """The control: it is not the signing that the tests below are refused for."""
    again = resigned(exported, lambda _: None)
    assert again == exported
    (tmp_path / "good.jsonl").write_bytes(again)
    assert len(read_file(tmp_path / "good.jsonl")) == len(EVERYTHING)


def test_a_file_that_others_have_formatted_is_read(exported: bytes, tmp_path: Path):
    lines = [json.dumps(json.loads(line)).encode() for line in exported.splitlines()[:-1]]
    (tmp_path / "spaced.jsonl").write_bytes(signed(lines).replace(b'"line": "', b'"line": "'))
    ends = orjson.loads(exported.splitlines()[-1])
    spaced = signed(lines).splitlines()[:-1]
    body = b"".join(line + b"\n" for line in spaced)
    ends["sha256"] = sha256(body).hexdigest()
    (tmp_path / "spaced.jsonl").write_bytes(body + orjson.dumps(ends) + b"\n")
    (tmp_path / "plain.jsonl").write_bytes(exported)
    assert read_file(tmp_path / "spaced.jsonl") == read_file(tmp_path / "plain.jsonl")


# --- any byte --------------------------------------------------------------------------------


@given(st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_file_of_which_any_byte_was_changed_is_refused(
    exported: bytes, tmp_path: Path, data: st.DataObject
):
    place = data.draw(st.integers(0, len(exported) - 1))
    how = data.draw(st.sampled_from(["change", "remove", "insert", "cut"]))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != exported[place]))
    changed = {
        "change": exported[:place] + bytes([byte]) + exported[place + 1 :],
        "remove": exported[:place] + exported[place + 1 :],
        "insert": exported[:place] + bytes([byte]) + exported[place:],
        "cut": exported[:place],
    }[how]
    refusal(tmp_path, changed)


def test_a_closing_line_is_written_in_one_way(exported: bytes, tmp_path: Path):
    for place in range(exported.rindex(b"\n", 0, -1) + 1, len(exported)):
        refusal(tmp_path, exported[:place] + b" " + exported[place:])


@given(st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_value_that_is_another_is_read_or_refused_and_never_falls_over(
    exported: bytes, tmp_path: Path, data: st.DataObject
):
    """Also when the closing line fits: then it is read, if the rows do not contradict it."""
    lines: list[Line] = [json.loads(line) for line in exported.splitlines()[:-1]]
    line = data.draw(st.sampled_from(lines))
    key = data.draw(st.sampled_from(sorted(line)))
    what = data.draw(st.sampled_from(["set", "remove", "deep"]))
    odd = st.sampled_from(
        [None, True, 0, -1, 2**63 - 1, 1.5, "", "x", "1", [], {}, [[]], [["="]], [["=", [], 1]],
         [["=", ["a", 0], 1]], [["~", ["a"], 0, 1, "x"]], {"tasks": [{}]}, {"told": 1}, {"x": 1}]
    )  # fmt: skip
    if what == "remove":
        del line[key]
    elif what == "deep" and isinstance(line[key], dict) and line[key]:
        line[key][data.draw(st.sampled_from(sorted(line[key])))] = data.draw(odd)
    else:
        line[key] = data.draw(odd)
    place = tmp_path / "odd.jsonl"
    place.write_bytes(signed([orjson.dumps(each) for each in lines]))
    try:
        read = read_file(place)
    except RunFileError as error:
        assert str(error).startswith(f"{place}, line ")  # noqa: PT017 - either is right
    else:
        # An event cannot be another, but for what is not part of its content.
        assert "specversion" not in line or key == "data"
        write_file(place, read, force=True)
        assert read_file(place) == read


# --- lines -----------------------------------------------------------------------------------


HEADER = b'{"line":"header","format":"flowstore-runs","version":1,"flowstore":"1"'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "is not JSON: Expecting value at character 1"),
        (b"{", "is not JSON"),
        (b"[]", "is [], not an object"),
        (b"\xff", "is not UTF-8 at byte 1"),
        (b'{"a":1,"a":2}', "has the key 'a' twice in one object"),
        (b'{"line":"run","x":{"y":1,"y":1}}', "has the key 'y' twice"),
        (b'{"a":NaN}', "has NaN, which is not JSON"),
        (b'{"a":-Infinity}', "has -Infinity, which is not JSON"),
        (b'{"a":1e999}', "has the number 1e999, which is beyond a double"),
        (b'{"a":9223372036854775808}', "has a number beyond 64 bits"),
        (b'{"a":-9223372036854775809}', "has a number beyond 64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "has a number beyond 64 bits"),
        (b'{"a":' + b"[" * 230 + b"]" * 230 + b"}", "more than 210 levels"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
        (b'{"a":"\\u0000"}', "has a NUL character"),
        (b'{"a":"\\ud800"}', "has a lone surrogate"),
        (b'{"line":"cron"}', "no line is of kind 'cron'"),
        (b'{"line":["run"]}', "no line is of kind ['run']"),
        (b'{"line":"transition"}', "a transition before any run"),
        (b'{"specversion":"1.0"}', "an event before any run"),
        (b'{"line":"header"}', "no line is of kind 'header'"),
        (b'{"line":"run"}', "a run without 'correlation_id'"),
        (b'{"line":"end"}', "'runs' is None, and the file has 0"),
    ],
)
def test_a_line_that_is_none_is_refused(line: bytes, told: str, exported: bytes, tmp_path: Path):
    header = exported.splitlines()[0]
    error = refusal(tmp_path, signed([header, line]))
    assert told in error.problem
    assert error.line == 2


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"{}", mtime=0), "is compressed; try gunzip"),
        (b"\xef\xbb\xbf{}\n", "begins with a byte order mark"),
        (b"SQLite format 3\0\n", "is not JSON"),
        (b"{}\n", "is not the first line of exported runs"),
        (b'{"line":"header","format":"other","version":1}\n', "is not the first line"),
        (
            b'{"line":"header","format":"flowstore-runs","version":2}\n',
            "is of version 2 of the format, and this flowstore reads 1: use a newer one",
        ),
        (b'{"line":"header","format":"flowstore-runs","version":true}\n', "'version' is True"),
        (b'{"line":"header","format":"flowstore-runs","version":0}\n', "'version' is 0"),
        (
            HEADER + b',"redacted":[],"more":1}\n',
            "a header has no field 'more'",
        ),
        (
            HEADER + b',"redacted":[1]}\n',
            "is 1, not a text",
        ),
    ],
)
def test_a_file_that_begins_otherwise_is_refused(first: bytes, told: str, tmp_path: Path):
    error = refusal(tmp_path, first)
    assert told in error.problem
    assert error.line == 1


def test_what_is_too_large_is_refused(exported: bytes, tmp_path: Path):
    longest = max(map(len, exported.splitlines(keepends=True)))
    (tmp_path / "fits.jsonl").write_bytes(exported)
    read_file(
        tmp_path / "fits.jsonl",
        limits=FileLimits(line_bytes=longest, file_bytes=len(exported)),
    )
    error = refusal(tmp_path, exported, line_bytes=longest - 1)
    assert f"is longer than {longest - 1} bytes" in error.problem
    error = refusal(tmp_path, exported, file_bytes=len(exported) - 1)
    assert "is beyond" in error.problem
    with pytest.raises(ConfigurationError, match=r"FileLimits\.line_bytes is 0"):
        FileLimits(line_bytes=0)


def test_what_comes_behind_the_end_is_refused(exported: bytes, tmp_path: Path):
    assert "comes behind the closing line" in refusal(tmp_path, exported + b"\n").problem
    assert "is cut off" in refusal(tmp_path, exported[: exported.rindex(b'{"line"')]).problem
    assert "is cut off" in refusal(tmp_path, exported[:-1]).problem


def test_what_is_no_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for place, told in (
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        ("/dev/zero", "is not a file"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
        ("nul\0byte", "cannot be read"),
    ):
        with pytest.raises(RunFileError, match=told):
            read_file(place)


# --- rows that contradict one another ----------------------------------------------------------


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
    import sys

    archives = read_file(tmp_path / "named.jsonl")
    assert line in [step.error for archive in archives for step in archive.steps]
    assert "antigravity" not in sys.modules
