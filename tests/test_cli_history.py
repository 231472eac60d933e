"""The commands ``history`` and ``trace``: what the handlers did, and what came of what."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest
from command_line import Called, show
from sample import START, add_event, add_run, add_transition, writing
from sqlalchemy import insert
from stories import waited

from flowstore.store import schema

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("folder")


# --- history ---------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_history_as_text(capfd: pytest.CaptureFixture[str]):
    out = Called(capfd, "history", "order-1").out
    assert out == (
        "1 order  handled by handle  2023-11-14T22:13:21.000000Z  0.25 ms\n"
        "    state.total: (nothing) -> 12.5\n"
        "1 order  handled by audit  2023-11-14T22:13:22.000000Z  0.25 ms\n"
        "    state.seen: (nothing) -> true\n"
        "    emitted 2 progress\n"
        "4 pay  retried by handle  2023-11-14T22:13:23.000000Z  0.25 ms\n"
        "    error: no money\n"
        "4 pay  dead by handle at attempt 2  2023-11-14T22:13:24.000000Z  0.25 ms\n"
        "    error: no money\n"
    )


@pytest.mark.usefixtures("filled")
def test_part_of_a_history(capfd: pytest.CaptureFixture[str]):
    def numbers(*options: str) -> list[int]:
        found = Called(capfd, "history", "order-1", "--json", *options).json
        return [each["number"] for each in found]

    assert numbers() == [1, 2, 3, 4]
    assert numbers("--after", "1") == [3, 4]
    assert numbers("--until", "3") == [1, 2]
    assert numbers("--handler", "audit") == [2]
    assert numbers("--after", "4") == []
    assert "(no transitions)" in Called(capfd, "history", "order-1", "--after", "4").err


def test_what_a_handler_did_as_text_and_as_json(filled: Path, capfd: pytest.CaptureFixture[str]):
    asyncio.run(waited(filled))
    out = Called(capfd, "history", "story").out
    assert "1 draft  parked by publish  " in out
    assert '\n    step mail: "sent"  ' in out
    assert "\n    set timer reminder: remind, due 2" in out
    assert '\n    waits for approved where by is "alex", until 2' in out
    assert "3 approved  handled by publish, which began at 1  " in out
    assert '\n    state.text: … + " by alex"\n' in out
    assert "\n    emitted 4 published\n" in out
    assert "\n    goes on at 1 with publish\n" in out
    first, second = Called(capfd, "history", "story", "--json").json
    assert first["steps"][0]["name"] == "mail"
    assert first["arranged"]["timers"][0]["key"] == "reminder"
    assert first["arranged"]["timers"][0]["due_at"].endswith("Z")
    (wait,) = first["arranged"]["waits"]
    assert (wait["name"], wait["where"]) == ("approved", {"by": "alex"})
    assert (second["origin"], second["handler"], second["event"]["id"]) == (1, "publish", "alex")
    assert second["differences"] == [
        {"path": "state.text", "expected": "a" * 50, "actual": "a" * 50 + " by alex"}
    ]
    assert second["emitted"][0]["name"] == "published"


def test_an_attempt_that_was_cut_off_leaves_its_steps(
    filled: Path, capfd: pytest.CaptureFixture[str]
):

    with writing(filled) as connection:
        step = {"run_id": 2, "position": 1, "handler": "handle", "name": "charge", "number": 1,
                "result": "12.5", "started_at": START - 5, "duration": 3}  # fmt: skip
        connection.execute(insert(schema.step).values(step))
    out = Called(capfd, "history", "order-2").out
    assert "an earlier attempt was cut off" in out
    assert "cut off" not in Called(capfd, "history", "order-1").out


# --- trace -----------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_trace_as_a_tree(capfd: pytest.CaptureFixture[str]):
    assert Called(capfd, "trace", "order-1").out == (
        "1 order  handled by handle (0.25 ms), handled by audit (0.25 ms)\n"
        "└─ 2 progress\n"
        "3 unknown  unhandled\n"
        "4 pay  dead by handle at attempt 2 (0.25 ms)\n"
        "└─ 5 error  no money\n"
        "6 late  dropped\n"
        "7 odd  unhandled\n"
    )
    assert Called(capfd, "trace", "order-2").out.endswith("\n2 order  pending\n")


def test_trace_draws_branches(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_run(connection, 9, "tree", head=6, cursor=6)
        for position, cause in enumerate((None, 1, 2, 1, 4, 4), start=1):
            cause_id = None if cause is None else f"event-{cause}"
            add_event(connection, 9, position, "progress", causation_id=cause_id)
    assert Called(capfd, "trace", "tree").out == (
        "1 progress\n├─ 2 progress\n│  └─ 3 progress\n"
        "└─ 4 progress\n   ├─ 5 progress\n   └─ 6 progress\n"
    )
    nodes = Called(capfd, "trace", "tree", "--json").json
    assert [(each["position"], each["cause"], each["depth"]) for each in nodes] == [
        (1, None, 0), (2, 1, 1), (3, 2, 2), (4, 1, 1), (5, 4, 2), (6, 4, 2),
    ]  # fmt: skip


def test_trace_of_causes_that_go_round_in_a_circle(filled: Path, capfd: pytest.CaptureFixture[str]):
    """Somebody has changed the log: all events are told of all the same."""
    with writing(filled) as connection:
        add_run(connection, 9, "circle", head=6, cursor=6)
        for position, cause in enumerate((None, 4, 4, 5, 3, 6), start=1):
            cause_id = None if cause is None else f"event-{cause}"
            add_event(connection, 9, position, "progress", causation_id=cause_id)
    called = Called(capfd, "trace", "circle")
    assert called.code == 0
    assert called.out == (
        "1 progress\n"
        "4 progress  came of 5, which came of it\n"
        "├─ 2 progress\n"
        "└─ 3 progress\n"
        "   └─ 5 progress\n"
        "6 progress  came of 6, which came of it\n"
    )
    assert called.err == (
        "(at position 4, 6 causes go round in a circle: the log was changed; `flowstore verify` "
        "says where)\n"
    )
    nodes = Called(capfd, "trace", "circle", "--json").json
    assert [(each["position"], each["cause"]) for each in nodes if each["circular"]] == [
        (4, 5),
        (6, 6),
    ]
    drawn = Called(capfd, "trace", "circle", "--mermaid").out
    assert '    e5 --> e4["4 progress"]:::circular\n' in drawn
    assert drawn.count("-->") == 5
    verified = Called(capfd, "verify", "circle")
    assert (verified.code, "run 'circle', position" in verified.out) == (1, True)
    sound = Called(capfd, "trace", "order-1")
    assert (sound.err, "came of" in sound.out) == ("", False)


def test_trace_of_a_long_chain(filled: Path, capfd: pytest.CaptureFixture[str]):
    """G11: neither the stack nor the width of the lines grows with it."""
    count = 3000
    with writing(filled) as connection:
        add_run(connection, 9, "chain", head=count, cursor=count)
        for position in range(1, count + 1):
            cause_id = None if position == 1 else f"event-{position - 1}"
            add_event(connection, 9, position, "e", causation_id=cause_id)
            add_transition(connection, 9, position, position)
    lines = Called(capfd, "trace", "chain").out.splitlines()
    assert len(lines) == count
    assert lines[-1].endswith(f"(level {count - 1}) {count} e  handled by handle (0.25 ms)")
    assert max(map(len, lines)) < 150
    assert len(Called(capfd, "trace", "chain", "--json").json) == count


def test_trace_as_mermaid(filled: Path, capfd: pytest.CaptureFixture[str]):
    hostile = '"]; click e1 "javascript:alert(1)" <b>\n%%'
    with writing(filled) as connection:
        add_run(connection, 9, "mermaid", head=2, cursor=2)
        add_event(connection, 9, 1, hostile)
        add_event(connection, 9, 2, "paid", id="1/pay <b>/1", causation_id="event-1")
    out = Called(capfd, "trace", "mermaid", "--mermaid").out
    head, first, second, *classes = out.splitlines()
    assert head == "flowchart TD"
    assert first.startswith('    e1["1 #34;]#59; click e1 ')
    assert first.count('"') == 2
    assert second == '    e1 -->|"pay #60;b#62;"| e2["2 paid"]:::unhandled'
    assert all(line.startswith("    classDef ") for line in classes)
    dead = Called(capfd, "trace", "order-1", "--mermaid").out
    assert 'e4["4 pay"]:::dead' in dead


def test_a_terminal_gets_colours_and_no_more_columns_than_it_has(filled: Path):
    with writing(filled) as connection:
        add_run(connection, 9, "wide", head=1, cursor=1)
        add_event(connection, 9, 1, "[red]" + "n" * 200)
    assert re.search(r"\x1b\[31m\s*dead by handle", show("trace", "order-1"))
    assert re.search(r"\x1b\[31merror: no money", show("history", "order-1"))
    narrow = re.sub(r"\x1b\[[\d;]*m", "", show("trace", "wide", columns=40))
    assert narrow == "1 [red]" + "n" * 32 + "…\n"


@pytest.mark.parametrize("command", ["history", "trace"])
def test_there_is_no_such_run(command: str, filled: Path, capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, command, "nobody", "--store", str(filled))
    assert (called.code, called.out) == (1, "")
    assert "there is no run 'nobody'" in called.err
    assert json.loads(Called(capfd, command, "mail", "--json").out)
