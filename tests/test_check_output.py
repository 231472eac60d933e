"""``flowstore check``: JUnit XML, terminals, and mistakes."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import checked
import pytest
from command_line import Called, start

from flowstore import WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

from test_check import begin, check


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path, monkeypatch)


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """Three runs of the shop."""
    path = tmp_path / "flowstore.db"
    await checked.record(path)
    return path


# --- JUnit -----------------------------------------------------------------------------

# What junit-10.xsd, which Jenkins publishes, allows.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
    "testsuite": {
        "name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp",
        "hostname", "id", "package",
    },
    "testcase": {"name", "assertions", "time", "classname", "status"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "system-out": set(),
}  # fmt: skip
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["testcase"],
    "testcase": ["error", "failure", "system-out"],
}


def assert_valid(element: ET.Element) -> None:
    assert set(element.attrib) <= ATTRIBUTES[element.tag]
    order = [CHILDREN.get(element.tag, []).index(child.tag) for child in element]
    assert order == sorted(order)
    for child in element:
        assert_valid(child)


def test_junit_has_a_test_case_for_each_run(store: Path, capfd: pytest.CaptureFixture[str]):
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE transition SET change = '[[]' WHERE run_id = 2")
        connection.execute(
            "UPDATE run SET correlation_id = ? WHERE id = 3", ("<&\"'\x1b[31m\x00]]>é\ufffe",)
        )
        connection.commit()
    assert check(capfd, "stamped", "--junit", "junit.xml").code == 1
    root = ET.fromstring(Path("junit.xml").read_bytes())  # noqa: S314 - it is ours
    assert_valid(root)
    (suite,) = root
    assert suite.get("name") == "shop"
    assert suite.get("tests") == "3"
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == ["<&\"'\\x1b[31m\\x00]]>é\\ufffe", "order-2", "order-1"]
    (failure,) = cases["order-1"]
    assert failure.get("type") == "state"
    assert failure.text is not None
    assert "state.stamp" in failure.text
    assert 'recorded: "then"' in failure.text
    assert int(suite.get("failures", "")) + int(suite.get("errors", "")) == 3


@pytest.mark.usefixtures("store")
def test_junit_goes_into_a_pipe_or_through_a_link_and_leaves_both(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """As root, renaming a file to /dev/stdout would take it from the machine."""
    pipe, link = tmp_path / "pipe", tmp_path / "link.xml"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "linked.xml")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert check(capfd, "stamped", "--junit", str(pipe)).code == 1
        root = ET.fromstring(os.read(reader, 1_000_000))  # noqa: S314 - it is ours
    finally:
        os.close(reader)
    assert_valid(root)
    assert pipe.is_fifo()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert check(capfd, "stamped", "--junit", str(link)).code == 1
    assert link.is_symlink()
    assert_valid(ET.fromstring((tmp_path / "linked.xml").read_bytes()))  # noqa: S314 - it is ours
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "linked.xml"])


@pytest.mark.usefixtures("store")
def test_junit_tells_what_is_accepted(capfd: pytest.CaptureFixture[str]):
    check(capfd, "stamped", "--update", "accepted.toml", "--reason", "<time> & again")
    called = check(capfd, "stamped", "--accept", "accepted.toml", "--junit", "junit.xml")
    assert called.code == 0
    root = ET.fromstring(Path("junit.xml").read_bytes())  # noqa: S314 - it is ours
    assert_valid(root)
    assert root.get("failures") == "0"
    out = root.find("testsuite/testcase/system-out")
    assert out is not None
    assert str(out.text).startswith("accepted (<time> & again): position 1")


# --- in a terminal ---------------------------------------------------------------------


async def test_hostile_names_steer_no_terminal(make: Callable[..., WorkflowManager], path: Path):
    name = "\x1b[31mred\n"
    workflow = make(path, name="shop").register("order", lambda _event: None, name=name)
    await workflow.send(WorkflowEvent("order", 1), correlation_id=f"order {name}")
    await workflow.resume()
    await workflow.close()
    done = start("check", "--app", "checked:same", "--store", str(path))
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "order \\x1b[31mred\\n" in done.stdout


async def test_a_progress_bar_and_ctrl_c_in_the_middle(tmp_path: Path):
    """The third run never ends; what has been found until then is told."""
    await checked.record(tmp_path / "flowstore.db", (7, 2, 1))
    ours, theirs = pty.openpty()
    program = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [sys.executable, "-m", "flowstore.cli", "check", "--app", "checked:hanging"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    while b"2/3" not in shown:
        shown += os.read(ours, 65536)
    program.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    out, _ = program.communicate(timeout=60)
    assert program.returncode == 130
    assert out == b""
    assert "(interrupted after 2 of 3 runs: 0 diverge)" in shown.decode()
    assert "Traceback" not in shown.decode()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["check", "--app", "checked:dearer"], 1),
        (["check", "--app", "checked:same"], 0),
        (["replay", "order-1", "--app", "checked:dearer"], 1),
        (["diff", "order-1", "order-2", "--json"], 1),
        (["verify"], 1),
        (["doctor"], 1),
        (["db", "check"], 1),
        (["runs"], 0),
    ],
)
def test_what_was_found_is_told_also_to_who_reads_none_of_it(
    store: Path, command: Sequence[str], code: int
):
    """As with `set -o pipefail` and `| head`: what is not read is found nevertheless."""
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as connection:
        if command[0] in {"verify", "db"}:
            connection.execute("UPDATE event SET data = '0' WHERE position = 2")
            connection.execute("DROP INDEX ix_drop_run_id")
        if command == ["doctor"]:
            connection.execute("UPDATE transition SET outcome = 'dead' WHERE number = 1")
    theirs, ours = os.pipe()
    os.close(theirs)
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", *command],
        stdout=ours, stderr=subprocess.PIPE, check=False, timeout=60, text=True,
    )  # fmt: skip
    os.close(ours)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


# --- mistakes --------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--store", "none.db"), 1, "there is no database"),
        (("--store", "none.jsonl"), 1, "there is no such file"),
        (("--workflow", "mail"), 1, "there are runs of 'shop'"),
        (("order-9",), 1, "there is no run 'order-9'"),
        (("--accept", "none.toml"), 1, "none.toml: No such file"),
        (("--accept", "bad.toml"), 1, "bad.toml: is not TOML"),
        (("--update", "bad.toml", "--reason", "x"), 1, "bad.toml: is not TOML"),
        (("--update", "new.toml"), 2, "--reason"),
        (("--reason", "x"), 2, "--update"),
        (("--update", "new.toml", "--reason", " "), 2, "--reason"),
        (("--junit", "none/junit.xml"), 2, "there is no folder 'none'"),
        (("--junit", "."), 2, "'.' is a folder"),
        (("--since", "yesterday"), 2, "--since"),
        (("--status", "asleep"), 2, "'asleep' is not one of running, waiting"),
        (("--limit", "0"), 2, "--limit"),
    ],
)
def test_a_mistake_is_one_line(
    options: Sequence[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
):
    Path("bad.toml").write_text("[[accepted")
    called = check(capfd, "same", *options)
    assert (called.code, called.out) == (code, "")
    assert called.err.startswith("flowstore: ")
    assert says in called.err
    assert called.err.count("\n") == 1
    assert not Path("new.toml").exists()


def test_an_app_that_is_not_there(capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "check", "--app", "checked:nothing")
    assert (called.code, called.out) == (2, "")
    assert "'checked' has no 'nothing'" in called.err
