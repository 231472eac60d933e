"""Files that are no exports, or none any more: all is refused, and nothing of it is written."""

from __future__ import annotations

import gzip
import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portable import EVERYTHING
from signed import Line, export_everything, refusal, resigned, signed

from flowstore.errors import ConfigurationError, RunFileError
from flowstore.replay import FileLimits, read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return export_everything(tmp_path_factory.mktemp("exported"))


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
        (b"SQLite format 3\0\x10\0\n", "is a database, not runs that were exported"),
        (b"SQLite format 4\n", "is not JSON"),
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


def test_line_ends_that_git_has_turned_are_told(exported: bytes, tmp_path: Path):
    error = refusal(tmp_path, exported.replace(b"\n", b"\r\n"))
    assert "ends like a line of Windows" in error.problem
    assert ".gitattributes" in error.problem
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
