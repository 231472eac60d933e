"""Which divergences are intended, and the file that says so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from flowstore.errors import AcceptedFileError
from flowstore.replay import ABSENT, Difference, Divergence
from flowstore.replay.accepted import Accepted, AcceptedChanges, Trait, is_at, paths_of
from flowstore.replay.accepted_file import add_accepted, read_accepted

if TYPE_CHECKING:
    from pathlib import Path


def diverging(*differences: Difference, **fields: Any) -> Divergence:
    given = {
        "position": 3,
        "event": "order",
        "handler": "sell",
        "kind": "state",
        "message": "position 3: something",
        "differences": differences,
    }
    return Divergence(**{**given, **fields})


TOTAL = Difference("state.total", 1, 2)
ADDED = Difference("state.vat", ABSENT, 2)
ITEM = Difference("state.items[3].price", 1, 2)


def entry(*paths: str, kind: str = "state", detail: str | None = None, **fields: Any) -> Accepted:
    trait = Trait(handler="sell", kind=kind, detail=detail)
    return Accepted(trait=trait, paths=paths, **{"reason": "so it is", **fields})


def is_accepted(divergence: Divergence, *entries: Accepted) -> bool:
    return bool(AcceptedChanges(entries).covering(divergence, "order-7"))


# --- what is meant ---------------------------------------------------------------------


def test_paths_have_no_indexes_and_say_what_was_not_there():
    gone = Difference("state.items[12]", {"a": 1}, ABSENT)
    found = paths_of(diverging(TOTAL, ADDED, ITEM, gone, Difference("state.items[4].price", 1, 3)))
    assert found == ("state.total", "+state.vat", "state.items.*.price", "-state.items.*")


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("state.total", "state.total", True),
        ("state.total", "state.totals", False),
        ("state.total", "state.total.net", False),  # no more than is said
        ("state", "state.total", False),
        ("state.*", "state.total", True),
        ("+state.vat", "+state.vat", True),
        ("+state.vat", "state.vat", False),
        ("state.vat", "+state.vat", False),
        ("-state.vat", "+state.vat", False),
        ("state.items.*.price", "state.items.*.price", True),
        ("state['a b']", "state['a b']", True),
    ],
)
def test_where_a_pattern_fits(pattern: str, path: str, fits: object):
    assert is_at(pattern, path) is fits


def test_exactly_what_is_said_is_accepted():
    known = entry("state.total", "+state.vat")
    assert is_accepted(diverging(TOTAL, ADDED), known)
    assert is_accepted(diverging(TOTAL), known)  # a part of it, in another run
    assert not is_accepted(diverging(TOTAL, ITEM), known)
    assert is_accepted(diverging(TOTAL, ITEM), known, entry("state.items.*.price"))
    assert not is_accepted(diverging(TOTAL, handler="audit"), known)
    assert not is_accepted(diverging(TOTAL, kind="emitted"), known)
    assert not is_accepted(diverging(TOTAL))


def test_an_entry_can_be_for_one_run_or_one_event():
    assert is_accepted(diverging(TOTAL), entry("state.total", run="order-7"))
    assert not is_accepted(diverging(TOTAL), entry("state.total", run="order-8"))
    assert is_accepted(diverging(TOTAL), entry("state.total", event="order"))
    assert not is_accepted(diverging(TOTAL), entry("state.total", event="refund"))


def test_a_handler_that_fails_now_is_not_one_that_failed_then():
    ended = {"outcome": "handled", "error": None}
    failed = {"outcome": "dead", "error": "no"}
    difference = Difference("outcome", "handled", "dead")
    worse = diverging(difference, kind="outcome", expected=ended, actual=failed)
    better = diverging(
        Difference("outcome", "dead", "handled"), kind="outcome", expected=failed, actual=ended
    )
    known = entry("outcome", kind="outcome", detail="dead -> handled")
    assert is_accepted(better, known)
    assert not is_accepted(worse, known)
    assert Trait.of(worse).detail == "handled -> dead"


@pytest.mark.parametrize(
    ("kind", "expected", "actual", "detail"),
    [
        ("step", None, "charge", "charge"),
        ("reach", None, "the file order-7.txt, to write it", None),
        ("handler", "audit", [], "gone"),
        ("handler", [], "audit", "added"),
        ("outcome", True, False, "completed -> open"),
        ("outcome", {"outcome": "handled"}, None, "handled -> not called"),
        ("error", None, {"error": "x", "exception": "InvalidValueError"}, "InvalidValueError"),
        ("error", {"outcome": "handled"}, {"outcome": "dead", "error": "x"}, "dead"),
        ("state", {}, {}, None),
    ],
)
def test_what_says_more_than_the_kind(kind: str, expected: Any, actual: Any, detail: str | None):
    divergence = diverging(kind=kind, expected=expected, actual=actual)
    assert Trait.of(divergence).detail == detail
    assert is_accepted(divergence, entry(kind=kind, detail=detail))
    assert not is_accepted(divergence, entry(kind=kind, detail="something else"))


def test_a_handler_that_waited_is_the_same_in_all_runs():
    assert is_accepted(diverging(TOTAL, handler="sell@5"), entry("state.total"))
    assert Trait.of(diverging(TOTAL, handler="sell@12")).handler == "sell"
    assert Trait.of(diverging(TOTAL, handler="mail@home")).handler == "mail@home"


def test_entries_that_no_divergence_has_met():
    one, other = entry("state.total"), entry("state.vat", run="order-7")
    changes = AcceptedChanges([one, other])
    assert changes.unseen() == [one, other]
    changes.see([one, one])
    assert changes.unseen() == [other]
    assert changes.unseen("order-7") == [other]
    assert changes.unseen("order-8") == []
    assert changes.seen == {one: 1}


# --- the file ----------------------------------------------------------------------------

HOSTILE = 'a "quoted"\n[[accepted]]\nline\x00\x1b\x7f\\ € \ud800'


def test_a_file_comes_back_as_it_was_written(tmp_path: Path):
    path = tmp_path / "new" / "accepted.toml"
    entries = [
        entry("state.total", "state['a\"b']", reason="VAT"),
        entry(kind="outcome", detail="dead -> handled", event="order", run="order-7"),
        Accepted(trait=Trait(handler=None, kind="error"), paths=(), reason="r"),
    ]
    add_accepted(path, entries[:1])
    add_accepted(path, entries[1:])
    assert read_accepted(path) == entries
    assert list(path.parent.iterdir()) == [path]


def test_hostile_names_come_back(tmp_path: Path):
    path = tmp_path / "accepted.toml"
    add_accepted(path, [entry(HOSTILE, detail=HOSTILE, run=HOSTILE)])
    (found,) = read_accepted(path)
    assert found.run == HOSTILE.replace("\ud800", "\\ud800")
    add_accepted(path, [entry("state.total")], outdated=[found])
    assert read_accepted(path) == [entry("state.total")]


def test_what_people_have_written_stays(tmp_path: Path):
    path = tmp_path / "accepted.toml"
    add_accepted(path, [entry("state.total"), entry("state.vat")])
    text = path.read_text().replace(
        'paths = ["state.vat"]', '# seen by Alex\npaths = [ "state.vat", "state.net" ]'
    )
    path.write_text("# our changes\n" + text)
    add_accepted(path, [entry("state.more")], outdated=[entry("state.total")])
    after = path.read_text()
    assert after.startswith("# our changes\n")
    assert "# seen by Alex\n" in after
    assert [each.paths for each in read_accepted(path)] == [
        ("state.vat", "state.net"),
        ("state.more",),
    ]


GOOD = '[[accepted]]\nhandler = "a"\nkind = "state"\nreason = "r"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[accepted]\n", "is not TOML"),
        ("a = 1\n", "has a"),
        ("accepted = 1\n", "tables [[accepted]]"),
        ("accepted = [1]\n", "entry 1: is no table"),
        (GOOD + GOOD.replace('"r"', '" "'), "entry 2: reason is empty"),
        (GOOD.replace('reason = "r"\n', ""), "entry 1: reason must be a text"),
        (GOOD.replace('"state"', '"stat"'), "kind must be one of outcome, emitted"),
        (GOOD + "paths = 1\n", "paths must be a list"),
        (GOOD + "paths = [1]\n", "paths must be a list"),
        (GOOD + "path = []\n", "path is not known"),
        ("accepted = " + "[" * 100_000, "is not TOML"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_a_file_that_is_not_understood(text: str, says: str, tmp_path: Path):
    path = tmp_path / "accepted.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(AcceptedFileError, match=r"accepted\.toml") as caught:
        read_accepted(path)
    assert says in str(caught.value)
    with pytest.raises(AcceptedFileError):
        add_accepted(path, [entry("x")])
    assert path.read_bytes() == text.encode("latin-1")
    path.write_text(GOOD)
    assert read_accepted(path)


def test_a_file_that_is_not_there_or_cannot_be_written(tmp_path: Path):
    with pytest.raises(AcceptedFileError, match="No such file"):
        read_accepted(tmp_path / "none.toml")
    (tmp_path / "file").write_text("")
    with pytest.raises(AcceptedFileError, match=r"File exists|Not a directory"):
        add_accepted(tmp_path / "file" / "accepted.toml", [entry("a")])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AcceptedFileError, match="is not a file"):
        add_accepted(tmp_path / "pipe", [entry("a")])
    assert (tmp_path / "pipe").is_fifo()
