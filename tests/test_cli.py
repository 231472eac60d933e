"""The command line as a whole: help, the store, what people see, and mistakes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Called, show, start
from disks import read_only
from sample import add_event, add_run, fill, writing

pytestmark = pytest.mark.usefixtures("folder")


COMMANDS = (
    "runs",
    "show",
    "log",
    "state",
    "send",
    "complete",
    "drops",
    "history",
    "why",
    "trace",
    "grep",
    "tail",
    "verify",
    "prune",
    "doctor",
    "replay",
    "fork",
    "diff",
    "check",
    "graph",
    "export",
    "import",
)
GROUPS = {"db": ("upgrade", "current", "check"), "dead": ("list", "show", "retry", "discard")}


# --- help ----------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes():
    done = start("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in (*COMMANDS, *GROUPS):
        assert f"\n  {command} " in done.stdout
    assert "Exit codes: 0 " in done.stdout
    assert start().stdout == done.stdout


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "words",
    [
        *((name,) for name in COMMANDS),
        *((group, name) for group in GROUPS for name in GROUPS[group]),
    ],
)
def test_help_of_each_command_has_its_exit_codes_and_an_example_that_is_understood(
    words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
):
    called = Called(capfd, *words, "--help")
    assert called.code == 0
    assert f"Usage: flowstore {' '.join(words)} " in called.out
    assert "--store" in called.out
    assert "--json" in called.out
    assert re.search(r"(?i)\bexits with [012]", " ".join(called.out.split()))
    assert f"Example: flowstore {' '.join(words)}" in called.out


@pytest.mark.usefixtures("filled")
def test_dead_without_a_command_lists(capfd: pytest.CaptureFixture[str]):
    for words in ((), ("order-1",), ("--json", "order-1"), ("--limit", "1")):
        short, full = Called(capfd, "dead", *words), Called(capfd, "dead", "list", *words)
        assert short.code == 0
        assert (short.out, short.err) == (full.out, full.err)
    assert "\n  list " in Called(capfd, "dead", "--help").out
    assert "'list'" in Called(capfd, "dead", "list", "list").err  # a run of this name


def test_help_imports_no_alembic_and_no_rich():
    program = (
        "import sys; from flowstore.cli import main; main(['--help']); "
        "sys.exit(str({'alembic', 'rich'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("words", [("runs",), ("history", "order-1"), ("trace", "order-1")])
def test_a_pipe_pays_for_no_rich(words: tuple[str, ...]):
    program = (
        f"import sys; from flowstore.cli import main; code = main({words!r}); "
        "sys.exit(code or ('rich' in sys.modules and 'rich was imported') or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_version(capfd: pytest.CaptureFixture[str]):
    assert re.fullmatch(r"flowstore \d+\.\d+\.\d+\n", Called(capfd, "--version").out)


# --- text for people -------------------------------------------------------------------


def test_text_in_a_pipe_is_aligned_and_plain(filled: Path):
    """Data cannot steer a terminal, not even through a pipe to one."""
    with writing(filled) as connection:
        add_run(connection, 9, "幅の広い\x1b[31m")
        add_run(connection, 10, "two\nlines\ttab")
    out = start("log", "order-1").stdout + start("runs").stdout
    assert "\x1b" not in out
    assert "\t" not in out
    assert "[red]€\\x1b[31m" in out
    assert "two\\nlines\\ttab" in out
    header, _, wide, *_ = start("runs").stdout.splitlines()
    # Each of the four wide letters takes two columns.
    assert header.index("workflow") == wide.index("orders") + 4


def test_a_terminal_gets_a_table(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "[bold]no markup[/bold]")
    shown = show("runs")
    assert "[bold]no markup[/bold]" in shown
    assert "─" in shown
    assert "\x1b[" in shown


@pytest.mark.usefixtures("filled")
def test_a_terminal_without_colours_or_with_few_columns():
    assert re.search(r"\x1b\[[\d;]*3\dm", show("runs"))
    assert not re.search(r"\x1b\[[\d;]*3\dm", show("runs", NO_COLOR="1"))
    assert "\x1b" not in show("runs", TERM="dumb")
    lines = re.sub(r"\x1b\[[\d;]*m", "", show("runs", columns=40)).splitlines()
    assert max(map(len, lines)) <= 40


def test_a_narrow_terminal_gets_what_can_be_read(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "a run whose name is long")

    def lines(columns: int) -> list[str]:
        shown = re.sub(r"\x1b\[[\d;]*m", "", show("runs", columns=columns)).splitlines()
        assert max(map(len, shown)) <= columns
        return shown

    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    table = "\n".join(lines(200))
    assert re.search(rf"completed .* {time}\.\d{{6}}Z", table)
    table = "\n".join(lines(80))
    assert re.search(rf"completed .* {time}Z", table)
    assert "\nupdated_at" not in table
    told = lines(50)
    assert "status          completed" in told
    assert any(re.fullmatch(rf"updated_at      {time}\.\d{{6}}Z", line) for line in told)
    # A paragraph for each run.
    assert told.count("") == len(start("runs").stdout.splitlines()) - 2


def test_data_cannot_steer_a_terminal(filled: Path):
    name = "\x1b[2Jfor\x9bged\x07\u202e[red]"
    with writing(filled) as connection:
        add_run(connection, 9, name, status="failed", reason=name)
    own = re.compile(r"\x1b\[[\d;]*m")
    for words in (("runs",), ("show", name), ("runs", "--json"), ("show", name, "--json")):
        shown = own.sub("", show(*words))
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
        assert "[red]" in shown


def test_output_that_is_not_utf_8(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "größe €")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert r"gr\xf6\xdfe \u20ac" in start("runs", env=environment).stdout
    runs = json.loads(start("runs", "--json", env=environment).stdout)
    assert runs[0]["correlation_id"] == "größe €"


def test_a_reader_that_leaves_early_ends_it_silently(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "long", head=3000, cursor=3000)
        for position in range(1, 3001):
            add_event(connection, 9, position, "step", data='"' + "x" * 100 + '"')
    for options in ((), ("--json",)):
        with subprocess.Popen(
            [sys.executable, "-m", "flowstore.cli", "log", "long", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as program:
            assert program.stdout is not None
            assert program.stderr is not None
            program.stdout.readline()
            program.stdout.close()
            assert program.stderr.read() == b""
        assert program.returncode == 0


@pytest.mark.usefixtures("filled")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_output_that_cannot_be_written():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flowstore.cli", "runs"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "flowstore: No space left on device\n"


# --- the store -------------------------------------------------------------------------


def test_the_store_is_an_option_a_variable_or_the_default(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("flowstore", "variable", "option"):
        with writing(tmp_path / f"{name}.db") as connection:
            add_run(connection, 1, name)

    def seen(*options: str) -> str:
        return Called(capfd, "runs", "--json", *options).json[0]["correlation_id"]

    assert seen() == "flowstore"
    monkeypatch.setenv("FLOWSTORE_URL", "sqlite:///variable.db")
    assert seen() == "variable"
    assert seen("--store", "option.db") == "option"
    assert seen("--store", f"sqlite:///{tmp_path}/option.db?busy_timeout=1") == "option"


LOOKING = (
    ("runs",),
    ("show", "order-1"),
    ("log", "order-1"),
    ("state", "order-1"),
    ("history", "order-1"),
    ("why", "event-4"),
    ("trace", "order-1"),
    ("grep", "pay"),
    ("tail", "--once"),
    ("drops",),
    ("dead",),
    ("export", "order-1"),
    ("export", "--all"),
    ("db", "current"),
    ("db", "check"),
)


@pytest.mark.parametrize("words", LOOKING)
def test_looking_creates_no_database(
    words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    called = Called(capfd, *words, "--store", "none.db")
    assert called.code == 1
    assert called.out == ""
    assert called.err.startswith("flowstore: none.db: there is no database")
    assert called.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", LOOKING)
def test_looking_changes_nothing(
    words: tuple[str, ...], filled: Path, capfd: pytest.CaptureFixture[str]
):
    """G12, also while someone writes."""
    with writing(filled) as connection:
        add_run(connection, 9, "not committed yet")
        before = _standing(filled)
        called = Called(capfd, *words)
        assert (called.code, called.err) == (0, "")
        assert "not committed yet" not in called.out
        assert _standing(filled) == before


def test_looking_works_in_a_read_only_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = tmp_path / "archive"
    folder.mkdir()
    fill(folder / "flowstore.db")
    with read_only(folder):
        for words in LOOKING:
            called = Called(capfd, *words, "--store", str(folder / "flowstore.db"))
            assert (words, called.code, called.err) == (words, 0, "")
            assert called.out


def _standing(path: Path) -> list[tuple[int, int]]:
    """Size and time of the files: reading them would drop the locks that SQLite holds here."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]


# --- mistakes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("show", "nobody"), 1, "there is no run 'nobody'"),
        (("log", "nobody"), 1, "there is no run 'nobody'"),
        (("state", "nobody"), 1, "there is no run 'nobody'"),
        (("history", "nobody"), 1, "there is no run 'nobody'"),
        (("history", "order-1", "--until", "-1"), 2, "--until"),
        (("trace", "nobody"), 1, "there is no run 'nobody'"),
        (("tail", "nobody", "--once"), 1, "there is no run 'nobody'"),
        (("why", "nothing\n\x1b[31m"), 1, r"'nothing\n\x1b[31m'"),
        (("drops", "nobody"), 1, "there is no run 'nobody'"),
        (("dead", "nobody"), 1, "there is no run 'nobody'"),
        (("show", "nobody\n\x1b[31m"), 1, r"'nobody\n\x1b[31m'"),
        (("state", "order-1", "--at", "8"), 1, "ends at position 7"),
        (("runs", "--store", "postgresql://ada:geheim@host/db"), 1, "PostgreSQL is not available"),
        (("runs", "--store", "mysql://host/db"), 1, "'mysql' is not a kind of store"),
        (("runs", "--store", "no/such/folder.db"), 1, "there is no folder 'no/such'"),
        (("runs", "--store", "."), 1, "is a folder"),
        (("runs", "--store", ":memory:"), 1, "name a file"),
        (("runs", "--store", "letter.txt"), 1, "is not a database"),
        (("runs", "--store", "runs.jsonl"), 1, "flowstore import runs.jsonl"),
        (("db", "current", "--store", "letter.txt"), 1, "is not a database"),
        (("db", "upgrade", "--store", "letter.txt"), 1, "letter.txt"),
        (("runs", "--store", "other.db"), 1, "not a flowstore database"),
        (("db", "current", "--store", "other.db"), 1, "not a flowstore database"),
        (("send", "order-1", "paid", "{a: 1}"), 2, "line 1, column 2"),
        (("send", "order-1", "paid", ""), 2, "line 1, column 1"),
        (("send", "order-1", "paid", "[1,\n2,]"), 2, "line 2, column"),
        (("send", "order-1", "paid", "[NaN]"), 2, "NaN"),
        (("send", "order-1", "paid", '{"a": 1, "a": 2}'), 2, "'a' comes twice"),
        (("send", "order-1", "paid", "[" * 100_000), 2, "nested too deeply"),
        (("send", "order-1", "paid", "1" * 5000), 2, "JSON"),
        (("send", "order-1", "paid", "[1e999]"), 1, "data[0]"),
        (("send", "order-1", "paid", "{}", "--workflow", "mail"), 1, "of workflow 'orders'"),
        (("send", "order-1", "paid", "{}", "--store", ":memory:"), 1, "name a file"),
        (("runs", "--status", "asleep"), 2, "'--status': 'asleep' is not one of running, "),
        (("fork", "nobody", "--at", "1"), 1, "no run 'nobody'; `flowstore runs` lists"),
        (("runs", "--limit", "0"), 2, "--limit"),
        (("runs", "--limit", "many"), 2, "--limit"),
        (("runs", "--limit", "9" * 30), 2, "a number is too large"),
        (("log", "order-1", "--after", "-1"), 2, "--after"),
        (("log", "order-1", "--after", "9" * 30), 2, "a number is too large"),
        (("history", "order-1", "--until", "9" * 30), 2, "a number is too large"),
        (("dead", "show", "order-1", "9" * 30), 2, "a number is too large"),
        (("runs", "--bogus"), 2, "--bogus"),
        (("bogus",), 2, "bogus"),
        (("show",), 2, "RUN"),
        (("db",), 2, "Missing command"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    words: tuple[str, ...], code: int, says: str, filled: Path, capfd: pytest.CaptureFixture[str]
):
    for name in ("letter.txt", "runs.jsonl"):
        filled.with_name(name).write_text("Dear flowstore, " * 300)
    with contextlib.closing(sqlite3.connect(filled.with_name("other.db"))) as connection:
        connection.execute("CREATE TABLE other (id)")
    called = Called(capfd, *words)
    assert called.code == code
    assert called.out == ""
    assert called.err.startswith("flowstore: ")
    assert says in called.err
    assert called.err.count("\n") == 1
    assert "geheim" not in called.err


@pytest.mark.usefixtures("filled")
def test_a_mistake_has_no_traceback_in_the_program():
    done = start("show", "nobody")
    assert done.returncode == 1
    assert done.stderr == (
        "flowstore: flowstore.db: there is no run 'nobody'; `flowstore runs` lists them\n"
    )
