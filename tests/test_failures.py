"""What drivers and systems report, in flowstore's words."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from sample import writing

from flowstore.errors import (
    StoreBusyError,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from flowstore.store.failures import translate

if TYPE_CHECKING:
    from pathlib import Path


def _translated(action: Any) -> StoreError:
    with pytest.raises((sqlite3.Error, OSError)) as caught:
        action()
    return translate(caught.value, "runs.db")


def test_a_full_disk(filled: Path):
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        connection.execute("CREATE TEMP TABLE big AS SELECT randomblob(100000) AS value")
        error = _translated(
            lambda: connection.execute("INSERT INTO snapshot SELECT 1, 1, value FROM big")
        )
    assert isinstance(error, StoreFullError)
    assert str(error).startswith("runs.db: the disk is full; nothing of this commit was written")


def test_a_database_that_may_not_be_written(filled: Path):
    uri = f"{filled.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        error = _translated(lambda: connection.execute("DELETE FROM run"))
    assert isinstance(error, StoreUnavailableError)
    assert "read-only" in str(error)


def test_a_database_that_was_deleted_while_open(filled: Path):
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        filled.unlink()
        error = _translated(lambda: connection.execute("DELETE FROM run"))
    assert isinstance(error, StoreUnavailableError)
    assert "moved or deleted" in str(error)


def test_a_locked_database(filled: Path):
    with (
        writing(filled),
        contextlib.closing(sqlite3.connect(filled, isolation_level=None, timeout=0)) as connection,
    ):
        error = _translated(lambda: connection.execute("BEGIN IMMEDIATE"))
    assert isinstance(error, StoreBusyError)
    assert "busy_timeout" in str(error)


def test_a_closed_connection(filled: Path):
    connection = sqlite3.connect(filled)
    connection.close()
    assert isinstance(_translated(lambda: connection.execute("SELECT 1")), StoreClosedError)


def test_a_folder_that_is_not_there(tmp_path: Path):
    error = _translated(lambda: sqlite3.connect(tmp_path / "none" / "runs.db"))
    assert isinstance(error, StoreUnavailableError)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EACCES, StoreUnavailableError),
        (errno.EROFS, StoreUnavailableError),
        (errno.EIO, StoreUnavailableError),
        (errno.EMFILE, StoreUnavailableError),
    ],
)
def test_errors_of_the_system(number: int, kind: type[StoreError]):
    error = translate(OSError(number, os.strerror(number)), "runs.db")
    assert type(error) is kind
    assert os.strerror(number) in str(error)


def test_an_error_of_ours_stays_as_it_is():
    error = StoreBusyError()
    assert translate(error, "runs.db") is error


def test_an_unknown_error_keeps_its_words():
    error = translate(sqlite3.OperationalError("something\nnew"), "runs.db")
    assert type(error) is StoreError
    assert str(error) == "runs.db: the database refused (something new)"
