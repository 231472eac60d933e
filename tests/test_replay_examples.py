"""The runs of the examples are identical when they are executed again (G12)."""

from __future__ import annotations

import gc
import gzip
import hashlib
import importlib
import itertools
import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from inbox import INBOX, LIGHTHOUSE
from programs import EXAMPLES, ROOT, run

from flowstore.cli.loading import load
from flowstore.replay import rerun
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

if TYPE_CHECKING:
    from pathlib import Path

INCIDENTS = ROOT.parent / "shared" / "data" / "incidents.jsonl.gz"


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)


async def archives(store: Path) -> list[Any]:
    queries = open_queries(parse(str(store)))
    runs = await queries.list_runs()
    return await queries.read_archives([each.correlation_id for each in runs])


async def execute_again(folder: Path, workflow: Any, store: str = "flowstore.db") -> list[Any]:
    """Execute every run of a store again; neither it nor anything beside it changes."""
    found = await archives(folder / store)
    before = standing(folder)
    reports = [await rerun(workflow, archive) for archive in found]
    assert [each.divergence for each in reports] == [None] * len(reports)
    assert standing(folder) == before
    return reports


def standing(folder: Path) -> dict[str, str]:
    """Return a fingerprint of each file; a database's own helper files come and go."""
    return {
        str(each.relative_to(folder)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file() and not each.name.endswith(("-wal", "-shm", "-lock"))
    }


async def test_the_writing_pipeline(tmp_path):
    assert run("writing_pipeline.py", INBOX, cwd=tmp_path).returncode == 0
    approve = run("writing_pipeline.py", "approve", LIGHTHOUSE, "--by", "alex", cwd=tmp_path)
    assert approve.returncode == 0
    assert run("writing_pipeline.py", INBOX, cwd=tmp_path).returncode == 0
    pipeline = importlib.import_module("writing_pipeline").pipeline()
    reports = await execute_again(tmp_path, pipeline)
    assert len(reports) == 12
    assert {each.status for each in reports} >= {"waiting", "completed"}


def test_a_pipeline_that_is_only_looked_at_leaves_no_connection_open():
    library = importlib.import_module("writing.tools").Library()
    index = library._index
    assert index.execute("SELECT 1").fetchone() == (1,)
    del library
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index.execute("SELECT 1")


async def test_the_weather_assistant(tmp_path):
    pytest.importorskip("openai")
    assert run("weather_assistant.py", cwd=tmp_path).returncode == 0
    weather = importlib.import_module("weather_assistant")
    nothing = weather.Services(None, "", "", "", None, "")  # no client, so no one can be asked
    [report] = await execute_again(tmp_path, weather.build(nothing))
    assert report.events == 3


async def test_the_transcode_farm(tmp_path):
    words = ("--videos", 2, "--segments", 1)
    assert run("transcode_farm.py", *words, cwd=tmp_path).returncode == 0
    farm = importlib.import_module("transcode_farm")
    parts = farm.Thumbnails(tmp_path / "orders"), farm.Display(6)
    reports = await execute_again(tmp_path, farm.build(":memory:", 1, "processes", *parts))
    assert {each.status for each in reports} == {"completed"}


async def test_the_simple_ones(tmp_path):
    assert run("count_to_ten.py", "--pause", 0, cwd=tmp_path).returncode == 0
    # As its docstring names it to the command.
    workflow = load("count_to_ten:build")
    [store] = tmp_path.glob("*.db")
    [report] = await execute_again(tmp_path, workflow, store.name)
    assert report.events == 10


async def test_the_case_log_at_five_thousand_events_a_second(tmp_path):
    """The time is the processor's, as others may be at work on this machine."""
    if not INCIDENTS.exists():
        pytest.skip("the incident log is not here")
    with gzip.open(INCIDENTS, "rb") as lines, (tmp_path / "log.jsonl").open("wb") as part:
        part.writelines(itertools.islice(lines, 8_000))
    done = run("case_log.py", "log.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0
    case_log = importlib.import_module("case_log")
    workflow = case_log.build(":memory:", case_log.Window())
    found = await archives(tmp_path / "flowstore.db")
    began = time.process_time()
    reports = [await rerun(workflow, archive) for archive in found]
    seconds = time.process_time() - began
    assert all(each.is_identical for each in reports)
    assert sum(each.events for each in reports) == json.loads(done.stdout)["events"] == 8_000
    assert 8_000 / seconds > 5_000
