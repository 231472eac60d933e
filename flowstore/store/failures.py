"""What SQLite, SQLAlchemy and the operating system report, as errors of flowstore's own."""

from __future__ import annotations

import errno
import re
import sqlite3

from sqlalchemy.exc import DBAPIError

from flowstore.errors import (
    SchemaError,
    StoreBusyError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

_FULL = (
    StoreFullError,
    "the disk is full; nothing of this commit was written: make room and send it again",
)
_NOT_WRITABLE = (
    StoreUnavailableError,
    (
        "the database is read-only: give this user the right to write the file and its folder, "
        "in which SQLite makes files beside it"
    ),
)
_CANNOT_OPEN = (
    StoreUnavailableError,
    (
        "the database cannot be opened: check that the file and its folder are there and that "
        "this user may read and write both"
    ),
)
_BUSY = (
    StoreBusyError,
    (
        "another connection kept the database locked for too long: end the program that holds "
        "it, or allow more time with ?busy_timeout=SECONDS"
    ),
)
_DAMAGED = (
    StoreCorruptError,
    (
        "the database is damaged: put it aside and restore a backup; `sqlite3 FILE .recover` "
        "saves what can be read"
    ),
)
_NOT_A_DATABASE = (StoreCorruptError, "the file is not a database: name another file")
_FAILED_IO = (
    StoreUnavailableError,
    "reading or writing the disk failed: check the disk and the system's log",
)
_CLOSED = (StoreClosedError, "the store has been closed")

_Verdict = tuple[type[StoreError], str]

_BY_CODE: dict[int, _Verdict] = {
    sqlite3.SQLITE_FULL: _FULL,
    # Growing the WAL's index is a plain write: all that can be wrong with it is the room.
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
    sqlite3.SQLITE_READONLY_DBMOVED: (
        StoreUnavailableError,
        "the file was moved or deleted while it was open: put it back, or start anew",
    ),
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_AUTH: _CANNOT_OPEN,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _NOT_A_DATABASE,
    sqlite3.SQLITE_IOERR: _FAILED_IO,
}

_BY_ERRNO: dict[int, _Verdict] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _NOT_WRITABLE,
    errno.EACCES: _CANNOT_OPEN,
    errno.EPERM: _CANNOT_OPEN,
    errno.ENOENT: _CANNOT_OPEN,
    errno.ENOTDIR: _CANNOT_OPEN,
    errno.EIO: _FAILED_IO,
}

# The driver's own complaints, and those of old drivers, come without a code.
_BY_MESSAGE: tuple[tuple[str, _Verdict], ...] = (
    ("database or disk is full", _FULL),
    ("readonly database", _NOT_WRITABLE),
    ("unable to open database", _CANNOT_OPEN),
    ("is locked", _BUSY),
    ("malformed", _DAMAGED),
    ("could not decode to utf-8", _DAMAGED),
    ("not a database", _NOT_A_DATABASE),
    ("disk i/o error", _FAILED_IO),
    ("closed database", _CLOSED),
    ("connection closed", _CLOSED),
    ("no active connection", _CLOSED),
)

_MISSING = re.compile(r"no such (?:table|column): \S+|has no column named \S+")


def translate(error: BaseException, where: str) -> StoreError:
    """Return what an error of the driver means for the user; to be raised ``from error``.

    Args:
        error: of ``sqlite3``, SQLAlchemy or the operating system; one of flowstore's own is
            returned as it is.
        where: the database, as the user knows it: the first words of the message.
    """
    if isinstance(error, StoreError):
        return error
    cause = error
    while isinstance(cause, DBAPIError) and cause.orig is not None:
        cause = cause.orig
    kind, advice = _judge(cause)
    return kind(f"{where}: {advice} ({_told(cause)})")


def _judge(cause: BaseException) -> _Verdict:
    text = str(cause).lower()
    if _MISSING.search(text):
        return SchemaError, (
            "this is not a flowstore database, or its schema is not this version's: name "
            "another file, or run `flowstore db upgrade`"
        )
    if isinstance(cause, OSError):
        return _BY_ERRNO.get(cause.errno or 0, (StoreUnavailableError, "the system refused"))
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        # The low byte is the kind of error, the rest is the particular case.
        verdict = _BY_CODE.get(code) or _BY_CODE.get(code & 0xFF)
        if verdict is not None:
            return verdict
    for part, verdict in _BY_MESSAGE:
        if part in text:
            return verdict
    return StoreError, "the database refused"


def _told(cause: BaseException) -> str:
    """Return the original's words on one line, with SQLite's name for the error."""
    name = getattr(cause, "sqlite_errorname", None)
    text = " ".join(str(cause).split()) or type(cause).__name__
    return f"{name}: {text}" if name else text
