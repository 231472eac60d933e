"""``flowstore check``: recorded runs against the code at hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import checked
import pytest
from command_line import Called, settle, start

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.replay import write_file
from flowstore.replay.accepted_file import read_accepted
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder, from which the shop can be imported."""
    settle(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path, monkeypatch)


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """Three runs of the shop."""
    path = tmp_path / "flowstore.db"
    await checked.record(path)
    return path


def check(capfd: pytest.CaptureFixture[str], code: str, *options: str) -> Called:
    """Check runs in this process, as a thread would have no event loop in its way."""
    return Called(capfd, "check", "--app", f"checked:{code}", *options)


def found(capfd: pytest.CaptureFixture[str], code: str, *options: str) -> Any:
    called = check(capfd, code, *options, "--json")
    assert called.err == ""
    result = json.loads(called.out)
    assert called.code == (1 if result["diverged"] or result["unreadable"] else 0)
    return result


# --- what it finds ---------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_runs_of_the_same_code_are_identical(capfd: pytest.CaptureFixture[str]):
    called = check(capfd, "same")
    assert (called.code, called.err) == (0, "")
    assert called.out == "3 runs of shop: 3 identical\n"


@pytest.mark.usefixtures("store")
def test_runs_that_diverge_in_the_same_way_are_one_line(capfd: pytest.CaptureFixture[str]):
    called = check(capfd, "dearer")
    assert called.code == 1
    first, *examples, last = called.out.splitlines()
    assert first == "3 runs diverge in sell: emitted.charged.data.total"
    assert [line.partition(":")[0] for line in examples] == ["  order-3", "  order-2", "  order-1"]
    assert all("position 1" in line for line in examples)
    assert last == "3 runs of shop: 3 diverge, 0 identical"
    assert called.err == ("(look into one: flowstore replay order-3 --app checked:dearer --pdb)\n")


@pytest.mark.usefixtures("store")
def test_the_shape_of_its_json(capfd: pytest.CaptureFixture[str]):
    result = found(capfd, "stamped", "order-1")
    (run,) = result.pop("runs")
    assert result == {
        "workflow": "shop",
        "checked": 1,
        "events": 1,
        "identical": 0,
        "diverged": 1,
        "unreadable": 0,
        "groups": [
            {
                "handler": "sell",
                "kind": "state",
                "detail": None,
                "paths": ["state.stamp"],
                "runs": 1,
                "example": "order-1",
            }
        ],
        "accepted": [],
    }
    divergence = run.pop("divergence")
    assert run == {
        "correlation_id": "order-1",
        "outcome": "diverged",
        "status": "idle",
        "events": 1,
        "until": 1,
        "accepted": [],
        "problem": None,
    }
    assert divergence["position"] == 1
    assert sorted(divergence) == [
        "differences", "event", "handler", "kind", "message", "position"
    ]  # fmt: skip
    assert divergence["differences"] == [
        {"path": "state.stamp", "expected": "then", "actual": "now"}
    ]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("code", "kind", "detail"),
    [
        ("other_step", "step", "bill"),
        ("failing", "outcome", "handled -> dead"),
        ("without_audit", "handler", "gone"),
        ("chatty", "emitted", None),
    ],
)
def test_kinds_of_divergences(
    code: str, kind: str, detail: str | None, capfd: pytest.CaptureFixture[str]
):
    (group,) = found(capfd, code)["groups"]
    assert (group["kind"], group["detail"], group["runs"]) == (kind, detail, 3)


@pytest.mark.usefixtures("store")
def test_a_step_can_really_run(capfd: pytest.CaptureFixture[str]):
    assert found(capfd, "other_step", "--live", "bill")["identical"] == 3


@pytest.mark.usefixtures("store")
def test_what_handlers_print_is_not_mixed_in():
    done = start("check", "--app", "checked:chatty", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["diverged"] == 3
    # The negative control: it does print.
    assert "sold" in start("replay", "order-1", "--app", "checked:chatty").stdout


def test_looking_writes_nothing(store: Path, capfd: pytest.CaptureFixture[str]):
    """G12, and a second time comes to the same."""
    before = store.read_bytes()
    assert found(capfd, "dearer") == found(capfd, "dearer")
    assert store.read_bytes() == before
    assert {each.name for each in store.parent.iterdir()} <= {
        "flowstore.db", "flowstore.db-lock", "flowstore.db-wal", "flowstore.db-shm"
    }  # fmt: skip


# --- which runs ------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_some_of_the_runs(capfd: pytest.CaptureFixture[str]):
    def names(*options: str) -> list[str]:
        return [run["correlation_id"] for run in found(capfd, "same", *options)["runs"]]

    assert names() == ["order-3", "order-2", "order-1"]
    assert names("--limit", "2") == ["order-3", "order-2"]
    assert names("order-1", "order-3", "order-1") == ["order-1", "order-3"]
    assert names("--status", "idle", "--status", "failed") == ["order-3", "order-2", "order-1"]
    assert names("--status", "idle,failed") == ["order-3", "order-2", "order-1"]
    assert names("--since", "7d") == ["order-3", "order-2", "order-1"]
    called = check(capfd, "same", "--status", "completed")
    assert (called.code, called.out) == (0, "")
    assert called.err == "(no runs of shop to check)\n"
    assert names("--since", "2999-01-01") == []


async def test_only_runs_of_the_workflow(
    store: Path, make: Callable[..., WorkflowManager], capfd: pytest.CaptureFixture[str]
):
    other = make(store, name="mail").register("order", lambda _event: None, name="sell")
    await other.send(WorkflowEvent("order", 1), correlation_id="mail-1")
    await other.resume()
    await other.close()

    def look() -> None:
        assert found(capfd, "same")["checked"] == 3
        (run,) = found(capfd, "same", "--workflow", "mail")["runs"]
        assert run["correlation_id"] == "mail-1"
        assert run["outcome"] == "diverged"
        called = check(capfd, "same", "mail-1")
        assert called.code == 1
        assert "of workflow 'mail', not of 'shop'" in called.err

    await in_a_thread(look)


async def test_exported_runs(store: Path, capfd: pytest.CaptureFixture[str]):
    names = ["order-2", "order-1"]
    write_file(Path("runs.jsonl"), await open_queries(parse(str(store))).read_archives(names))

    def look() -> None:
        result = found(capfd, "same", "--store", "runs.jsonl")
        assert [run["correlation_id"] for run in result["runs"]] == names
        assert found(capfd, "dearer", "--store", "runs.jsonl")["diverged"] == 2
        assert found(capfd, "same", "--store", "runs.jsonl", "order-1")["checked"] == 1
        assert found(capfd, "same", "--store", "runs.jsonl", "--limit", "1")["checked"] == 1
        with Path("runs.jsonl").open() as file:
            done = start("check", "--app", "checked:same", "--store", "-", stdin=file)
        assert done.stdout == "2 runs of shop: 2 identical\n"
        called = check(capfd, "same", "--store", "runs.jsonl", "order-3")
        assert (called.code, called.out) == (1, "")
        assert "there is no run 'order-3'" in called.err

    await in_a_thread(look)


async def in_a_thread(look: Callable[[], None]) -> None:
    """Have commands begin event loops of their own."""
    await asyncio.to_thread(look)


async def test_a_run_that_is_at_work_is_checked_as_far_as_it_is(
    make: Callable[..., WorkflowManager], path: Path
):
    """G12: the worker is not disturbed."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    workflow = make(path, name=checked.NAME)

    @workflow.on("order")
    async def sell(event: WorkflowEvent, ctx: Context) -> None:
        if event.data == 2:
            begun.set()
            await go_on.wait()
        ctx.state["total"] = event.data

    async with workflow:
        for number in (1, 2):
            await workflow.send(WorkflowEvent("order", number), correlation_id="order-1")
        await begun.wait()
        done = await asyncio.to_thread(
            start, "check", "--app", "checked:same", "--store", str(path), "--json"
        )
        (run,) = json.loads(done.stdout)["runs"]
        assert (run["status"], run["until"]) == ("running", 1)
        go_on.set()
        assert (await workflow.run("order-1").wait(timeout=30)).status == "idle"
        assert await workflow.run("order-1").state() == {"total": 2}


def test_a_run_that_cannot_be_read_stops_no_other(store: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE transition SET change = '[[]' WHERE run_id = 2")
        connection.commit()
    result = found(capfd, "same")
    assert (result["checked"], result["identical"]) == (3, 2)
    broken = next(run for run in result["runs"] if run["correlation_id"] == "order-2")
    assert broken["outcome"] in ("unreadable", "diverged")
    assert "order-2" in check(capfd, "same").out


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("source", ["flowstore.db", "runs.jsonl"])
async def test_a_handler_that_ends_the_program_ends_no_check(
    source: str, capfd: pytest.CaptureFixture[str]
):
    names = ["order-3", "order-2", "order-1"]
    queries = open_queries(parse("flowstore.db"))
    write_file(Path("runs.jsonl"), await queries.read_archives(names))

    def look() -> None:
        result = found(capfd, "exiting", "--store", source)
        assert [run["correlation_id"] for run in result["runs"]] == names
        assert [run["outcome"] for run in result["runs"]] == [
            "identical", "unreadable", "identical"
        ]  # fmt: skip
        assert result["runs"][1]["problem"] == "a handler of it ends the program: sys.exit(0)"

    await in_a_thread(look)


# --- what is intended ------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_an_empty_path_does_not_cover_everything(capfd: pytest.CaptureFixture[str]):
    called = check(capfd, "dearer", "--ignore", "")
    assert (called.code, called.out) == (2, "")
    assert "Invalid value for '--ignore': '' is no path that can differ" in called.err


@pytest.mark.usefixtures("store")
def test_a_path_can_be_ignored(capfd: pytest.CaptureFixture[str]):
    assert found(capfd, "stamped")["diverged"] == 3
    assert found(capfd, "stamped", "--ignore", "state.stamp")["identical"] == 3
    both = found(capfd, "dearer_and_stamped", "--ignore", "state.stamp")
    assert both["diverged"] == 3
    paths = ("--ignore", "state.total", "--ignore", "emitted.*.data.total")
    assert found(capfd, "dearer", *paths)["identical"] == 3


@pytest.mark.usefixtures("store")
def test_changes_can_be_accepted_and_others_are_still_found(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    file = tmp_path / "accepted.toml"
    called = check(capfd, "dearer", "--update", str(file), "--reason", "a new price")
    assert called.code == 0
    assert called.err == f"(2 changes accepted in {file})\n"
    entries = read_accepted(file)
    assert {(each.trait.handler, each.trait.kind) for each in entries} == {
        ("sell", "emitted"),
        ("sell", "state"),
    }
    assert {each.reason for each in entries} == {"a new price"}

    again = found(capfd, "dearer", "--accept", str(file))
    assert (again["identical"], again["diverged"]) == (3, 0)
    assert [each["runs"] for each in again["accepted"]] == [3, 3]
    assert (
        "(3 of them but for accepted changes)" in check(capfd, "dearer", "--accept", str(file)).out
    )
    other = found(capfd, "dearer_and_chatty", "--accept", str(file))
    assert other["diverged"] == 3
    (group,) = other["groups"]
    assert group["paths"] == ["+emitted.thanked"]


@pytest.mark.usefixtures("store")
def test_an_accepted_change_hides_none_behind_it(capfd: pytest.CaptureFixture[str]):
    check(capfd, "dearer", "--update", "accepted.toml", "--reason", "a new price")
    result = found(capfd, "dearer_without_audit", "--accept", "accepted.toml")
    assert [(group["handler"], group["detail"]) for group in result["groups"]] == [
        ("audit", "gone")
    ]
    assert {run["divergence"]["position"] for run in result["runs"]} == {2}
    assert all(len(run["accepted"]) == 2 for run in result["runs"])


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "code",
    ["same", "dearer", "dearer_and_stamped", "dearer_and_chatty", "other_step", "failing",
     "without_audit", "dearer_without_audit"],
)  # fmt: skip
def test_whatever_has_been_accepted_diverges_no_more(code: str, capfd: pytest.CaptureFixture[str]):
    """And only then: the code of before does not diverge either, and has none of it."""
    diverged = found(capfd, code)["diverged"]
    called = check(capfd, code, "--update", "accepted.toml", "--reason", "so it is")
    assert called.code == 0
    if code == "same":
        assert (diverged, Path("accepted.toml").exists()) == (0, False)
        return
    assert diverged == 3
    again = found(capfd, code, "--accept", "accepted.toml")
    assert again["identical"] == 3
    assert all(entry["runs"] == 3 for entry in again["accepted"])
    before = found(capfd, "same", "--accept", "accepted.toml")
    assert before["identical"] == 3
    assert all(entry["runs"] == 0 for entry in before["accepted"])
    assert found(capfd, "stamped", "--accept", "accepted.toml")["diverged"] == (
        0 if code == "dearer_and_stamped" else 3
    )


@pytest.mark.usefixtures("store")
def test_an_update_adds_to_what_is_accepted(capfd: pytest.CaptureFixture[str]):
    check(capfd, "dearer", "--update", "accepted.toml", "--reason", "one")
    text = Path("accepted.toml").read_text()
    called = check(capfd, "dearer_and_chatty", "--update", "accepted.toml", "--reason", "two")
    assert called.code == 0
    assert Path("accepted.toml").read_text().startswith(text.rstrip())
    assert [each.reason for each in read_accepted(Path("accepted.toml"))] == ["one", "one", "two"]
    check(capfd, "dearer_and_chatty", "--update", "accepted.toml", "--reason", "three")
    assert len(read_accepted(Path("accepted.toml"))) == 3


@pytest.mark.usefixtures("store")
def test_accepted_changes_that_no_run_has_are_named(capfd: pytest.CaptureFixture[str]):
    check(capfd, "dearer", "--update", "accepted.toml", "--reason", "a new price")
    called = check(capfd, "same", "--accept", "accepted.toml")
    assert called.code == 0
    assert called.err.count("(accepted, and no run has it: in sell: ") == 2
    result = found(capfd, "same", "--accept", "accepted.toml")
    assert [each["runs"] for each in result["accepted"]] == [0, 0]
