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
from command_line import Called, start
from sample import add_drop, add_event, add_run, add_transition, writing
from sqlalchemy import delete, select

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.store import feed as feeds
from flowstore.store import schema
from flowstore.store.feed import Feed
from flowstore.store.prune import PARTS
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("folder")


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
def test_it_follows_a_worker_in_another_process(words: tuple[str, ...], filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "fresh", head=1, cursor=1)
        add_event(connection, 9, 1, "earlier")
    with follow(*words, "--last", "1", "--json") as program:
        told = lines(program)
        assert next(told)["name"] == "earlier"
        asyncio.run(work(filled))
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


def test_it_ends_when_no_one_reads_any_more(filled: Path):
    """Also if nothing happens that it would write."""
    with follow("--last", "1", "--store", str(filled)) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 0


def test_it_follows_in_a_terminal(filled: Path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", "tail", "--last", "1", "--store", str(filled)],
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


@pytest.mark.usefixtures("filled")
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


async def test_what_is_new_comes_once_and_page_by_page(
    filled: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feeds, "PAGE", 3)
    monkeypatch.setattr(feeds, "_RUNS_AT_ONCE", 2)
    queries = open_queries(StoreUrl(filled))
    feed = Feed()
    await queries.read_together(lambda each: feed.begin(5, each))
    assert (await queries.read_together(feed.more))[1:] == ([], [], [], False)
    with writing(filled) as connection:
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
    with writing(filled) as connection:
        add_transition(connection, 16, 2, 3, attempt=2)
        add_event(connection, 3, 2, "more", id="more")
        add_transition(connection, 3, 2, 9)
    news = await queries.read_together(feed.more)
    assert [each.id for each in news.events] == ["more"]
    assert {(each.run_id, each.number) for each in news.transitions} == {(3, 9), (16, 3)}


async def _refuse(workflow: WorkflowManager, run: str, count: int) -> None:
    """Have some events refused, which come too late."""
    for _ in range(count):
        assert (await workflow.run(run).send(WorkflowEvent("late"))).status == "stale"


async def _closed_runs(path: Path) -> None:
    """Make three runs that are over; the newest drops are those of the second."""
    workflow = WorkflowManager(path)

    async def order(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.complete()

    workflow.register("order", order)
    for name in ("older", "old", "new"):
        await workflow.send(WorkflowEvent("order"), correlation_id=name)
    await workflow.resume()
    await _refuse(workflow, "older", 1)
    await _refuse(workflow, "old", 3)
    await workflow.close()


async def _go_on(path: Path) -> None:
    workflow = WorkflowManager(path)
    await _refuse(workflow, "new", 5)
    await workflow.close()


def _prune(path: Path) -> None:
    done = start("prune", "--older-than", "0s", "--no-vacuum", "--store", str(path))
    assert done.stdout.endswith("1 run with 1 event removed\n")


def _tear_out(path: Path) -> None:
    """Remove the run with the newest drop: the number of its first is given again."""
    with writing(path) as connection:
        old = select(schema.run.c.id).where(schema.run.c.correlation_id == "old")
        key = connection.scalar(old)
        for name in PARTS:
            table = schema.metadata.tables[name]
            connection.execute(delete(table).where(table.c.run_id == key))
        connection.execute(delete(schema.run).where(schema.run.c.id == key))


@pytest.mark.parametrize(("remove", "seen"), [(_prune, 5), (_tear_out, 2)])
def test_no_drop_is_missed_when_runs_are_removed_while_it_does_not_look(
    remove: Callable[[Path], None], seen: int, tmp_path: Path
):
    """G7: the run with the newest drop stays. Without it, the control, three are passed over."""
    path = tmp_path / "pruned.db"
    asyncio.run(_closed_runs(path))
    with follow("--last", "1", "--json", "--store", str(path)) as program:
        told = lines(program)
        assert {next(told)["kind"], next(told)["kind"]} == {"event", "attempt"}
        program.send_signal(signal.SIGSTOP)
        os.waitpid(program.pid, os.WUNTRACED)
        remove(path)
        asyncio.run(_go_on(path))
        program.send_signal(signal.SIGCONT)
        found = [next(told) for _ in range(seen)]
        program.send_signal(signal.SIGINT)
        found += told
    assert [(each["kind"], each["correlation_id"]) for each in found] == [("drop", "new")] * seen
