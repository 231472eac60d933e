"""The command ``why``: what became of an event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Called
from sample import START, add_drop, add_event, add_run, add_transition, writing
from sqlalchemy import insert
from stories import waited

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.store import schema

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("folder")


def why(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    (found,) = Called(capfd, "why", *words, "--json").json
    return found


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "verdict", "because"),
    [
        (("event-1", "--run", "order-1"), "handled", "handled by handle, handled by audit"),
        (("event-2", "--run", "order-1"), "accepted", "progress events are shown"),
        (("event-3",), "unhandled", "nothing was registered for unknown"),
        (("event-4",), "dead", "handle failed for good at attempt 2: no money"),
        (("4", "--run", "order-1"), "dead", "handle failed for good"),
        (("event-6",), "expired", "expired"),
        (("event-2", "--run", "order-2"), "accepted", "it is pending; 0 events are before it"),
        (("another",), "stale", "it was refused and is not in the log: the run is completed"),
    ],
)
def test_the_verdict(
    words: tuple[str, ...], verdict: str, because: str, capfd: pytest.CaptureFixture[str]
):
    found = why(capfd, *words)
    assert found["verdict"] == verdict
    assert because in found["because"]


@pytest.mark.usefixtures("filled")
def test_what_followed_and_where_it_came_from(capfd: pytest.CaptureFixture[str]):
    found = why(capfd, "event-4")
    assert found["cause"] is None
    assert [each["outcome"] for each in found["attempts"]] == ["retried", "dead"]
    assert found["attempts"][1]["traceback"] == "Traceback …"
    assert [each["position"] for each in found["followed"]] == [5]
    assert why(capfd, "event-5")["cause"] == {"position": 4, "id": "event-4", "name": "pay"}
    again = why(capfd, "event-7")
    assert [each["reason"] for each in again["refused"]] == ["duplicate"]
    assert again["verdict"] == "unhandled"


@pytest.mark.usefixtures("filled")
def test_every_run_with_the_id_is_told_of(capfd: pytest.CaptureFixture[str]):
    found = Called(capfd, "why", "event-1", "--json").json
    assert [each["correlation_id"] for each in found] == ["order-1", "order-2", "mail"]
    out = Called(capfd, "why", "event-1").out
    assert out.count("verdict") == 3


@pytest.mark.usefixtures("filled")
def test_as_text(capfd: pytest.CaptureFixture[str]):
    out = Called(capfd, "why", "event-4").out
    assert out == (
        "verdict      dead\n"
        "because      handle failed for good at attempt 2: no money\n"
        "run          order-1 (orders, idle)\n"
        "event        4 pay\n"
        "id           event-4\n"
        "appended     2023-11-14T22:13:24.000000Z\n"
        "came of      outside: someone sent it\n"
        "begun after  0 ms\n"
        "data         -\n"
        "\n"
        "attempts\n"
        "4 pay  retried by handle  2023-11-14T22:13:23.000000Z  0.25 ms\n"
        "    error: no money\n"
        "4 pay  dead by handle at attempt 2  2023-11-14T22:13:24.000000Z  0.25 ms\n"
        "    error: no money\n"
        "\n"
        "what followed\n"
        "position  name   id\n"
        "5         error  event-5\n"
    )


def test_an_event_that_a_waiting_handler_did_not_take(
    filled: Path, capfd: pytest.CaptureFixture[str]
):
    asyncio.run(waited(filled))
    missed = why(capfd, "sam", "--run", "story")
    assert missed["verdict"] == "unhandled"
    assert missed["because"].endswith(
        'but publish waits for approved where by is "alex", and this has by "sam"'
    )
    assert [each["is_woken"] for each in missed["waiting"]] == [False]
    taken = why(capfd, "alex")
    assert taken["verdict"] == "handled"
    assert taken["because"] == "handled by publish, which began at 1"
    assert [each["is_woken"] for each in taken["waiting"]] == [True]
    began = why(capfd, "1", "--run", "story")
    assert began["verdict"] == "handled"
    assert began["because"] == "handled by publish, which went on at 3"
    assert [(each["position"], each["outcome"]) for each in began["attempts"]] == [
        (1, "parked"), (3, "handled"),
    ]  # fmt: skip
    assert [each["name"] for each in began["followed"]] == ["published"]
    timer = why(capfd, "1/publish/s1")
    assert (timer["verdict"], timer["event"]) == ("scheduled", None)


def test_events_that_came_early_and_handlers_that_wait(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    workflow = WorkflowManager(tmp_path / "flowstore.db")

    async def early(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.postpone(until="order")

    async def part(_event: WorkflowEvent, ctx: Context) -> None:
        ctx.collect("parts", "part", count=2)

    async def wait(_event: WorkflowEvent, ctx: Context) -> None:
        await ctx.wait_for("answer")

    async def make() -> None:
        for each in (early, part, wait):
            workflow.register(each.__name__, each)
        run = workflow.run("r")
        async with workflow:
            for each in ("early", "part", "wait"):
                await run.send(WorkflowEvent(each, id=each))
            await run.wait(20)
        await workflow.close()

    asyncio.run(make())
    found = why(capfd, "early")
    assert (found["verdict"], found["because"]) == ("early", "early put its event off until order")
    found = why(capfd, "part")
    assert (found["verdict"], found["because"]) == (
        "early", "it is kept under parts until the others are there",
    )  # fmt: skip
    found = why(capfd, "wait")
    assert (found["verdict"], found["because"]) == ("waiting", "wait waits for answer")


def test_refused_by_its_handler_or_tried_again(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        add_run(connection, 9, "r", head=2, cursor=1, status="running", ready_at=START)
        add_event(connection, 9, 1, "old", id="old")
        add_transition(connection, 9, 1, 1, outcome="dropped")
        add_drop(connection, 9, "old", "stale", position=1, handler="handle", detail="too old")
        add_event(connection, 9, 2, "call", id="call")
        add_transition(connection, 9, 2, 2, outcome="retried", error="no answer")
    stale = why(capfd, "old")
    assert (stale["verdict"], stale["because"]) == ("stale", "handle said: too old")
    again = why(capfd, "call")
    assert again["verdict"] == "retried"
    assert (
        "handle failed at attempt 1 and is tried again: no answer; not before 2023"
        in (again["because"])
    )


def test_an_event_of_a_run_that_was_removed(filled: Path, capfd: pytest.CaptureFixture[str]):
    with writing(filled) as connection:
        row = {"correlation_id": "gone", "event_id": "bank-1", "position": 3,
               "status": "completed", "pruned_at": START}  # fmt: skip
        connection.execute(insert(schema.pruned).values(row))
    found = why(capfd, "bank-1")
    assert (found["verdict"], found["correlation_id"]) == ("pruned", "gone")
    assert "verdict" in Called(capfd, "why", "bank-1").out


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing",), "there is no event 'nothing'"),
        (("event-1", "--run", "nobody"), "there is no run 'nobody'"),
        (("another", "--run", "order-1"), "there is no event 'another' in run 'order-1'"),
        (("99", "--run", "order-1"), "there is no event '99'"),
        (("4",), "there is no event '4'"),
    ],
)
def test_there_is_none(words: tuple[str, ...], says: str, capfd: pytest.CaptureFixture[str]):
    called = Called(capfd, "why", *words)
    assert (called.code, called.out) == (1, "")
    assert says in called.err
    assert called.err.count("\n") == 1
