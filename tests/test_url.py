"""What users give as a store, and what they are told when it is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowstore.errors import StoreUrlError
from flowstore.store.url import StoreUrl, mask, parse


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("runs.db", StoreUrl(Path("runs.db"))),
        (Path("runs.db"), StoreUrl(Path("runs.db"))),
        ("a b%20#é?.db", StoreUrl(Path("a b%20#é?.db"))),
        ("C:runs.db", StoreUrl(Path("C:runs.db"))),
        ("morning:runs.db", StoreUrl(Path("morning:runs.db"))),
        (Path("sqlite:runs.db"), StoreUrl(Path("sqlite:runs.db"))),
        ("sqlite:///runs.db", StoreUrl(Path("runs.db"))),
        ("SQLite:///runs.db", StoreUrl(Path("runs.db"))),
        ("sqlite:///a b#%C3%A9%3F%25.db", StoreUrl(Path("a b#é?%.db"))),
        ("sqlite:///runs.db?synchronous=normal", StoreUrl(Path("runs.db"), "NORMAL")),
        ("sqlite:///runs.db?busy_timeout=0.5", StoreUrl(Path("runs.db"), "FULL", 0.5)),
        (
            "sqlite:///runs.db?busy_timeout=0&synchronous=EXTRA",
            StoreUrl(Path("runs.db"), "EXTRA", 0.0),
        ),
        (":memory:", StoreUrl(None)),
        (Path(":memory:"), StoreUrl(None)),
        ("sqlite://", StoreUrl(None)),
        ("sqlite://:memory:", StoreUrl(None)),
        ("sqlite:///:memory:", StoreUrl(None)),
        ("sqlite://?synchronous=OFF", StoreUrl(None, "OFF")),
    ],
)
def test_what_names_a_store(store: str | os.PathLike[str], expected: StoreUrl):
    assert parse(store) == expected


def test_four_slashes_begin_an_absolute_path(tmp_path: Path):
    assert parse(f"sqlite:///{tmp_path}/runs.db") == StoreUrl(tmp_path / "runs.db")
    assert parse(str(tmp_path / "runs.db")).path == tmp_path / "runs.db"


def test_a_tilde_is_kept_as_it_is(tmp_path: Path):
    (tmp_path / "~").mkdir()
    assert parse("~/runs.db") == StoreUrl(Path("~/runs.db"))


def test_an_existing_file_is_accepted_and_not_opened(tmp_path: Path):
    (tmp_path / "runs.db").write_text("anything")
    assert parse("runs.db").path == Path("runs.db")
    assert not (tmp_path / "new.db").exists()
    parse("new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("store", "problem", "remedy"),
    [
        ("", "is empty", "'runs.db'"),
        ("  ", "is empty", "'runs.db'"),
        (7, "is of type int", "'runs.db'"),
        (b"runs.db", "is of type bytes", "'runs.db'"),
        (None, "is of type NoneType", "'runs.db'"),
        (".", "is a folder", "'runs.db'"),
        ("folder", "is a folder", "'folder/runs.db'"),
        ("new/", "is a folder", "'new/runs.db'"),
        ("sqlite:///folder", "is a folder", "'folder/runs.db'"),
        ("pipe", "is not a regular file", "'runs.db'"),
        ("no/such/runs.db", "there is no folder 'no/such'", "make it"),
        ("sqlite:///no/runs.db", "there is no folder 'no'", "make it"),
        ("file.txt/runs.db", "there is no folder 'file.txt'", "make it"),
        ("~/runs.db", "there is no folder '~'", "Path.expanduser()"),
        ("a\0b", "NUL", "without it"),
        ("x" * 300, "file name too long", "name a file"),
        ("sqlite:///", "has no path", "'sqlite:///runs.db'"),
        ("sqlite:///?synchronous=FULL", "has no path", "'sqlite:///runs.db'"),
        ("sqlite:runs.db", "too few slashes", "'sqlite:///runs.db'"),
        ("sqlite:/data/runs.db", "too few slashes", "'sqlite:////data/runs.db'"),
        ("sqlite://runs.db", "too few slashes", "'sqlite:///runs.db'"),
        ("sqlite+aiosqlite:///runs.db", "'sqlite+aiosqlite' is not", "'sqlite:///runs.db'"),
        ("sqlite3:////data/runs.db", "'sqlite3' is not", "'sqlite:////data/runs.db'"),
        ("file:runs.db?mode=ro", "'file' is not", "'sqlite:///runs.db'"),
        ("mysql://host/db", "'mysql' is not", "'sqlite:///runs.db'"),
        ("http://host/db", "'http' is not", "'sqlite:///runs.db'"),
        ("postgresql://host/db", "PostgreSQL is not available in this version", "'runs.db'"),
        ("postgres://host/db", "PostgreSQL is not available in this version", "'runs.db'"),
        ("postgresql+asyncpg://h/db", "PostgreSQL is not available", "'runs.db'"),
        ("sqlite:///runs.db?sync=FULL", "no parameter 'sync'", "synchronous and busy_timeout"),
        ("sqlite:///runs.db?synchronous=1", "synchronous is '1'", "NORMAL"),
        ("sqlite:///runs.db?synchronous", "synchronous is ''", "NORMAL"),
        ("sqlite:///runs.db?busy_timeout=soon", "busy_timeout is 'soon'", "busy_timeout=30"),
        ("sqlite:///runs.db?busy_timeout=-1", "busy_timeout is '-1'", "busy_timeout=30"),
        ("sqlite:///runs.db?busy_timeout=nan", "busy_timeout is 'nan'", "busy_timeout=30"),
        ("sqlite:///runs.db?busy_timeout=inf", "busy_timeout is 'inf'", "busy_timeout=30"),
        ("sqlite:///runs.db?busy_timeout=1&busy_timeout=2", "twice", "once"),
        (
            "runs.db?synchronous=NORMAL",
            "a path takes no parameters",
            "'sqlite:///runs.db?synchronous=NORMAL'",
        ),
    ],
)
def test_what_names_no_store_is_refused_with_the_remedy(
    tmp_path: Path, store: Any, problem: str, remedy: str
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreUrlError) as caught:
        parse(store)
    message = str(caught.value)
    assert message.startswith(f"store {store!r}: ")
    assert problem in message.lower() or problem in message
    assert remedy in message


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://ada:geheim@host/db",
        "postgresql://ada:ge@h/eim:x@host/db",
        "postgresql://:geheim@host/db",
        "postgresql://host/db?user=ada&password=geheim",
        "postgresql:ada:geheim@host",
        "sqlite://ada:geheim@host/runs.db",
        "sqlite:ada:geheim@host/runs.db",
        "mysql://ada:geheim@host/db",
        "file://ada:geheim@host/db",
    ],
)
def test_a_password_is_never_repeated(store: str):
    with pytest.raises(StoreUrlError) as caught:
        parse(store)
    assert "***" in str(caught.value)
    assert "eheim" not in str(caught.value)
    assert "h/eim" not in str(caught.value)


def test_text_without_a_password_is_not_masked():
    assert mask("sqlite:////data/runs.db?synchronous=FULL") == (
        "sqlite:////data/runs.db?synchronous=FULL"
    )
    assert mask("postgresql://ada@host/db") == "postgresql://ada@host/db"


def test_stores_in_memory_are_apart():
    one, other = parse(":memory:"), parse(":memory:")
    assert one.memory_uri == one.memory_uri
    assert one.memory_uri != other.memory_uri
