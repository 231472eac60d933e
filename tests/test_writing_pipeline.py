# ruff: noqa: RUF001 - people write letters with real dashes and quotation marks
"""The writing pipeline as a program: real mails, kills, people (G1, G3, G5, G6, G7, G9)."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from programs import EXAMPLES, ROOT, TIMEOUT, environment, run

PROGRAM = "writing_pipeline.py"
INBOX = EXAMPLES / "writing" / "inbox"
LIGHTHOUSE = "lighthouse-1@harbour.example"
REGATTA = "hurry@regatta.example"
DETAILS = '{"topic": "our regatta", "words": 500, "due": "2026-12-22"}'

# Runs the pipeline and kills it at its so-many-th call of a tool, before or after the call is
# noted; either way the tool has done its work and the step is not recorded yet.
KILLER = """
import os, runpy, signal, sys
program, when, wanted, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, os.path.dirname(program))
from writing.tools import Desk
note, calls = Desk._called, 0
def noted(*arguments, **keywords):
    global calls
    calls += 1
    if (calls, when) == (int(wanted), "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    note(*arguments, **keywords)
    if (calls, when) == (int(wanted), "after"):
        os.kill(os.getpid(), signal.SIGKILL)
Desk._called = noted
runpy.run_path(program, run_name="__main__")
"""


def pipeline(folder, *words, program=PROGRAM, **variables):
    return run(program, *words, cwd=folder, **variables)


def rows_of(done):
    assert done.returncode == 0, done.stderr
    return {row["id"]: row for row in json.loads(done.stdout)}


def draft_all(folder, *words, **options):
    return rows_of(pipeline(folder, INBOX, "--json", *words, **options))


def calls(folder):
    path = folder / "calls.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def files(folder):
    paths = [
        path for part in ("drafts", "people", "published") for path in folder.glob(f"{part}/*")
    ]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in paths}


def finished_steps(folder):
    """Return the idempotency keys of the steps whose results are on the disk."""
    query = """
        SELECT correlation_id, position, handler, name, number
        FROM step JOIN run ON run.id = step.run_id
    """
    store = folder / "flowstore.db"
    if not store.exists():
        return set()
    with contextlib.closing(sqlite3.connect(store)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'step'").fetchone():
            return set()
        return {"/".join(map(str, row)) for row in connection.execute(query)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return runs, files and keys of calls of a pipeline that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    rows = draft_all(folder)
    return rows, files(folder), {call["key"] for call in calls(folder)}


def agrees(folder, undisturbed):
    rows, texts, keys = undisturbed
    assert draft_all(folder) == rows
    assert files(folder) == texts
    assert {call["key"] for call in calls(folder)} == keys == finished_steps(folder)


# --- what it does -------------------------------------------------------------------------


def test_a_dozen_mails_become_drafts_or_go_to_a_person(tmp_path):
    done = pipeline(tmp_path, INBOX)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "12 inquiries: draft ready 10, needs a person 2"
    told = done.stderr.splitlines()
    assert "14-broken.eml: it has no sender" in told
    assert "12 new, 1 known already, 1 refused" in told
    assert len(list(tmp_path.glob("drafts/*.md"))) == 10
    assert len(list(tmp_path.glob("people/*.md"))) == 2
    assert pipeline(tmp_path, "status").stdout == done.stdout


def test_every_encoding_is_decoded(undisturbed):
    """G10."""
    rows, texts, _ = undisturbed
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
    rows, texts, _ = undisturbed
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


def test_the_calendar_fails_now_and_then_and_is_asked_again(tmp_path):
    draft_all(tmp_path)
    asked = [call for call in calls(tmp_path) if call["tool"] == "calendar"]
    failed = [call["key"] for call in asked if call["fails"]]
    assert failed
    answered = [call["key"] for call in asked if not call["fails"]]
    assert len(answered) == len(set(answered)) == 10
    assert set(failed) <= set(answered)


def test_a_calendar_that_never_answers_goes_to_a_person_who_can_begin_anew(tmp_path):
    """G7."""
    rows = draft_all(tmp_path, "--calendar-fails", "1")
    assert {row["stage"] for row in rows.values()} == {"needs a person"}
    assert rows[LIGHTHOUSE]["reason"] == "Pipeline.check_calendar: the calendar does not answer"
    asked = [call for call in calls(tmp_path) if call["key"].startswith(LIGHTHOUSE)]
    assert [call.get("attempt") for call in asked] == [None, 1, 2, 3, 4, 5, 6, None]
    assert pipeline(tmp_path, "details", LIGHTHOUSE, DETAILS).returncode == 0
    assert draft_all(tmp_path)[LIGHTHOUSE]["stage"] == "draft ready"


def test_what_the_model_gets_wrong_goes_to_a_person(tmp_path):
    rows = draft_all(tmp_path)
    needed = {name: row["reason"] for name, row in rows.items() if row["stage"] == "needs a person"}
    assert set(needed) == {REGATTA, "everything@sailing.example"}
    assert "answer cannot be used: due: " in needed[REGATTA]
    assert "answer cannot be used: JSON: Invalid JSON" in needed["everything@sailing.example"]
    assert "we need them yesterday!" in files(tmp_path)[f"people/{REGATTA}.md"]
    wrong = pipeline(tmp_path, "details", REGATTA, '{"topic": "our regatta", "words": 5}')
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert pipeline(tmp_path, "details", REGATTA, DETAILS).returncode == 0
    row = draft_all(tmp_path)[REGATTA]
    assert (row["stage"], row["day"], row["reason"]) == ("draft ready", "2026-12-22", None)


# --- twice, and killed --------------------------------------------------------------------


def test_run_twice_it_drafts_nothing_twice(tmp_path, undisturbed):
    """G5."""
    draft_all(tmp_path)
    before = calls(tmp_path)
    agrees(tmp_path, undisturbed)
    assert calls(tmp_path) == before
    assert sum(call["tool"] == "drafts" for call in before) == 10


def test_the_comparison_notices_work_done_twice(tmp_path):
    """The negative control: without the messages' ids, the model is asked again."""
    shutil.copytree(EXAMPLES / "writing", tmp_path / "writing")
    source = (EXAMPLES / PROGRAM).read_text(encoding="utf-8")
    careless = source.replace("inquiry, id=letter.message_id)", "inquiry)")
    assert careless != source
    (tmp_path / "careless.py").write_text(careless, encoding="utf-8")
    for _ in range(2):
        draft_all(tmp_path, program=tmp_path / "careless.py")
    assert sum(call["tool"] == "model" for call in calls(tmp_path)) > 12


def kill_at_call(folder, when, number):
    words = [sys.executable, "-c", KILLER, EXAMPLES / PROGRAM, when, number, INBOX]
    return subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    ).returncode


def kill_at_line(folder, lines, delay):
    """Kill the process some time after its so-many-th line of progress."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / PROGRAM), str(INBOX)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(lines):
            assert process.stderr.readline(), "it ended before it could be killed"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
        return process.returncode


def check_after_kills(folder, kills, undisturbed):
    """Kill and look: what was finished before a kill is never called after it."""
    for kill in kills:
        finished, before = finished_steps(folder), len(calls(folder))
        assert kill() == -signal.SIGKILL
        assert not finished & {call["key"] for call in calls(folder)[before:]}
    finished, before = finished_steps(folder), len(calls(folder))
    agrees(folder, undisturbed)
    assert not finished & {call["key"] for call in calls(folder)[before:]}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 9, 20, 33])
def test_killed_in_a_call_it_goes_on(tmp_path, undisturbed, when, number):
    """G1, G3, G9: the tool did its work, and the step was not recorded."""
    check_after_kills(tmp_path, [lambda: kill_at_call(tmp_path, when, number)], undisturbed)


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_it_loses_and_repeats_nothing(tmp_path, undisturbed, seed):
    """G1, G3, G5, G9."""
    chance = random.Random(seed)
    places = [(chance.randint(1, 20), chance.random() / 100) for _ in range(2)]
    kills = [lambda place=place: kill_at_line(tmp_path, *place) for place in places]
    check_after_kills(tmp_path, kills, undisturbed)


# --- approval -----------------------------------------------------------------------------


def test_an_approval_from_another_process_is_published_once(tmp_path):
    draft_all(tmp_path)
    done = pipeline(tmp_path, "approve", f"<{LIGHTHOUSE}>", "--by", "alex")
    assert (done.returncode, done.stderr) == (0, "")
    assert "published" not in {path.parent.name for path in tmp_path.glob("*/*")}
    # Twice before anyone looked: the second finds it published.
    pipeline(tmp_path, "approve", LIGHTHOUSE, "--by", "sam")
    row = draft_all(tmp_path)[LIGHTHOUSE]
    assert (row["stage"], row["article"]) == ("published", f"published/{LIGHTHOUSE}.md")
    assert files(tmp_path)[row["article"]].endswith("\nApproved by alex.\n")
    before = calls(tmp_path)
    assert sum(call["tool"] == "published" for call in before) == 1
    late = pipeline(tmp_path, "approve", LIGHTHOUSE)
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr == f"error: {LIGHTHOUSE} has no draft to approve: published\n"
    draft_all(tmp_path)
    assert calls(tmp_path) == before


def test_while_it_serves_it_publishes_what_the_command_line_approves(tmp_path):
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / PROGRAM), str(INBOX), "--serve"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while "serving" not in (line := process.stderr.readline()):
                assert line, "it ended"
            words = ("-m", "flowstore.cli", "send", LIGHTHOUSE, "Approved", '{"by": "alex"}')
            subprocess.run(
                [sys.executable, *words],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.DEVNULL,
                timeout=TIMEOUT,
                check=True,
            )
            while f"{LIGHTHOUSE}: Published" not in (line := process.stderr.readline()):
                assert line, "it ended"
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, told) == (130, "interrupted; run it again to go on\n")
    assert f"published/{LIGHTHOUSE}.md" in files(tmp_path)
    assert draft_all(tmp_path)[LIGHTHOUSE]["stage"] == "published"


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
    assert {path.parent for path in drafts} == {tmp_path.resolve() / "drafts"}
    assert len(drafts) == 6


def test_it_stores_where_the_environment_says(tmp_path):
    elsewhere = tmp_path / "elsewhere.db"
    draft_all(tmp_path, FLOWSTORE_URL=f"sqlite:///{elsewhere}")
    assert elsewhere.exists()
    assert not (tmp_path / "flowstore.db").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nowhere",), "nowhere is not a folder"),
        (("approve", "nobody@x"), "there is no run 'nobody@x'"),
        (("details", "nobody@x", DETAILS), "there is no run 'nobody@x'"),
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
