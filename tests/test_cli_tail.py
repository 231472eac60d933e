"""The command ``tail``: what happens, also in another process, while it happens (G12)."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called, settle
from sample import add_drop, add_event, add_run, add_transition, fill, writing
from sqlalchemy import delete

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.store import feed as feeds
from flowstore.store import schema
from flowstore.store.feed import Feed
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(tmp_path, monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "flowstore.db"
    fill(path)
    return path


def follow(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", "tail", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(program: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert program.stdout is not None
    for line in program.stdout:
        yield json.loads(line)


async def work(path: Path) -> None:
    """Handle three events: one well, one at the second attempt, one that is a duplicate."""
    workflow = WorkflowManager(path, name="orders")
    failed: list[int] = []

    async def order(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["last"] = event.id
        if event.id == "b" and not failed:
            failed.append(1)
            raise ConnectionError("no answer")

    workflow.register("order", order, retry=Retry(attempts=2, delay=0.001, jitter=0))
    run = workflow.run("fresh")
    async with workflow:
        for event_id in ("a", "b", "a"):
            await run.send(WorkflowEvent("order", {"n": 1}, id=event_id))
        await run.wait(20)
    await workflow.close()


@pytest.mark.parametrize("words", [(), ("fresh",)])
def test_it_follows_a_worker_in_another_process(words: tuple[str, ...], path: Path):
    with writing(path) as connection:
        add_run(connection, 9, "fresh", head=1, cursor=1)
        add_event(connection, 9, 1, "earlier")
    with follow(*words, "--last", "1", "--json") as program:
        told = lines(program)
        assert next(told)["name"] == "earlier"
        asyncio.run(work(path))
        found = [next(told) for _ in range(6)]
        program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        assert program.stderr.read() == ""
    assert program.returncode == 130
    assert {each["correlation_id"] for each in found} == {"fresh"}
    events = [each["id"] for each in found if each["kind"] == "event"]
    attempts = [each["outcome"] for each in found if each["kind"] == "attempt"]
    drops = [each["reason"] for each in found if each["kind"] == "drop"]
    assert (events, attempts, drops) == (
        ["a", "b"],
        ["handled", "retried", "handled"],
        ["duplicate"],
    )


def test_it_ends_when_no_one_reads_any_more(path: Path):
    """Also if nothing happens that it would write."""
    with follow("--last", "1", "--store", str(path)) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 0


def test_it_follows_in_a_terminal(path: Path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", "tail", "--last", "1", "--store", str(path)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    ) as program:
        os.close(theirs)
        shown = b""
        while b"\n" not in shown:
            shown += os.read(ours, 65536)
        program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        assert program.stderr.read() == b""
    os.close(ours)
    assert b"\x1b[1mletter" in shown
    assert program.returncode == 130


@pytest.mark.usefixtures("path")
def test_once(capfd: pytest.CaptureFixture[str]):
    out = Called(capfd, "tail", "order-1", "--once", "--last", "4").out
    assert out == (
        "2023-11-14T22:13:23.000000Z  order-1 4 retried by handle (0.25 ms): no money\n"
        "2023-11-14T22:13:24.000000Z  order-1 4 pay  -\n"
        "2023-11-14T22:13:24.000000Z  order-1 4 dead by handle at attempt 2 (0.25 ms): no money\n"
        "2023-11-14T22:13:25.000000Z  order-1 5 error  no money\n"
        "2023-11-14T22:13:26.000000Z  order-1 6 late  -\n"
        '2023-11-14T22:13:27.000000Z  order-1 7 odd  "[red]€\\u001b[31m"\n'
    )
    assert Called(capfd, "tail", "--once", "--last", "0").out == ""
    called = Called(capfd, "tail", "nobody", "--once")
    assert (called.code, called.out) == (1, "")
    assert "there is no run 'nobody'" in called.err


# --- what is new -----------------------------------------------------------------------


async def test_what_is_new_comes_once_and_page_by_page(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeds, "PAGE", 3)
    monkeypatch.setattr(feeds, "_RUNS_AT_ONCE", 2)
    queries = open_queries(StoreUrl(path))
    feed = Feed()
    await queries.read_together(lambda each: feed.begin(5, each))
    assert (await queries.read_together(feed.more))[1:] == ([], [], [], False)
    with writing(path) as connection:
        for run in range(10, 17):
            status = "running" if run == 16 else "idle"
            add_run(connection, run, f"r{run}", status=status, head=2, cursor=2)
            for position in (1, 2):
                add_event(connection, run, position, "e")
                add_transition(connection, run, position, position)
        add_drop(connection, 10, "x", "stale")
    events: list[tuple[int, int]] = []
    attempts: list[tuple[int, int]] = []
    drops: list[str | None] = []
    while True:
        news = await queries.read_together(feed.more)
        assert max(map(len, (news.events, news.transitions, news.drops))) <= 3
        events += [(each.run_id, each.position) for each in news.events]
        attempts += [(each.run_id, each.position) for each in news.transitions]
        drops += [each.event_id for each in news.drops]
        if not news.has_more:
            break
    places = [(run, position) for run in range(10, 17) for position in (1, 2)]
    assert events == places
    assert sorted(attempts) == places
    assert drops == ["x"]
    assert set(feed.active) == {2, 16}
    with writing(path) as connection:
        add_transition(connection, 16, 2, 3, attempt=2)
        add_event(connection, 3, 2, "more", id="more")
        add_transition(connection, 3, 2, 9)
    news = await queries.read_together(feed.more)
    assert [each.id for each in news.events] == ["more"]
    assert {(each.run_id, each.number) for each in news.transitions} == {(3, 9), (16, 3)}


async def test_drops_that_are_numbered_anew_after_a_pruning_are_told(path: Path):
    queries = open_queries(StoreUrl(path))
    feed = Feed()
    with writing(path) as connection:
        add_run(connection, 20, "old", status="completed", head=0, cursor=0)
        for name in "abc":
            add_drop(connection, 20, name, "stale")
    await queries.read_together(lambda each: feed.begin(0, each))
    with writing(path) as connection:
        connection.execute(delete(schema.drop).where(schema.drop.c.run_id == 20))
    assert (await queries.read_together(feed.more)).drops == []
    with writing(path) as connection:
        add_run(connection, 21, "new", head=0, cursor=0)
        add_drop(connection, 21, "d", "stale")
    told = await queries.read_together(feed.more)
    assert [each.event_id for each in told.drops] == ["d"]
