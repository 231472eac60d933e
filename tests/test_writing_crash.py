"""The writing pipeline, killed and run again (G1, G3, G5, G8, G9)."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest
from inbox import (
    LIGHTHOUSE,
    PROGRAM,
    approve,
    asked,
    calls,
    check_outcome,
    check_repeats,
    draft_all,
    kill_at_call,
    kill_at_random,
    serving,
)
from programs import EXAMPLES


def test_run_twice_it_drafts_nothing_twice(drafted, undisturbed):
    """G5."""
    before = calls(drafted)
    check_outcome(drafted, undisturbed[0])
    assert calls(drafted) == before
    assert sum(call["tool"] == "drafts" for call in before) == 10


@pytest.mark.parametrize(("when", "number"), [("before", 9), ("after", 30)])
def test_killed_in_a_call_it_goes_on(tmp_path, undisturbed, when, number):
    """G1, G3, G9: the tool did its work, and the step was not recorded."""
    assert kill_at_call(tmp_path, when, number)
    check_outcome(tmp_path, undisturbed[0])


def test_killed_again_and_again_it_loses_and_repeats_nothing(tmp_path, undisturbed):
    """G1, G3, G5, G9: at random moments while it drafts, and while it publishes."""
    first, second = undisturbed
    assert kill_at_random(tmp_path, 1, 9, 6, 0.02) >= 5
    check_outcome(tmp_path, first)
    approve(tmp_path, *asked(first.rows))
    assert kill_at_random(tmp_path, 2, 3, 2, 0.002) >= 2
    check_outcome(tmp_path, second)


def test_killed_while_it_publishes_it_publishes_once(drafted, undisturbed):
    """G3: a handler that waited goes on, and is killed between its file and the record of it."""
    approve(drafted, *asked(undisturbed[0].rows))
    assert check_repeats(drafted, lambda: kill_at_call(drafted, "after", 4))
    check_outcome(drafted, undisturbed[1])


def test_two_processes_publish_each_article_once(drafted, undisturbed):
    """G8."""
    with serving(drafted), serving(drafted):
        approve(drafted, *asked(undisturbed[0].rows))
    check_outcome(drafted, undisturbed[1])
    made = [call["key"] for call in calls(drafted) if call["tool"] != "calendar"]
    assert len(made) == len(set(made))


# --- negative controls of the checks above ------------------------------------------------


def test_a_draft_that_is_gone_is_noticed(drafted, undisturbed):
    (drafted / "desk" / "drafts" / f"{LIGHTHOUSE}.md").unlink()
    with pytest.raises(AssertionError, match="was lost"):
        check_outcome(drafted, undisturbed[0])


def test_a_store_that_forgets_steps_is_noticed(drafted):
    approve(drafted, LIGHTHOUSE)

    def forget_and_go_on():
        with contextlib.closing(sqlite3.connect(drafted / "flowstore.db")) as connection:
            connection.execute("DELETE FROM step")
            connection.commit()
        draft_all(drafted)

    with pytest.raises(AssertionError, match=r"done again: .*/mail editor/1"):
        check_repeats(drafted, forget_and_go_on)


def test_a_pipeline_without_the_messages_ids_is_noticed(drafted):
    shutil.copytree(EXAMPLES / "writing", drafted / "writing")
    source = (EXAMPLES / PROGRAM).read_text(encoding="utf-8")
    careless = source.replace("inquiry, id=letter.message_id)", "inquiry)")
    assert careless != source
    (drafted / "careless.py").write_text(careless, encoding="utf-8")
    before = {call["key"] for call in calls(drafted)}
    draft_all(drafted, program=drafted / "careless.py")
    assert "model" in {call["tool"] for call in calls(drafted) if call["key"] not in before}
