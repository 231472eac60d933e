"""The commands `dead show`, `dead retry` and `dead discard`."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from command_line import Called
from test_dead_settled import Till
from watching import collect, query

from flowstore import WorkflowEvent, WorkflowManager


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "flowstore")


@pytest.fixture
def shop(folder):
    """Three runs: two with a dead letter of ``pay``, one of ``ship``, which is completed."""
    asyncio.run(_shop())
    return folder / "flowstore.db"


async def _shop():
    workflow = WorkflowManager("flowstore.db")
    till = Till(workflow)
    for name in ("order-1", "order-2"):
        await till.order(name)

    async def ship(event):
        raise OSError("no truck")

    async def end(event, ctx):
        ctx.complete()

    workflow.register("parcel", ship, name="ship").register("parcel", end)
    await collect(workflow.process(WorkflowEvent("parcel"), correlation_id="parcel-1"))
    await workflow.close()


@pytest.mark.usefixtures("shop")
def test_show(capfd):
    called = Called(capfd, "dead", "show", "order-1", "1")
    assert called.code == 0
    for text in ("the bank is closed", "ConnectionError", "Traceback", '"notes": 1', "ask"):
        assert text in called.out
    shown = Called(capfd, "dead", "show", "order-1", "1", "pay", "--json").json
    assert (shown["became"], shown["run_status"], shown["handler"]) == ("dead", "failed", "pay")
    assert shown["event"]["id"] == "order-1-1"
    assert shown["state"] == {"notes": 1}
    assert [step["result"] for step in shown["steps"]] == ["12"]
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["dead"]
    Called(capfd, "dead", "retry", "order-1", "1")
    assert Called(capfd, "dead", "show", "order-1", "1", "--json").json["became"] == (
        "retried at position 3"
    )
    Called(capfd, "dead", "discard", "order-2", "1", "--reason", "by hand")
    assert Called(capfd, "dead", "show", "order-2", "1", "--json").json["became"] == (
        "discarded: by hand"
    )


@pytest.mark.usefixtures("shop")
def test_one_is_retried_at_once(capfd):
    (row,) = Called(capfd, "dead", "retry", "order-1", "1", "--json").json
    assert (row["handler"], row["status"], row["at"]) == ("pay", "retried", 3)
    again = Called(capfd, "dead", "retry", "order-1", "1")
    assert (again.code, again.out) == (1, "")
    assert "has been retried already" in again.err
    assert len(Called(capfd, "dead", "--json").json) == 2


def test_all_of_them_are_shown_first_and_done_with_yes(shop, capfd):
    before = query(shop, "SELECT count(*) FROM event")
    called = Called(capfd, "dead", "retry", "--all")
    assert called.code == 0
    assert called.out.count("to be retried") == 3
    assert "--yes" in called.err
    assert query(shop, "SELECT count(*) FROM event") == before
    called = Called(capfd, "dead", "retry", "--all", "--yes")
    assert called.code == 1  # the completed run is not opened
    assert (called.out.count("retried"), called.out.count("refused")) == (2, 1)
    called = Called(capfd, "dead", "discard", "--all", "--yes", "--reason", "no truck")
    assert called.code == 0
    assert called.out.count("discarded") == 1
    assert Called(capfd, "dead", "--json").json == []
    assert Called(capfd, "dead", "retry", "--all", "--yes").err == "(no dead letters)\n"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (("--handler", "pay"), ["order-1", "order-2"]),
        (("--error", "truck"), ["parcel-1"]),
        (("--handler", "pay", "--error", "truck"), []),
        (("--handler", "ay"), []),
    ],
)
def test_all_with_filters(options, runs, capfd):
    rows = Called(capfd, "dead", "retry", "--all", *options, "--json")
    assert [row["correlation_id"] for row in _json(rows)] == runs


def _json(called):
    assert called.code == 0
    return json.loads(called.out)


@pytest.mark.usefixtures("shop")
def test_the_only_one_of_a_run_needs_no_place(capfd):
    assert Called(capfd, "dead", "show", "order-1", "--json").json["position"] == 1
    called = Called(capfd, "dead", "retry", "order-1")
    assert called.code == 0
    assert "by whoever serves the workflow" in called.err
    for doing in ("show", "retry", "discard"):
        again = Called(capfd, "dead", doing, "order-1")
        assert (again.code, again.out) == (1, "")
        assert "has no dead letter" in again.err


@pytest.mark.usefixtures("folder")
def test_of_several_the_places_are_listed(path, capfd):
    async def fill():
        workflow = WorkflowManager(path)

        async def fail(event):
            raise ValueError("broken")

        for name in ("one", "two"):
            workflow.register("go", fail, name=name)
        await collect(workflow.process(WorkflowEvent("go"), correlation_id="r"))
        await workflow.close()

    asyncio.run(fill())
    for doing in ("show", "retry", "discard"):
        called = Called(capfd, "dead", doing, "r", "--store", str(path))
        assert (called.code, called.out) == (1, "")
        assert "say which of: 1 one, 1 two" in called.err


@pytest.mark.usefixtures("shop")
def test_all_of_one_run(capfd):
    rows = Called(capfd, "dead", "discard", "order-2", "--all", "--json")
    assert [row["correlation_id"] for row in _json(rows)] == ["order-2"]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("retry",), 2, "--all"),
        (("retry", "--handler", "pay"), 2, "--all"),
        (("retry", "nobody"), 1, "there is no run 'nobody'"),
        (("show", "nobody"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "--all"), 2, "--all"),
        (("retry", "order-1", "1", "--error", "x"), 2, "--error"),
        (("retry", "order-1", "0"), 2, "POSITION"),
        (("retry", "order-1", "2"), 1, "no handler has failed for good"),
        (("retry", "nobody", "2"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "note"), 1, "'note' has not failed"),
        (("retry", "parcel-1", "1"), 1, "is completed"),
        (("show", "order-1", "2"), 1, "no handler has failed for good"),
        (("show", "order-1", "1", "note"), 1, "'note' has not failed"),
        (("show", "nobody", "1"), 1, "there is no run 'nobody'"),
        (("retry", "order-1", "1", "--store", "none.db"), 1, "there is no database"),
    ],
)
def test_mistakes(words, code, says, capfd, tmp_path):
    called = Called(capfd, "dead", *words)
    assert (called.code, called.out) == (code, "")
    assert says in called.err
    assert called.err.count("\n") == 1
    assert not (tmp_path / "none.db").exists()


@pytest.mark.usefixtures("shop")
def test_why_tells_of_a_retry_that_is_pending(capfd):
    def why():
        (found,) = Called(capfd, "why", "order-1-1", "--json").json
        return found["verdict"], found["because"], found["status"]

    failed = "pay failed for good at attempt 1: ConnectionError: the bank is closed"
    assert why() == ("dead", failed, "failed")
    Called(capfd, "dead", "retry", "order-1", "1")
    pending = "pending; 0 events are before it and no worker has the run"
    how = "whoever serves the workflow, or resumes the run, calls it"
    because = f"{failed}; it is called again at position 3, which is {pending}; {how}"
    assert why() == ("retried", because, "running")
    Called(capfd, "send", "order-1", "more", "null")
    assert "at position 3, which is pending; 0 events" in why()[1]

    async def resume():
        workflow = WorkflowManager("flowstore.db")
        Till(workflow).is_open = True
        await workflow.resume("order-1")
        await workflow.close()

    asyncio.run(resume())
    assert why() == ("handled", "handled by note, handled by pay, which went on at 3", "idle")


@pytest.mark.usefixtures("shop")
def test_why_names_the_handler_that_is_not_called_again(capfd):
    Called(capfd, "dead", "retry", "order-1", "1")
    Called(capfd, "dead", "discard", "order-2", "1", "--reason", "by hand")
    (found,) = Called(capfd, "why", "order-2-1", "--json").json
    assert (found["verdict"], "called again" in found["because"]) == ("dead", False)
    assert found["because"].endswith("; discarded: by hand")
