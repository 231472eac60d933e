"""The command ``replay``: exit codes, the debugger, and how programs are found."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called, start

from flowstore import WorkflowEvent
from flowstore.cli.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = '''
import asyncio
from flowstore import Retry, WorkflowEvent, WorkflowManager

def build(store="runs.db"):
    workflow = WorkflowManager(store)

    @workflow.on("add")
    async def add(event, ctx):
        """Add a number."""
        total = ctx.state.get("total", 0) + event.data
        ctx.state["total"] = total
        yield WorkflowEvent("divide", total)
        ctx.state["asked"] = await ctx.step("ask", str, total)

    @workflow.on("divide", name="share")
    def divide(event, ctx):
        rest = event.data - 3
        ctx.state["share"] = 12 // rest

    @workflow.on("plain", timeout=5)
    async def plain(event, ctx):
        found = event.data
        ctx.state["plain"] = found

    @workflow.on("error")
    async def note(event, ctx):
        ctx.state["noted"] = True

    return workflow

def needy(store):
    return build(store)

async def late():
    return build()

workflow = build()
nothing = None
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program, copies that are not the same, and a run that the first one has made."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "shop.py").write_text(PROGRAM)
    (folder / "changed.py").write_text(PROGRAM.replace("+ event.data", "+ 2 * event.data"))
    (folder / "more.py").write_text(PROGRAM.replace('"ask", str', '"ask more", str'))
    (folder / "broken.py").write_text("import json\n1 / 0\n")
    (folder / "lacking.py").write_text("import no_such_thing\n")
    (folder / "cut.py").write_text("def cut(:\n")
    (folder / "ending.py").write_text("from sys import exit\nexit(0)\n")
    parts: dict[str, Any] = {}
    exec(PROGRAM.replace("runs.db", str(folder / "runs.db")), parts)  # noqa: S102 - ours

    async def handle() -> None:
        workflow = parts["workflow"]
        for name, data in (("add", 1), ("add", 2), ("plain", "x")):
            async for _ in workflow.process(WorkflowEvent(name, data), correlation_id="order-7"):
                pass
        await workflow.close()

    asyncio.run(handle())
    return folder


@pytest.fixture(autouse=True)
def _place(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True)


def replay(capfd: pytest.CaptureFixture[str], app: str, *words: str) -> Called:
    return Called(capfd, "replay", "order-7", "--store", "runs.db", "--app", app, *words)


# --- what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["shop:workflow", "shop:build", "shop.py:workflow"])
def test_an_identical_run(app, capfd):
    called = replay(capfd, app)
    assert (called.code, called.err) == (0, "")
    assert called.out == "order-7: identical, 6 events handled again up to position 6\n"
    called = replay(capfd, app, "--to", "1")
    assert called.out == "order-7: identical, 1 event handled again up to position 1\n"


def test_the_program_can_be_named_by_the_environment(capfd, monkeypatch):
    monkeypatch.setenv("FLOWSTORE_APP", "shop:workflow")
    called = Called(capfd, "replay", "order-7", "--store", "runs.db")
    assert (called.code, called.err) == (0, "")


def test_a_run_that_diverges(capfd):
    called = replay(capfd, "changed:workflow")
    assert (called.code, called.err) == (1, "")
    assert called.out == (
        "order-7: diverged (emitted) at position 1, 'add': handler 'add' emits something "
        "else: emitted.divide.data was 1 and is 2\n"
    )
    assert replay(capfd, "changed:workflow", "--to", "0").code == 0


def test_as_json(capfd):
    assert replay(capfd, "shop:workflow", "--json").json["identical"] is True
    called = replay(capfd, "changed:workflow", "--json")
    assert called.code == 1
    assert '"kind": "emitted"' in called.out


def test_live_and_ignore(capfd):
    called = replay(capfd, "more:workflow")
    assert called.code == 1
    assert "diverged (step)" in called.out
    assert "--live 'ask more'" in called.out
    assert replay(capfd, "more:workflow", "--live", "ask more").code == 0
    words = ("--ignore", "emitted.divide", "--ignore", "state.total", "--ignore", "state.asked")
    called = replay(capfd, "changed:workflow", *words)
    assert called.code == 0


def test_the_store_stays_as_it_was_and_no_other_is_made(tmp_path, capfd):
    def standing() -> tuple[bytes, list[str]]:
        # SQLite's own helpers come and go with whoever reads.
        names = {each.name for each in tmp_path.iterdir()}
        names -= {"__pycache__", "runs.db-wal", "runs.db-shm"}
        return (tmp_path / "runs.db").read_bytes(), sorted(names)

    (tmp_path / "shop.py").write_text(PROGRAM.replace("runs.db", "its own.db"))
    before = standing()
    assert replay(capfd, "shop:workflow").code == 0
    assert standing() == before


# --- what cannot be done ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        ("shop", "name a module and what is in it, such as shop.orders:workflow"),
        ("shop:nothing_such", "'shop' has no 'nothing_such'; it has 'workflow'"),
        ("shop:nothing", "is an object of type NoneType"),
        ("shop:needy", "cannot be called without arguments (missing a required argument: 'store')"),
        ("shop:late", "is a coroutine function"),
        ("no_shop:workflow", "there is no module 'no_shop'"),
        ("no_shop.py:workflow", "there is no file 'no_shop.py'"),
        ("broken:workflow", "'broken' failed: ZeroDivisionError: division by zero ("),
        ("lacking:workflow", "'lacking' failed: ModuleNotFoundError: No module named"),
        ("cut:workflow", "'cut' failed: SyntaxError: invalid syntax (cut.py, line 1)\n"),
        ("ending:workflow", "'ending' ends the process when it is loaded (sys.exit(0)); put"),
    ],
)
def test_a_program_that_is_not_there(app, problem, capfd):
    called = replay(capfd, app)
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("flowstore: Invalid value for --app: ")
    assert problem in called.err
    assert called.err.count("\n") == 1


def test_what_the_program_prints_is_no_part_of_the_json(capfd, tmp_path):
    told = PROGRAM.replace("found = event.data", 'found = event.data; print("handling")')
    (tmp_path / "main.py").write_text(f'print("loading"){told}')
    called = replay(capfd, "main:workflow", "--json")
    assert json.loads(called.out)["identical"]
    assert called.err == "loading\nhandling\n"
    called = replay(capfd, "main:workflow")
    assert called.out.startswith("handling\norder-7: identical")
    assert called.err == "loading\n"


@pytest.mark.parametrize("caught", ["ZeroDivisionError", "BaseException"])
def test_a_program_that_runs_its_workflow_when_it_is_imported_is_kept_from_it(
    caught, capfd, tmp_path
):
    """G12: not even what it would do as a program is done by looking at a run."""
    started = f"""
async def main():
    try:
        async with workflow:
            await workflow.send(WorkflowEvent("add", 7), correlation_id="order-8")
    except {caught}:
        print("caught")

asyncio.run(main())
"""
    (tmp_path / "main.py").write_text(PROGRAM + started)
    before = Called(capfd, "runs", "--store", "runs.db").out
    called = replay(capfd, "main:workflow")
    assert called.code == 2
    assert "'main' uses the store runs.db when it is loaded; put what it does" in called.err
    assert '`if __name__ == "__main__":`' in called.err
    assert Called(capfd, "runs", "--store", "runs.db").out == before
    guarded = started.replace("asyncio.run", 'if __name__ == "__main__":\n    asyncio.run')
    (tmp_path / "main.py").write_text(PROGRAM + guarded)
    assert replay(capfd, "main:workflow").code == 0


def test_a_run_that_is_not_there(capfd):
    words = ("--store", "runs.db", "--app", "shop:workflow")
    called = Called(capfd, "replay", "order-8", *words)
    assert (called.code, called.out) == (1, "")
    assert "there is no run 'order-8'" in called.err
    called = Called(capfd, "replay", "order-7", "--store", "none.jsonl", "--app", "shop:workflow")
    assert called.code == 1
    assert "there is no such file" in called.err
    called = replay(capfd, "shop:workflow", "--json", "--pdb")
    assert called.code == 2


# --- the debugger ----------------------------------------------------------------------------


def debug_apart(commands: str, *words: str, app: str, store: str) -> list[str]:
    done = start("replay", "order-7", "--store", store, "--app", app, *words, input=commands)
    assert done.stderr == ""
    return done.stdout.replace("(Pdb) ", "").splitlines()


@pytest.fixture
def debug(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Called]:
    """Replay with commands for the debugger, in this process."""

    def call(commands: str, *words: str, app: str = "shop:workflow") -> Called:
        monkeypatch.setattr(sys, "stdin", io.StringIO(commands))
        called = replay(capfd, app, *words)
        called.lines = called.out.replace("(Pdb) ", "").splitlines()
        return called

    return call


def test_pdb_stops_in_the_handler_that_failed(debug):
    told = debug("p event.data, ctx.state['total'], ctx.attempt\nn\np rest\nc\n", "--pdb").lines
    assert told[0] == "position 4, 'divide': handler 'share', attempt 1, which was dead"
    assert told[1].endswith("shop.py(18)divide()")
    assert told[2] == "-> rest = event.data - 3"
    assert told[3] == "(3, 3, 1)"
    assert told[6] == "0"
    assert told[-1] == "order-7: identical, 4 events handled again up to position 4"


async def test_pdb_passes_other_handlers_of_the_event(tmp_path):
    watched = PROGRAM.replace("runs.db", "watched.db").replace(
        '@workflow.on("add")\n',
        '@workflow.on("*")\n    async def watch(event):\n        """See."""\n\n'
        '    @workflow.on("add")\n',
    )
    (tmp_path / "watched.py").write_text(watched)
    workflow = load("watched:build")
    async for _ in workflow.process(WorkflowEvent("add", 3), correlation_id="order-7"):
        pass
    await workflow.close()
    words = {"app": "watched:workflow", "store": "watched.db"}
    told = debug_apart("c\n", "--pdb", **words)
    assert told[0] == "position 2, 'divide': handler 'share', attempt 1, which was dead"
    told = debug_apart("c\nc\n", "--break", "2", **words)
    assert told[0] == "position 2, 'divide': handler 'watch', attempt 1, which was handled"


async def test_pdb_names_the_event_at_hand_and_the_one_that_a_handler_began_with(tmp_path):
    (tmp_path / "waiting.py").write_text(
        "from flowstore import WorkflowManager\n"
        'workflow = WorkflowManager("waiting.db")\n'
        "async def ship(event, ctx):\n"
        '    await ctx.wait_for("paid")\n'
        'workflow.register("priced", ship)\n'
    )
    workflow = load("waiting:workflow")
    for name in ("priced", "paid"):
        await workflow.send(WorkflowEvent(name), correlation_id="order-7")
        await workflow.resume()
    await workflow.close()
    words = {"app": "waiting:workflow", "store": "waiting.db"}
    told = debug_apart("c\n", "--break", "2", **words)
    assert told[0].startswith("position 2, 'paid': handler 'ship@1', which began at 1, 'priced', ")
    told = debug_apart("c\n", "--break", "1", **words)
    assert told[0] == "position 1, 'priced': handler 'ship', attempt 1, which was parked"


def test_pdb_stops_where_it_diverges_if_that_comes_first(debug):
    told = debug("n\np total\nc\n", "--pdb", app="changed:workflow").lines
    assert told[0] == "position 1, 'add': handler 'add', attempt 1, which was handled"
    assert told[2] == '-> total = ctx.state.get("total", 0) + 2 * event.data'
    assert told[5] == "2"
    assert "diverged (emitted)" in told[-1]


@pytest.mark.parametrize(
    ("position", "first", "then"),
    [
        ("1", '-> total = ctx.state.get("total", 0) + event.data', '-> ctx.state["total"] = total'),
        ("2", "-> rest = event.data - 3", '-> ctx.state["share"] = 12 // rest'),
        ("6", "-> found = event.data", '-> ctx.state["plain"] = found'),
    ],
)
def test_break_stops_in_each_kind_of_handler(position, first, then, debug):
    """An async generator, a plain function, a coroutine with a timeout."""
    told = debug("n\nc\n", "--break", position).lines
    assert told[2] == first
    assert told[4] == then
    assert "identical" in told[-1]


def test_stepping_leaves_out_what_is_not_the_users(debug):
    told = debug("n\n" * 5 + "c\n", "--break", "1").lines
    places = [line for line in told if line.startswith("> ")]
    assert len(places) >= 4
    assert all("shop.py" in line for line in places)


@pytest.mark.parametrize("commands", ["q\n", ""])
def test_quitting_the_debugger(commands, debug):
    called = debug(commands, "--break", "2")
    assert called.code == 1
    assert called.err == "(the debugger was left, so nothing was compared)\n"
    assert "Traceback" not in called.out


def test_nothing_to_stop_at(capfd):
    called = replay(capfd, "shop:workflow", "--pdb", "--to", "2")
    assert (called.code, called.err) == (0, "")
    assert called.out == "nothing failed and nothing diverges; name an event with --break N\n"
    called = replay(capfd, "shop:workflow", "--break", "7")
    assert (called.code, called.err) == (0, "(no handler was called at position 7)\n")


def test_the_debugger_in_a_terminal():
    ours, theirs = pty.openpty()
    words = ("replay", "order-7", "--store", "runs.db", "--app", "shop:workflow", "--pdb")
    with subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as program:
        os.close(theirs)
        shown = b""
        for expected, typed in ((b"(Pdb) ", b"p event.data * 100\n"), (b"300", b"c\n")):
            while expected not in shown:
                shown += os.read(ours, 65536)
            os.write(ours, typed)
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert program.returncode == 0
    assert b"identical" in shown


def test_what_is_typed_may_reach_outside(tmp_path, debug):
    told = debug("!open('made', 'w').close()\nc\n", "--break", "2").lines
    assert "identical" in told[-1]
    assert (tmp_path / "made").exists()


def test_a_handler_may_not(tmp_path, capfd):
    text = PROGRAM.replace("rest = event.data - 3", "open('made', 'w').close()\n        rest = 1")
    (tmp_path / "shop.py").write_text(textwrap.dedent(text))
    called = replay(capfd, "shop:workflow")
    assert called.code == 1
    assert "diverged (reach) at position 2: handler 'share' reached for the file made" in called.out
    assert "at shop.py:18 in divide" in called.out
    assert not (tmp_path / "made").exists()
    called = replay(capfd, "shop:workflow", "--no-guard")
    assert "(state)" in called.out
    assert (tmp_path / "made").exists()
