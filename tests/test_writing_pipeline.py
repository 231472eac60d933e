# ruff: noqa: RUF001 - people write letters with real dashes and quotation marks
"""The writing pipeline as a program: real mails, kills, people (G1, G3, G5, G6, G7, G9)."""

from __future__ import annotations

import json

import pytest
from inbox import (
    INBOX,
    LIGHTHOUSE,
    PROGRAM,
    REGATTA,
    approve,
    calls,
    draft_all,
    files,
    flowstore,
    pipeline,
    rows_of,
    serving,
    until,
)
from programs import ROOT

DETAILS = '{"topic": "our regatta", "words": 500, "due": "2026-12-22"}'

# --- what it does -------------------------------------------------------------------------


def test_a_dozen_mails_become_drafts_or_go_to_a_person(tmp_path):
    done = pipeline(tmp_path, INBOX)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "12 inquiries: draft ready 10, needs a person 2"
    told = done.stderr.splitlines()
    assert "14-broken.eml: it has no sender" in told
    assert "12 new, 1 known already, 1 refused" in told
    assert len(list(tmp_path.glob("desk/drafts/*.md"))) == 10
    assert len(list(tmp_path.glob("desk/outbox/*.1.txt"))) == 10
    assert len(list(tmp_path.glob("desk/people/*.md"))) == 2
    assert pipeline(tmp_path, "status").stdout == done.stdout


def test_every_encoding_is_decoded(undisturbed):
    """G10."""
    rows, texts = undisturbed[0].rows, undisturbed[0].files
    mails = {name: row["inquiry"] for name, row in rows.items()}
    latin = mails["2026111708.werft@schiffe.example"]
    assert (latin["sender"], latin["subject"]) == (
        "Jörg Groß",
        "Die großen Werften über hundert Jahre",
    )
    assert "wir möchten 1.200 Wörter über die großen Werften an der Förde" in latin["text"]
    assert rows["tides-7@musee.example"]["subject"] == "Gezeiten – für Kinder erklärt"
    assert "“neap tide” needs a drawing. Grüße, Zoë" in mails["tides-7@musee.example"]["text"]
    assert mails["gdansk.cranes@zuraw.example"]["sender"] == "Łucja Żak"
    assert "cranes of Gdańsk" in mails["gdansk.cranes@zuraw.example"]["text"]
    ferry = mails["alt-55@ferry.example"]
    assert (ferry["sender"], ferry["sent_at"]) == ("Brook, Sam", "2026-11-17T21:45:00Z")
    assert "We’ll pay the usual" in ferry["text"]
    assert "HTML" not in ferry["text"]
    knots = mails["newsletter.html.6@knots.example"]["text"]
    assert knots.startswith("Hi & hello,\n250 words about sailors’ knots")
    assert "– for our café" in knots
    assert "navy" not in knots
    assert "track" not in knots
    assert "See also: Werften an der Förde" in texts["drafts/2026111708.werft@schiffe.example.md"]


def test_attachments_and_replies_are_read(undisturbed):
    rows, texts = undisturbed[0].rows, undisturbed[0].files
    [table] = rows["pilots-csv@lotsen.example"]["inquiry"]["attachments"]
    assert (table["name"], table["kind"], table["size"]) == (
        "Schiffe für 2025.csv",
        "text/csv",
        71,
    )
    assert "    2023;1204;Köhler\n" in texts["drafts/pilots-csv@lotsen.example.md"]
    [brief] = rows["brief.8@sextant.example"]["inquiry"]["attachments"]
    assert (brief["name"], brief["kind"], brief["text"]) == ("brief.pdf", "application/pdf", "")
    reply = rows["lighthouse-2@harbour.example"]["inquiry"]
    assert reply["in_reply_to"] == LIGHTHOUSE
    assert "Our readers" not in reply["text"]


def test_the_calendar_fails_now_and_then_and_is_asked_again(undisturbed):
    looked = [call for call in calls(undisturbed[0].folder) if call["tool"] == "calendar"]
    failed = [call["key"] for call in looked if call["fails"]]
    assert failed
    answered = [call["key"] for call in looked if not call["fails"]]
    assert len(answered) == len(set(answered)) == 10
    assert set(failed) <= set(answered)


def test_a_calendar_that_never_answers_goes_to_a_person_who_can_begin_anew(tmp_path):
    """G7."""
    rows = draft_all(tmp_path, "--calendar-fails", "1")
    assert {row["stage"] for row in rows.values()} == {"needs a person"}
    assert rows[LIGHTHOUSE]["reason"] == "Pipeline.check_calendar: the calendar does not answer"
    made = [call for call in calls(tmp_path) if call["key"].startswith(LIGHTHOUSE)]
    assert [call.get("attempt") for call in made] == [None, 1, 2, 3, 4, 5, 6, None]
    assert pipeline(tmp_path, "details", LIGHTHOUSE, DETAILS).returncode == 0
    assert draft_all(tmp_path)[LIGHTHOUSE]["stage"] == "draft ready"


def test_what_the_model_gets_wrong_goes_to_a_person(drafted, undisturbed):
    rows = undisturbed[0].rows
    needed = {name: row["reason"] for name, row in rows.items() if row["stage"] == "needs a person"}
    assert set(needed) == {REGATTA, "everything@sailing.example"}
    assert "answer cannot be used: due: " in needed[REGATTA]
    assert "answer cannot be used: JSON: Invalid JSON" in needed["everything@sailing.example"]
    assert "we need them yesterday!" in files(drafted)[f"people/{REGATTA}.md"]
    wrong = pipeline(drafted, "details", REGATTA, '{"topic": "our regatta", "words": 5}')
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    # Whoever approves has read the draft: an approval that comes before it is none (G6).
    flowstore(drafted, "send", REGATTA, "Approved", '{"by": "alex"}')
    assert pipeline(drafted, "details", REGATTA, DETAILS).returncode == 0
    row = draft_all(drafted)[REGATTA]
    assert (row["stage"], row["day"], row["reason"]) == ("draft ready", "2026-12-22", None)
    approve(drafted, REGATTA)
    assert draft_all(drafted)[REGATTA]["stage"] == "published"


# --- approval -----------------------------------------------------------------------------


def test_an_approval_from_another_process_is_published_once(drafted):
    """G5, G6."""
    done = pipeline(drafted, "approve", f"<{LIGHTHOUSE}>", "--by", "alex")
    assert (done.returncode, done.stderr) == (0, "")
    assert "published" not in {path.parent.name for path in drafted.glob("desk/*/*")}
    # Before anyone looked, alex again, and somebody else.
    assert "duplicate" in pipeline(drafted, "approve", LIGHTHOUSE, "--by", "alex").stdout
    assert "accepted" in pipeline(drafted, "approve", LIGHTHOUSE, "--by", "sam").stdout
    row = draft_all(drafted)[LIGHTHOUSE]
    assert (row["stage"], row["article"]) == ("published", f"published/{LIGHTHOUSE}.md")
    assert files(drafted)[row["article"]].endswith("\nApproved by alex.\n")
    drops = json.loads(flowstore(drafted, "drops", "--json"))
    assert [drop["detail"] for drop in drops if drop["event_id"] == "approved by sam"] == [
        "sam approved, but there is no draft to approve: published"
    ]
    assert sum(call["tool"] == "published" for call in calls(drafted)) == 1
    late = pipeline(drafted, "approve", LIGHTHOUSE)
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr == f"error: {LIGHTHOUSE} has no draft to approve: published\n"


def test_an_approval_that_nobody_can_read_changes_nothing(drafted):
    """G7: it is a dead letter, and the draft waits for a proper one."""
    flowstore(drafted, "send", LIGHTHOUSE, "Approved", '{"who": "alex"}')
    assert draft_all(drafted)[LIGHTHOUSE]["stage"] == "draft ready"
    dead = json.loads(flowstore(drafted, "dead", "--json"))
    assert {letter["handler"] for letter in dead} == {"log_everything", "check_approval"}
    approve(drafted, LIGHTHOUSE)
    assert draft_all(drafted)[LIGHTHOUSE]["stage"] == "published"


def test_while_it_serves_it_reminds_and_publishes_what_others_approve(tmp_path):
    with serving(tmp_path, "--remind-after", "0.2") as process:
        until(process, f"{LIGHTHOUSE}: reminding the editor")
        until(process, f"{LIGHTHOUSE}: reminding the editor")
        flowstore(tmp_path, "send", LIGHTHOUSE, "Approved", '{"by": "alex"}')
        until(process, f"{LIGHTHOUSE}: Published")
    texts = files(tmp_path)
    assert texts[f"published/{LIGHTHOUSE}.md"].endswith("\nApproved by alex.\n")
    mails = [text for name, text in sorted(texts.items()) if f"outbox/{LIGHTHOUSE}." in name]
    please = f"Please read drafts/{LIGHTHOUSE}.md and approve it.\n"
    assert mails[:2] == [please, f"Reminder 1: {please}"]
    assert len(mails) >= 3
    made = [call["key"] for call in calls(tmp_path) if call["tool"] != "calendar"]
    assert len(made) == len(set(made))


# --- odd mail and odd use -----------------------------------------------------------------

GOOD = b"From: a@b.example\r\nSubject: s\r\n%s\r\n70 words about eels, by 2026-12-22.\r\n"


def test_odd_messages_are_known_by_safe_names_or_refused(tmp_path):
    """G10: nothing that a sender writes chooses a place outside the folders or stops the rest."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    headers = {
        "1-path": b"Message-ID: <../../evil>\r\n",
        "2-long": b"Message-ID: <" + b"x" * 900 + b"@y>\r\n",
        "3-charset": b"Message-ID: <c@y>\r\nContent-Type: text/plain; charset=klingon\r\n",
        "4-first": b"Message-ID: <same@y>\r\n",
        "5-other": b"Message-ID: <same@y>\r\nSubject: another\r\n",
        "6-bracket": b"Message-ID: <[broken]\r\nDate: not a date\r\n",
        "7-none": b"",
    }
    for name, header in headers.items():
        (inbox / f"{name}.eml").write_bytes(GOOD % header)
    (inbox / "8-empty.eml").write_bytes(b"")
    (inbox / "9-silent.eml").write_bytes(b"From: a@b.example\r\nMessage-ID: <e@y>\r\n\r\n")
    # The same Message-ID with another text: which of the two is meant?
    (inbox / "5-other.eml").write_bytes((GOOD % headers["4-first"]).replace(b"eels", b"cod"))
    done = pipeline(tmp_path, inbox, "--json")
    rows = rows_of(done)
    assert {row["stage"] for row in rows.values()} == {"draft ready"}
    assert len(rows) == 6
    refused = [line for line in done.stderr.splitlines() if ".eml: " in line]
    assert refused == [
        "5-other.eml: its Message-ID is that of another message; that one was kept",
        "8-empty.eml: it has no sender",
        "9-silent.eml: it has no text",
    ]
    drafts = {path.resolve() for path in tmp_path.rglob("*.md")}
    assert {path.parent for path in drafts} == {tmp_path.resolve() / "desk" / "drafts"}
    assert len(drafts) == 6
    mails = {path.resolve() for path in tmp_path.rglob("*.txt")}
    assert {path.parent for path in mails} == {tmp_path.resolve() / "desk" / "outbox"}
    assert len(mails) == 6


def test_it_stores_where_the_environment_says(tmp_path):
    elsewhere = tmp_path / "elsewhere.db"
    done = pipeline(tmp_path, tmp_path, FLOWSTORE_URL=f"sqlite:///{elsewhere}")
    assert "0 new" in done.stderr
    assert elsewhere.exists()
    assert not (tmp_path / "flowstore.db").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nowhere",), "nowhere is not a folder"),
        (("approve", "nobody@x"), "there is no run 'nobody@x'"),
    ],
)
def test_errors_are_one_line(tmp_path, words, problem):
    done = pipeline(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    [message] = done.stderr.splitlines()
    assert message.startswith("error: ")
    assert problem in message


def test_help_has_an_example(tmp_path):
    done = pipeline(tmp_path, "--help")
    assert done.returncode == 0
    assert "examples/writing_pipeline.py approve" in done.stdout
    assert (ROOT / "examples" / PROGRAM).exists()
