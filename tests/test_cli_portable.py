"""`flowstore export` and `flowstore import`: what people see, and what is left behind."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Called, show, start
from disks import fill, small_disk
from portable import EVERYTHING, archives_of, live, told

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.cli.archives import archive_of
from flowstore.replay import read_file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "flowstore.db"
    asyncio.run(live(path, EVERYTHING))
    return path


@pytest.fixture(autouse=True)
def store(folder: Path, made: Path) -> Path:
    shutil.copy(made, folder / "flowstore.db")
    return folder / "flowstore.db"


def left(folder: str = ".") -> list[str]:
    """Return the files in a folder, but for those of SQLite beside a database."""
    names = [path.name for path in Path(folder).iterdir()]
    return sorted(name for name in names if not name.endswith(("-wal", "-shm", "-lock")))


def all_of(path: Path) -> list[object]:
    return list(map(told, asyncio.run(archives_of(path))))


# --- there and back ------------------------------------------------------------------------------


def test_all_runs_go_into_a_file_and_from_there_into_another_database(
    store: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    called = Called(capfd, "export", "--all", "-o", "runs.jsonl")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("runs.jsonl: 5 runs, ")
    called = Called(capfd, "import", "runs.jsonl", "--store", "copy.db")
    assert called.code == 0
    assert called.out.startswith("copy.db: 5 runs, ")
    assert called.err == (
        "(running or waiting: all; whoever serves workflow 'workflow' on this database goes on "
        "with them)\n"
    )
    assert all_of(tmp_path / "copy.db") == all_of(store)
    assert Called(capfd, "export", "--all", "--store", "copy.db", "-o", "again.jsonl").code == 0
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "runs.jsonl").read_bytes()


def test_runs_go_through_a_pipe(tmp_path: Path):
    done = start("export", "done", "large")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count('"line":"run"') == 2
    done = start("import", "-", "--store", "copy.db", "--json", input=done.stdout)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "store": "copy.db", "file": "-", "runs": 2, "events": 5, "skipped": [], "unfinished": [],
    }  # fmt: skip
    assert [archive["run"].correlation_id for archive in all_of(tmp_path / "copy.db")] == [
        "done",
        "large",
    ]
    assert start("import", "-", "--store", "x.db", input="").stderr == (
        "flowstore: standard input, line 1: the file is empty\n"
    )


def test_a_run_is_looked_at_through_a_pipe(monkeypatch: pytest.MonkeyPatch):
    """As in ``ssh shop flowstore export order-7 | flowstore replay order-7 --store -``."""
    done = start("export", "done", "large")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(done.stdout.encode())))
    assert archive_of("-", "large").run.correlation_id == "large"


def test_the_summary_is_json(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    said = Called(capfd, "export", "done", "--output", "one.jsonl", "--json").json
    size = (tmp_path / "one.jsonl").stat().st_size
    assert said == {
        "file": "one.jsonl", "runs": 1, "events": 2, "lines": 10, "bytes": size,
        "redacted": [], "unmatched": [],
    }  # fmt: skip
    called = Called(capfd, "export", "done", "--json")
    assert json.loads(called.err)["runs"] == 1
    assert called.out == (tmp_path / "one.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("done", "all", "done"), ["done", "all"]),
        (("--status", "failed"), ["failed"]),
        (("--status", "running"), []),
        (("--status", "completed, failed"), ["failed", "done"]),
        (("--status", "completed", "--status", "failed"), ["failed", "done"]),
        (("--since", "1h"), ["all", "large", "failed", "done", "\u00e9/ %?"]),
        (("--since", "2999-01-01"), []),
        (("--since", "1h", "--status", "completed"), ["done"]),
    ],
)
def test_runs_are_chosen(
    words: tuple[str, ...],
    names: list[str],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    assert Called(capfd, "export", *words, "-o", "runs.jsonl").code == 0
    read = read_file(tmp_path / "runs.jsonl")
    assert [archive.run.correlation_id for archive in read] == names
    called = Called(capfd, "import", "runs.jsonl", "--store", "copy.db", "--json")
    assert called.code == 0
    assert (tmp_path / "copy.db").exists() == bool(names)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name the runs, or give --all, --status or --since, not both"),
        (("all", "--all"), "not both"),
        (("all", "--redact", "email"), "'email' is no path to a value: write data.x"),
        (("--since", "soon"), "'soon' is no time"),
        (("--status", "done,failed"), "'done' is not one of running, "),
    ],
)
def test_what_is_not_understood_is_told(
    words: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    called = Called(capfd, "export", *words, "-o", "runs.jsonl")
    assert (called.code, called.out) == (2, "")
    assert told in called.err
    assert called.err.count("\n") == 1
    assert not (tmp_path / "runs.jsonl").exists()


# --- where it goes -------------------------------------------------------------------------------


def test_a_file_that_is_there_is_replaced_on_demand(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    (tmp_path / "runs.jsonl").write_text("precious")
    called = Called(capfd, "export", "done", "-o", "runs.jsonl")
    assert (called.code, called.out) == (1, "")
    assert called.err == "flowstore: runs.jsonl: is there already; --force replaces it\n"
    assert (tmp_path / "runs.jsonl").read_text() == "precious"
    assert Called(capfd, "export", "done", "-o", "runs.jsonl", "--force").code == 0
    assert len(read_file(tmp_path / "runs.jsonl")) == 1
    assert left() == ["flowstore.db", "runs.jsonl"]
    assert stat.S_IMODE((tmp_path / "runs.jsonl").stat().st_mode) & 0o600 == 0o600


def test_the_database_is_not_overwritten(
    store: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    before = store.read_bytes()
    (tmp_path / "link.db").symlink_to(store)
    for name in ("flowstore.db", "link.db"):
        called = Called(capfd, "export", "--all", "-o", name, "--force")
        assert called.code == 1
        assert called.err == f"flowstore: {name}: is the database itself; name another file\n"
    assert store.read_bytes() == before


def test_a_run_that_is_not_there_leaves_no_file(capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "export", "done", "nobody", "-o", "runs.jsonl")
    assert called.code == 1
    assert "there is no run 'nobody'" in called.err
    assert left() == ["flowstore.db"]
    called = Called(capfd, "export", "done", "nobody")
    assert (called.code, called.out) == (1, "")


def test_a_full_disk_leaves_no_file(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    with small_disk(tmp_path / "small", "16k"):
        called = Called(capfd, "export", "--all", "-o", "small/runs.jsonl")
        assert (called.code, called.out) == (1, "")
        assert called.err == (
            "flowstore: small/runs.jsonl: cannot be written: No space left on device\n"
        )
        assert left("small") == []
    assert Called(capfd, "export", "--all", "-o", "runs.jsonl").code == 0


def test_a_full_disk_takes_nothing_of_an_import(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    assert Called(capfd, "export", "--all", "-o", "runs.jsonl").code == 0
    runs = read_file(tmp_path / "runs.jsonl")
    with small_disk(tmp_path / "small", "400k") as folder:
        workflow = WorkflowManager(folder / "copy.db")
        asyncio.run(_send_first(workflow))
        ballast = fill(folder)
        called = Called(capfd, "import", "runs.jsonl", "--store", "small/copy.db")
        assert called.code == 1
        assert called.err.startswith("flowstore: small/copy.db: ")
        assert called.err.count("\n") == 1
        ballast.unlink()
        names = [archive["run"].correlation_id for archive in all_of(folder / "copy.db")]
        assert names == ["first"]
    assert len(runs) == len(EVERYTHING)


async def _send_first(workflow: WorkflowManager) -> None:
    await workflow.send(WorkflowEvent("go", []), correlation_id="first")
    await workflow.close()


def test_whoever_has_seen_enough_closes_the_pipe():
    command = f"{sys.executable} -m flowstore.cli export --all | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# --- what is refused -----------------------------------------------------------------------------


def test_a_run_that_is_there_is_not_imported_again(
    store: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    assert Called(capfd, "export", "--all", "-o", "runs.jsonl").code == 0
    assert Called(capfd, "export", "done", "-o", "done.jsonl").code == 0
    assert Called(capfd, "import", "done.jsonl", "--store", "copy.db").code == 0
    before = all_of(tmp_path / "copy.db")
    called = Called(capfd, "import", "runs.jsonl", "--store", "copy.db")
    assert (called.code, called.out) == (1, "")
    assert "run 'done' is in the store already" in called.err
    assert all_of(tmp_path / "copy.db") == before
    called = Called(capfd, "import", "runs.jsonl", "--store", "copy.db", "--skip-existing")
    assert called.code == 0
    assert called.out.startswith("copy.db: 4 runs, ")
    assert "(left out, being there already: done)" in called.err
    assert len(all_of(tmp_path / "copy.db")) == len(all_of(store))


def test_a_file_that_was_changed_makes_no_database(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    assert Called(capfd, "export", "--all", "-o", "runs.jsonl").code == 0
    text = (tmp_path / "runs.jsonl").read_text()
    (tmp_path / "bad.jsonl").write_text(text.replace("large", "small"))
    for words, why in (
        (("bad.jsonl",), "bad.jsonl, line "),
        (("runs.jsonl", "--max-line-bytes", "10"), "runs.jsonl, line 1: is longer than 10 bytes"),
        (("runs.jsonl", "--max-bytes", "1000"), "is beyond 1000 bytes; see --max-bytes"),
        (("none.jsonl",), "none.jsonl: cannot be read: No such file or directory"),
        (("flowstore.db",), "flowstore.db, line 1: "),
        ((".",), ".: is not a file"),
    ):
        called = Called(capfd, "import", *words, "--store", "copy.db")
        assert (called.code, called.out) == (1, "")
        assert why in called.err
        assert called.err.startswith("flowstore: ")
        assert called.err.count("\n") == 1
    assert left() == ["bad.jsonl", "flowstore.db", "runs.jsonl"]


def test_text_of_a_file_steers_no_terminal(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text('{"line":"\\u001b[2J"}\n')
    called = Called(capfd, "import", "bad.jsonl")
    assert called.code == 1
    assert "\x1b" not in called.err


def test_a_terminal_is_not_steered(store: Path):
    async def send() -> None:
        workflow = WorkflowManager(store)
        await workflow.send(WorkflowEvent("odd", "\u009b2J \u202e"), correlation_id="odd")
        await workflow.close()

    asyncio.run(send())
    shown = show("export", "odd", columns=2000)
    assert '"data":"\\u009b2J \\u202e"' in shown
    assert "\u009b" not in shown
    assert "\u009b" in start("export", "odd").stdout  # in a pipe it is as it was


# --- values that are hidden -----------------------------------------------------------------------


def test_values_are_hidden(store: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    words = ("--redact", "metadata.user", "--redact", "data.nothing")
    called = Called(capfd, "export", "--all", "-o", "runs.jsonl", *words)
    assert called.code == 0
    assert called.err == "(--redact data.nothing: nothing is there in any of these runs)\n"
    text = (tmp_path / "runs.jsonl").read_bytes()
    assert b"ann@example.org" not in text
    assert json.loads(text.splitlines()[0])["redacted"] == ["metadata.user", "data.nothing"]
    assert Called(capfd, "import", "runs.jsonl", "--store", "copy.db").code == 0
    assert Called(capfd, "verify", "--store", "copy.db").code == 0
    assert len(all_of(tmp_path / "copy.db")) == len(all_of(store))


# --- looking -----------------------------------------------------------------------------------


def test_export_changes_nothing_in_its_database(store: Path, capfd: pytest.CaptureFixture[str]):
    """G12."""
    before = store.read_bytes()
    assert Called(capfd, "export", "--all", "-o", "runs.jsonl", "--redact", "data.x").code == 0
    assert store.read_bytes() == before
    assert left() == ["flowstore.db", "runs.jsonl"]
    called = Called(capfd, "export", "--all", "--store", "none.db")
    assert (called.code, called.out) == (1, "")
    assert called.err.startswith("flowstore: none.db: there is no database")


async def test_export_reads_beside_a_worker(tmp_path: Path):
    workflow = WorkflowManager(tmp_path / "served.db")
    begun, enough = asyncio.Event(), asyncio.Event()

    @workflow.on("go")
    async def go(_event: WorkflowEvent) -> None:
        begun.set()
        await enough.wait()

    async with workflow:
        await workflow.send(WorkflowEvent("go", {"n": 1}), correlation_id="busy")
        await begun.wait()
        words = ("export", "busy", "--store", "served.db", "-o", "busy.jsonl")
        done = await asyncio.to_thread(start, *words)
        enough.set()
        status = (await workflow.run("busy").wait(timeout=30)).status
    await workflow.close()
    assert (done.returncode, done.stderr) == (0, "")
    (archive,) = read_file(tmp_path / "busy.jsonl")
    assert (archive.run.status, archive.run.cursor, archive.run.head) == ("running", 0, 1)
    assert status == "idle"


async def test_who_serves_the_workflow_goes_on_with_an_imported_run(tmp_path: Path):
    """Also if it is at work while the run comes in; finished steps are not run again (G3)."""
    paid: list[str] = []

    def made(name: str) -> WorkflowManager:
        workflow = WorkflowManager(tmp_path / name)

        @workflow.on("order")
        async def order(event: WorkflowEvent, ctx: Context) -> None:
            ctx.state["paid"] = await ctx.step("pay", pay, event.data)
            ctx.state["by"] = (await ctx.wait_for("approved")).data

        return workflow

    async def pay(what: str) -> str:
        paid.append(what)
        return f"{what} is paid"

    first = made("first.db")
    async with first:
        await first.send(WorkflowEvent("order", "tea"), correlation_id="tea")
        await first.run("tea").wait(timeout=30)
    await first.send(WorkflowEvent("approved", "alex"), correlation_id="tea")
    await first.close()
    assert paid == ["tea"]
    done = await asyncio.to_thread(start, "export", "tea", "--store", "first.db", "-o", "tea.jsonl")
    assert done.returncode == 0
    second = made("second.db")
    async with second:
        await second.send(WorkflowEvent("order", "milk"), correlation_id="milk")
        words = ("import", "tea.jsonl", "--store", "second.db")
        done = await asyncio.to_thread(start, *words)
        assert "(running or waiting: tea; whoever serves workflow" in done.stderr
        assert (await second.run("tea").wait(timeout=30)).status == "idle"
        assert await second.run("tea").state() == {"paid": "tea is paid", "by": "alex"}
    await second.close()
    assert paid == ["tea", "milk"]
