"""docs/portable-runs.md says what the code does; and the examples' runs are portable."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson
import pytest
from command_line import start
from portable import archives_of, check_round_trip, live, told
from programs import EXAMPLES, ROOT, environment

from flowstore.replay import read_file, write_file
from flowstore.replay.portable.kinds import KINDS, RUN
from flowstore.replay.portable.paths import ROOTS
from flowstore.replay.portable.redaction import Redaction

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "portable-runs.md").read_text(encoding="utf-8")


def example(folder: Path) -> Path:
    (block,) = re.findall(r"```jsonl\n(.*?)```", PAGE, re.DOTALL)
    path = folder / "example.jsonl"
    path.write_text(block, encoding="utf-8")
    return path


def test_the_file_on_the_page_is_one(tmp_path: Path):
    (archive,) = read_file(example(tmp_path))
    assert archive.run.correlation_id == "order-7"
    write_file(tmp_path / "again.jsonl", [archive])
    assert (tmp_path / "again.jsonl").read_bytes() == example(tmp_path).read_bytes()


def test_hashes_are_made_as_the_page_says(tmp_path: Path):
    (archive,) = read_file(example(tmp_path))
    before = blake2b(b"order-7", digest_size=20).digest()
    for event, digest in zip(archive.events, archive.hashes, strict=True):
        before = blake2b(before + orjson.dumps(list(event[1:])), digest_size=20).digest()
        assert digest == before


def test_the_page_has_every_kind_of_line_and_every_field():
    rows = dict(re.findall(r"^\| `(\w+)` \| ((?!the ).*) \|$", PAGE, re.MULTILINE))
    kinds = {"run": RUN, **{name: kind.fields for name, kind in KINDS.items()}}
    for name, fields in kinds.items():
        said = re.sub(r"\([^)]*\)|: .*", "", rows[name])
        found = [each.strip() for each in said.split(",")]
        assert found == [f"{field.name}{'?' * field.is_optional}" for field in fields.all_fields], (
            name
        )


def test_the_page_has_every_root_of_a_path():
    for root in ROOTS:
        assert f"`{root}." in PAGE


@pytest.mark.parametrize(
    ("program", "words", "store"),
    [
        ("count_to_ten.py", (), "count.db"),
        ("simple_agent.py", ("How do lighthouses warn ships?",), "agent.db"),
        ("writing_pipeline.py", (str(EXAMPLES / "writing" / "inbox"),), "writing.db"),
    ],
)
def test_the_runs_of_the_examples_come_back(
    program: str, words: tuple[str, ...], store: str, tmp_path: Path
):
    path = tmp_path / store
    variables = {**environment(), "FLOWSTORE_URL": str(path)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *words],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stores = [each for each in tmp_path.glob("*.db") if asyncio.run(archives_of(each))]
    assert stores
    for each in stores:
        assert asyncio.run(check_round_trip(each, tmp_path))


async def test_a_fork_comes_back(tmp_path: Path):
    path = tmp_path / "runs.db"
    await live(path, {"a": [[["set", 1], ["emit", {"email": "x@example.org"}]], [["set", 2]]]})
    edit = ("--edit-state", '{"email": "x@example.org"}')
    done = await asyncio.to_thread(start, "fork", "a", "--at", "3", "--store", str(path), *edit)
    assert done.returncode == 0, done.stderr
    read = await check_round_trip(path, tmp_path)
    assert len(read) == 2
    assert read[1].run.lineage is not None
    hidden = Redaction(["data.email"])
    write_file(tmp_path / "hidden.jsonl", map(hidden.redacted, read))
    assert b"x@example.org" not in (tmp_path / "hidden.jsonl").read_bytes()
    assert [len(told(each)["events"]) for each in read_file(tmp_path / "hidden.jsonl")] == [
        len(archive.events) for archive in read
    ]
