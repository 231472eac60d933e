"""The command ``grep``: searching events and errors of all runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called, show
from sample import SECOND, START, add_event, add_run, add_transition, writing

from flowstore.store import search

if TYPE_CHECKING:
    from pathlib import Path

    from flowstore.store.search import Stretch


pytestmark = pytest.mark.usefixtures("folder")


def places(capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    called = Called(capfd, "grep", *words, "--json")
    assert called.err == ""
    found: list[dict[str, Any]] = json.loads(called.out)
    assert called.code == int(not found)
    return [f"{each['correlation_id']}/{each['position']}" for each in found]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("letter",), ["mail/1"]),  # a name
        (("event-7",), ["order-1/7"]),  # an id
        (('"total":12.5',), ["order-1/1"]),  # data
        (("ada",), ["order-1/4"]),  # metadata
        (("no money",), ["order-1/5", "order-1/4"]),  # an event's error, and a handler's
        (("Traceback …",), ["order-1/4"]),
        (("two\nlines",), ["order-1/1"]),  # as data has it, it is an escape
        (("[red]€",), ["order-1/7"]),  # as it is: no pattern, no markup
        (("ORDER",), []),
        (("ORDER", "-i"), ["order-2/2", "order-2/1", "order-1/1"]),
        (("^l[a-z]+$", "--regex"), ["mail/1", "order-1/6"]),
        (("^L", "--regex", "-i"), ["mail/1", "order-1/6"]),
        (("%",), []),
        (("event_1",), []),
        (("",), [
            "mail/1", "order-2/2", "order-2/1", *(f"order-1/{n}" for n in range(7, 0, -1))
        ]),
        (("event", "--name", "order"), ["order-2/2", "order-2/1", "order-1/1"]),
        (("event", "--status", "completed"), ["mail/1"]),
        (("event", "--status", "running", "--limit", "9"), ["order-2/2", "order-2/1"]),
        (("event", "--status", "running,completed"), ["mail/1", "order-2/2", "order-2/1"]),
        (("event", "--handler", "audit"), ["order-1/1"]),
        (("no money", "--handler", "handle"), ["order-1/4"]),
        (("no money", "--handler", "audit"), []),
        (("pay", "--error"), []),
        (("money", "--error"), ["order-1/5", "order-1/4"]),
        (("event", "--run", "order-2"), ["order-2/2", "order-2/1"]),
        (("event", "--run", "order-1", "--since", "2023-11-14T22:13:26Z"),
         ["order-1/7", "order-1/6"]),
        (("event", "--until", "2023-11-14T22:13:22Z"),
         ["mail/1", "order-2/1", "order-1/1"]),
        (("event", "--since", "7d"), []),
    ],
)  # fmt: skip
def test_what_is_found(
    words: tuple[str, ...], expected: list[str], capfd: pytest.CaptureFixture[str]
):
    assert places(capfd, *words) == expected


@pytest.mark.usefixtures("filled")
def test_as_text_and_as_json(capfd: pytest.CaptureFixture[str]):
    assert Called(capfd, "grep", "no money").out == (
        "order-1  5 error  error: no money\n"
        "order-1  4 pay  error of handle at attempt 1: no money\n"
        "order-1  4 pay  error of handle at attempt 2: no money\n"
    )
    (found,) = Called(capfd, "grep", "ada", "--json").json
    assert found["matches"] == [
        {
            "field": "metadata",
            "text": '{"user":"ada"}',
            "handler": None,
            "attempt": None,
            "error_type": None,
        }
    ]
    nothing = Called(capfd, "grep", "nothing")
    assert (nothing.code, nothing.out, nothing.err) == (1, "", "(nothing found)\n")
    assert (Called(capfd, "grep", "nothing", "--json").out) == "[]\n"


@pytest.mark.usefixtures("filled")
def test_the_youngest_of_many(capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "grep", "event", "--limit", "2")
    assert called.out.count("\n") == 2
    assert called.err == "(the youngest 2 events; more with --limit)\n"


def test_what_is_around_a_match_in_long_data(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_run(connection, 9, "long", head=1, cursor=1)
        add_event(connection, 9, 1, "e", data=f'"{"x" * 5000}\x9bneedle{"y" * 5000}"')
    out = Called(capfd, "grep", "needle").out
    assert out == f"long  1 e  data: …{'x' * 39}\\x9bneedle{'y' * 40}…\n"
    assert "\x9b" not in Called(capfd, "grep", "needle", "--json").out
    assert "\x1b[1;31mneedle" in show("grep", "needle")


@pytest.mark.parametrize("options", [(), ("--run", "many")])
async def test_a_long_log_is_searched_a_stretch_at_a_time(
    options: tuple[str, ...],
    filled: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """G11: every event is looked at once, whatever lies between."""
    with writing(filled) as connection:
        add_run(connection, 9, "many", head=100, cursor=100)
        for position in range(1, 101):
            add_event(connection, 9, position, "e", created_at=START + position * SECOND)
            if position % 10 == 0:
                add_transition(connection, 9, position, position, outcome="retried", error="boom")
    monkeypatch.setattr(search, "STRETCH", 7)
    stretches: list[int] = []
    original = search.search_stretch

    async def counted(*arguments: Any) -> Stretch:
        stretch = await original(*arguments)
        stretches.append(len(stretch.candidates))
        return stretch

    monkeypatch.setattr("flowstore.cli.grep.search_stretch", counted)
    found = await asyncio.to_thread(places, capfd, "boom", "--limit", "99", *options)
    assert found == [f"many/{position}" for position in range(100, 0, -10)]
    assert sum(stretches) == 10
    assert len(stretches) in (15, 16)
    monkeypatch.setattr(search, "STRETCH", 60)
    monkeypatch.setattr(search, "MOST", 7)
    stretches.clear()
    found = await asyncio.to_thread(
        places, capfd, "[e]", "--regex", "--name", "e", "--limit", "100", *options
    )
    assert found == [f"many/{position}" for position in range(100, 0, -1)]
    assert max(stretches) == 7


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("(", "--regex"), 2, "no regular expression"),
        (("x", "--run", "nobody"), 1, "there is no run 'nobody'"),
        (("x", "--since", "yesterday"), 2, "--since"),
        (("x", "--until", "13:00"), 2, "--until"),
        ((), 2, "PATTERN"),
    ],
)
def test_mistakes(words: tuple[str, ...], code: int, says: str, capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "grep", *words)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert called.err.count("\n") == 1
