"""The command `send`."""

from __future__ import annotations

import json
import re

import pytest
from command_line import Called, start

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.usefixtures("filled")
def test_send_appends_once_and_says_what_became_of_it(capfd: pytest.CaptureFixture[str]):
    """G5: sent again with the same id it is a duplicate, with other content a conflict."""
    words = ("send", "order-1", "paid", '{"amount": 12.5}', "--id", "bank-1")
    receipt = Called(capfd, *words, "--json").json
    assert receipt == {
        "status": "accepted",
        "id": "bank-1",
        "correlation_id": "order-1",
        "position": 8,
        "reason": None,
    }
    again = Called(capfd, *words)
    assert again.code == 0
    assert re.search(r"^status +duplicate$", again.out, re.MULTILINE)
    other = Called(capfd, "send", "order-1", "paid", "null", "--id", "bank-1")
    assert (other.code, other.out) == (1, "")
    assert "other content" in other.err
    (event,) = Called(capfd, "log", "order-1", "--after", "7", "--json").json
    assert (event["id"], event["data"]) == ("bank-1", {"amount": 12.5})


@pytest.mark.usefixtures("filled")
def test_send_to_a_closed_run_is_stale(capfd: pytest.CaptureFixture[str]):
    """G6."""
    called = Called(capfd, "send", "mail", "letter", "null", "--json")
    assert called.code == 1
    receipt = json.loads(called.out)
    assert (receipt["status"], receipt["position"]) == ("stale", None)
    assert "completed" in receipt["reason"]


def test_send_makes_the_run_and_the_database(capfd: pytest.CaptureFixture[str]):
    done = start("send", "new", "begin", "-", "--workflow", "letters", input='"größe"')
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = Called(capfd, "runs", "--json").json
    assert (run["correlation_id"], run["workflow"], run["status"]) == ("new", "letters", "running")
    (event,) = Called(capfd, "log", "new", "--json").json
    assert event["data"] == "größe"
    # The workflow of a run that is there is found, not asked for.
    assert Called(capfd, "send", "new", "next", "1", "--json").json["position"] == 2
    Called(capfd, "send", "other", "begin", "null")
    assert Called(capfd, "show", "other", "--json").json["workflow"] == "workflow"
