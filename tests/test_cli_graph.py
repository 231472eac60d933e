"""``flowstore graph``: as text, in a terminal, as Mermaid and as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called, start

from flowstore import Context, WorkflowEvent, WorkflowManager

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def test_text_in_a_pipe():
    done = start("graph", "--app", "checked:chatty")
    assert done.returncode == 0
    assert done.stdout == (
        "order from outside, or never\n"
        "└─ sell\n"
        "   ├─ charged\n"
        "   │  └─ audit\n"
        "   └─ thanked nobody listens\n"
    )
    assert done.stderr == ""
    assert start("graph", "--app", "graph_shop:build").stderr.startswith("(? stands for what only ")


def test_lines_lead_to_what_they_belong_to(capfd: pytest.CaptureFixture[str]):
    out = Called(capfd, "graph", "--app", "graph_shop:build").out
    assert "\n└─ Desk.sell\n   ├─ told nobody listens\n   ├─ priced\n   │  └─ price\n" in out
    assert "\n   │     ├─ task pack\n   │     │  ├─ task.completed of pack\n" in out
    ascii_only = start(
        "graph", "--app", "graph_shop:build", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert "\n`- Desk.sell\n   |- told nobody listens\n" in ascii_only.stdout
    assert "\\u" not in ascii_only.stdout


def test_a_terminal_gets_colours():
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "flowstore.cli", "graph", "--app", "graph_shop:build"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert program.wait() == 0
    assert "├─ " in shown.decode()
    assert "\x1b[1mtold\x1b[0m" in shown.decode()


def test_mermaid(capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "graph", "--app", "checked:same", "--mermaid")
    assert called.out == (
        "flowchart LR\n"
        '    e1(["order"])\n'
        "    outside((outside)) --> e1\n"
        '    e2(["charged"])\n'
        '    h1["sell"]:::unfed\n'
        "    e1 --> h1\n"
        "    h1 --> e2\n"
        '    h2["audit"]\n'
        "    e2 --> h2\n"
        "    classDef unheard stroke:#b00,stroke-dasharray:4\n"
        "    classDef unfed stroke:#b80,stroke-dasharray:4\n"
    )


async def test_json_with_what_runs_show(make: Callable[..., WorkflowManager], path: Path):
    workflow = make(path, name="shop")

    @workflow.on("order")
    async def sell(event: WorkflowEvent, ctx: Context) -> Any:
        del event
        approved = await ctx.wait_for("approved")
        return [WorkflowEvent("charged", approved.data)]

    await workflow.send(WorkflowEvent("order", 1), correlation_id="a")
    await workflow.resume()
    await workflow.send(WorkflowEvent("approved", 1), correlation_id="a")
    await workflow.resume()
    await workflow.close()
    done = await asyncio.to_thread(
        start, "graph", "--app", "checked:same", "--store", str(path), "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["workflow"] == "shop"
    assert found["complete"] is True
    assert found["handlers"][0] == {
        "name": "sell",
        "place": "checked.build.<locals>.sell",
        "listens": "order",
        "gets": [{"event": "order", "task": None}],
        "does": [
            {"how": "emits", "event": "charged", "task": None, "in_code": True, "recorded": 1},
        ],
        "fed": True,
        "recorded": 1,
    }
    assert found["events"][0] == {
        "event": "order",
        "task": None,
        "emitted_by": [],
        "listeners": ["sell"],
        "waited_for_by": [],
        "crons": [],
        "sent": 1,
        "unheard": False,
        "only_logged": False,
    }
    (approved,) = (each for each in found["events"] if each["event"] == "approved")
    assert (approved["sent"], approved["unheard"]) == (1, True)  # this code does not wait for it


def test_hostile_names_steer_no_terminal(tmp_path: Path):
    (tmp_path / "hostile.py").write_text(
        "from flowstore import WorkflowManager\n"
        "workflow = WorkflowManager(':memory:')\n"
        "workflow.register('[red]a', lambda event: None, name='\\x1b[31m\\n\"]]>')\n"
    )
    for option in ((), ("--mermaid",), ("--json",)):
        done = start("graph", "--app", "hostile:workflow", *option)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "red" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--app", "checked:same", "--store", "none.db"), 1, "there is no database"),
        (("--app", "checked"), 2, "such as shop.orders:workflow"),
        (("--app", "nothing:same"), 2, "there is no module 'nothing'"),
        ((), 2, "--app"),
    ],
)
def test_a_mistake_is_one_line(
    options: Sequence[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
):
    called = Called(capfd, "graph", *options)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert called.err.count("\n") == 1
