"""The commands ``fork`` and ``diff``."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called, show, start
from fork_child import AT
from programs import environment
from watching import query

from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Called]

CHILD = Path(__file__).with_name("fork_child.py")


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return lambda *words: Called(capfd, *words)


def shop(path: Path | str) -> WorkflowManager:
    workflow = WorkflowManager(path, name="shop")

    @workflow.on("order")
    async def order(event: WorkflowEvent, ctx: Context):
        ctx.state["total"] = event.data["total"]
        yield WorkflowEvent("reserve", {"of": ctx.correlation_id})
        ctx.schedule(WorkflowEvent("remind"), delay=3600)

    @workflow.on("reserve")
    async def reserve(_: WorkflowEvent, ctx: Context):
        ctx.state["reserved"] = True

    @workflow.on("paid")
    async def paid(event: WorkflowEvent, ctx: Context):
        if event.data < ctx.state["total"]:
            raise ValueError("too little")
        ctx.complete(event.data)

    return workflow


@pytest.fixture
def sold(tmp_path: Path) -> Path:
    """A database with a run of three events: order, reserve, paid."""
    path = tmp_path / "flowstore.db"

    async def sell() -> None:
        workflow = shop(path)
        for name, data in (("order", {"total": 5}), ("paid", 5)):
            await workflow.run("r").send(WorkflowEvent(name, data))
            await workflow.resume("r")
        await workflow.close()

    asyncio.run(sell())
    return path


def go_on(path: Path, run: str, *events: tuple[str, Any]) -> None:
    async def go() -> None:
        workflow = shop(path)
        for name, data in events:
            await workflow.run(run).send(WorkflowEvent(name, data))
        await workflow.resume(run)
        await workflow.close()

    asyncio.run(go())


# --- fork ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sold")
def test_fork_says_what_is_pending_and_who_goes_on(call: Call):
    called = call("fork", "r", "--at", "1")
    assert called.code == 0
    fields = dict(line.split(maxsplit=1) for line in called.out.splitlines()[:-1])
    assert fields["fork"] == "r~1"
    assert fields["of"] == "r at 1"
    assert fields["pending"] == "1: reserve"
    assert called.out.splitlines()[-1].split() == ["waits", "for", "1", "timer"]
    assert "whoever serves workflow 'shop' on flowstore.db goes on with it" in called.err


@pytest.mark.usefixtures("sold")
def test_fork_into_another_database(call: Call, tmp_path: Path):
    called = call("fork", "r", "--at", "2", "--into", "copy.db", "--as", "mine", "--json")
    told = called.json
    assert (told["correlation_id"], told["store"], told["status"]) == ("mine", "copy.db", "waiting")
    assert told["forked_from"]["store"] == str(tmp_path / "flowstore.db")
    assert told["outstanding"]["timers"] == 1
    assert told["pending"] == []
    assert query(tmp_path / "flowstore.db", "SELECT count(*) FROM run") == [(1,)]
    again = call("fork", "r", "--at", "1", "--into", "copy.db")
    assert "it stays as it is until you serve workflow 'shop' on copy.db" in again.err
    assert "(new)" not in again.out
    go_on(tmp_path / "copy.db", "mine", ("paid", 6))
    assert call("state", "mine", "--store", "copy.db").code == 0
    shown = call("show", "mine", "--store", "copy.db", "--json").json
    assert (shown["status"], shown["result"]) == ("completed", 6)
    assert shown["lineage"]["forked_from"]["correlation_id"] == "r"
    assert call("verify", "--store", "copy.db").code == 0


def test_the_original_is_only_read(sold: Path, call: Call):
    before = (sold.stat().st_mtime_ns, sold.read_bytes())
    sold.chmod(0o444)
    assert call("fork", "r", "--at", "2", "--into", "copy.db", "--json").json["head"] == 2
    assert (sold.stat().st_mtime_ns, sold.read_bytes()) == before


@pytest.mark.usefixtures("sold")
def test_fork_with_edits(call: Call, tmp_path: Path):
    edits = ("--edit-event", '{"data": 9}', "--edit-state", '{"x": 1}')
    made = call("fork", "r", "--at", "3", *edits, "--json").json
    assert made["pending"] == [
        {"position": 3, "id": made["pending"][0]["id"], "name": "paid"},
    ]
    assert made["forked_from"]["edits"] == {"event": {"data": 9}, "state": {"x": 1}}
    edited = call("fork", "r", "--at", "1", "--edit-event", "{}", "--edit-state", "{}", "--json")
    assert "edited by flowstore.fork, pending" in call("log", edited.json["correlation_id"]).out
    go_on(tmp_path / "flowstore.db", "r~3")
    assert call("show", "r~3", "--json").json["result"] == 9
    assert "(forked from r at 3, with its event and state edited)" in call("history", "r~3").err
    assert call("state", "r~3", "--json").json == {"total": 5, "reserved": True, "x": 1}


@pytest.mark.usefixtures("sold")
def test_fork_of_an_exported_run(call: Call):
    assert call("export", "r", "-o", "r.jsonl").code == 0
    called = call("fork", "r", "--at", "2", "--store", "r.jsonl", "--into", "copy.db", "--json")
    assert called.json["correlation_id"] == "r~2"
    assert call("fork", "r", "--at", "2", "--store", "r.jsonl").code == 2
    with Path("r.jsonl").open() as lines:
        words = ("fork", "r", "--at", "2", "--store", "-", "--into", "copy.db")
        done = start(*words, stdin=lines)
    assert done.stdout.split()[:2] == ["fork", "r~2.2"]
    assert call("diff", "r", "r~2.2", "--store", "r.jsonl", "--other", "copy.db").code == 1


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("nope", "--at", "1"), 1, "there is no run 'nope'"),
        (("r", "--at", "9"), 1, "run 'r' has no event at position 9: it has 1 to 3"),
        (("r", "--at", "0"), 2, "--at"),
        (("r",), 2, "--at"),
        (("r", "--at", "1", "--as", "r"), 1, "there is a run 'r' already"),
        (("r", "--at", "1", "--as", ""), 1, "correlation_id: is empty"),
        (("r", "--at", "3", "--edit-state", "{}"), 1, "was completed at position 3"),
        (("r", "--at", "1", "--edit-event", "5"), 2, "--edit-event: is a JSON object that says"),
        (("r", "--at", "1", "--edit-event", "{'a'"), 2, "--edit-event: "),
        (("r", "--at", "1", "--edit-event", '{"id": 5}'), 1, "edit_event: has 'id'"),
        (("r", "--at", "1", "--edit-event", '{"data": 1e999}'), 1, "edit_event.data: is inf"),
        (("r", "--at", "1", "--edit-state", '{"a": "\\u0000"}'), 1, "edit_state.a: "),
        (("r", "--at", "1", "--edit-state", '{"a": 1, "a": 2}'), 2, "'a' comes twice"),
        (("r", "--at", "1", "--into", "no/such/folder.db"), 1, "no/such/folder.db"),
        (("r", "--at", "1", "--into", "copy.jsonl"), 2, "--into: is a database"),
        (("r", "--at", "1", "--into", "."), 1, "."),
        (("r", "--at", "99999999999999999999"), 1, "it has 1 to 3"),
        (("r", "--at", "1", "--into", ":memory:"), 1, "in the memory of one process"),
    ],
)
@pytest.mark.usefixtures("sold")
def test_what_is_refused_is_told_in_one_line(
    call: Call, words: tuple[str, ...], code: int, problem: str
):
    called = call("fork", *words)
    assert (called.code, called.out) == (code, "")
    assert problem in called.err
    assert called.err.startswith("flowstore: ")
    assert called.err.count("\n") == 1
    assert call("runs", "--json").json[0]["correlation_id"] == "r"


@pytest.mark.usefixtures("sold")
def test_a_refused_fork_makes_no_database(call: Call, tmp_path: Path):
    assert call("fork", "r", "--at", "9", "--into", "copy.db").code == 1
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.usefixtures("sold")
def test_commands_at_once_make_forks_of_different_names():
    command = [sys.executable, "-m", "flowstore.cli", "fork", "r", "--at", "1", "--json"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(4)
    ]
    names = {process.communicate(timeout=60)[0].split('"correlation_id": "')[1].split('"')[0]
             for process in processes}  # fmt: skip
    assert names == {"r~1", "r~1.2", "r~1.3", "r~1.4"}
    assert {process.returncode for process in processes} == {0}


# --- killed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "left"), [("as it is", 0), ("careless", AT)])
def test_a_fork_that_is_killed_leaves_all_or_nothing(tmp_path: Path, how: str, left: int):
    """G2 for forks; without the transaction, the negative control, there is half of one."""

    async def grow() -> None:
        workflow = WorkflowManager(tmp_path / "runs.db")
        for number in range(AT):
            await workflow.run("r").send(WorkflowEvent("n", number))
        await workflow.resume("r")
        await workflow.close()

    asyncio.run(grow())
    command = [sys.executable, CHILD, tmp_path, how]
    child = subprocess.run(command, env=environment(), timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    copy = tmp_path / "copy.db"
    assert query(copy, "SELECT count(*) FROM event") == [(left,)]
    assert query(copy, "SELECT count(*) FROM run") == [(min(left, 1),)]


# --- diff ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sold")
def test_a_run_and_a_fork_that_came_to_the_same_do_not_differ(call: Call, sold: Path):
    call("fork", "r", "--at", "1")
    go_on(sold, "r~1", ("paid", 5))
    called = call("diff", "r", "r~1")
    assert (called.code, called.err) == (0, "")
    assert called.out == "the runs are the same: 3 events are alike\n"
    assert call("diff", "r", "r~1", "--json").json["identical"] is True


@pytest.mark.usefixtures("sold")
def test_diff_shows_where_two_runs_part(call: Call, sold: Path):
    call("fork", "r", "--at", "2")
    go_on(sold, "r~2", ("paid", 4))
    called = call("diff", "r", "r~2")
    assert (called.code, called.err) == (1, "")
    assert called.out.splitlines() == [
        "--- r (flowstore.db)",
        "+++ r~2 (flowstore.db)",
        "the first 2 events are the same",
        "- 3 paid 5",
        "+ 3 paid 4",
        "-     handled by paid",
        "+     dead by paid: too little",
        "-     event.data: 5",
        "+     event.data: 4",
        '+ 4 error {"event": "paid", "event_id": "' + called.out.split('"event_id": "')[1]
        .splitlines()[0],
        '-     run.status: "completed"',
        '+     run.status: "failed"',
        "-     run.result: 5",
        "+     run.reason: \"handler 'paid' on 'paid' at 3 failed: too little\"",
    ]  # fmt: skip


@pytest.mark.usefixtures("sold")
def test_diff_across_databases_and_files(call: Call, tmp_path: Path):
    call("fork", "r", "--at", "3", "--into", "copy.db")
    call("export", "r", "-o", "r.jsonl")
    assert call("diff", "r", "r~3", "--other", "copy.db").code == 0
    assert call("diff", "r", "r~3", "--store", "r.jsonl", "--other", "copy.db").code == 0
    assert call("diff", "r", "r", "--other", "r.jsonl").code == 0
    assert not list(tmp_path.glob("r.jsonl-*"))


@pytest.mark.usefixtures("sold")
def test_diff_shows_what_is_pending_and_all_if_asked(call: Call, tmp_path: Path):
    go_on(tmp_path / "flowstore.db", "long", *(("note", number) for number in range(9)))
    call("fork", "long", "--at", "1")
    part = call("diff", "long", "long~1")
    assert (part.code, "3 more positions differ; all of them with --all" in part.err) == (1, True)
    whole = call("diff", "long", "long~1", "--all")
    assert [line for line in whole.out.splitlines() if line.startswith("- 9 ")] == ["- 9 note 8"]
    told = call("diff", "long", "long~1", "--json").code, call("fork", "r", "--at", "1").code
    assert told == (1, 0)
    assert "+     pending" in call("diff", "r", "r~1").out


def test_diff_shows_some_of_how_the_runs_differ_in_the_end(call: Call, tmp_path: Path):
    workflow = WorkflowManager(tmp_path / "flowstore.db")
    workflow.register("count", lambda event, ctx: ctx.complete([event.data] * 30))

    async def count() -> None:
        for name, number in (("one", 1), ("two", 2)):
            await workflow.send(WorkflowEvent("count", number), correlation_id=name)
        await workflow.resume()
        await workflow.close()

    asyncio.run(count())
    part, whole = call("diff", "one", "two"), call("diff", "one", "two", "--all")
    told = [each.out.count("-     run.result[") for each in (part, whole)]
    assert told == [20, 30]
    assert "10 more values differ in the end; all of them with --all" in part.err
    assert whole.err == ""
    assert call("diff", "one", "two", "--json").out.count('"result[') == 30


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("r", "nope"), "RUN_B: flowstore.db: there is no run 'nope'"),
        (("nope", "r"), "RUN_A: flowstore.db: there is no run 'nope'"),
        (("r", "r", "--other", "none.db"), "RUN_B: none.db: there is no database"),
        (("r", "r", "--other", "none.jsonl"), "RUN_B: none.jsonl: there is no such file"),
    ],
)
@pytest.mark.usefixtures("sold")
def test_a_run_that_is_not_there_is_no_difference(call: Call, words: tuple[str, ...], problem: str):
    called = call("diff", *words)
    assert (called.code, called.out) == (2, "")
    assert problem in called.err
    assert called.err.count("\n") == 1


def test_diff_is_side_by_side_in_a_terminal(sold: Path):
    go_on(sold, "a", ("order", {"total": 1}))
    go_on(sold, "b", ("order", {"total": 2}))
    shown = show("diff", "a", "b", columns=120, code=1, NO_COLOR="1")
    line = next(line for line in shown.splitlines() if "event.data.total: 1" in line)
    assert line.index("event.data.total: 1") < 60 < line.index("event.data.total: 2")


def test_fork_works_as_a_program(sold: Path):
    done = start("fork", "r", "--at", "2", "--store", str(sold))
    assert (done.returncode, done.stdout.splitlines()[0].split()) == (0, ["fork", "r~2"])
