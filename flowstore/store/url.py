"""What users give as a store: a path, a URL or ``:memory:``."""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypedDict, cast
from urllib.parse import unquote

from flowstore.errors import StoreUrlError

MEMORY = ":memory:"

_SYNCHRONOUS = ("FULL", "NORMAL", "EXTRA", "OFF")
# SQLite keeps the timeout as milliseconds in 32 bits.
_LONGEST_TIMEOUT = 2_147_483.0
_PARAMETERS = ("synchronous", "busy_timeout")

# One letter before the colon is a drive, not a scheme.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)(?P<rest>.*)", re.DOTALL)
_KNOWN_SCHEMES = frozenset({"sqlite", "sqlite3", "file", "mysql", "postgres", "postgresql"})
_PASSWORD = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*:/*[^:@]*):.*@", re.DOTALL)
_SECRET = re.compile(r"(?i)([?&][^=&]*(?:passw|pwd|secret|token|key)[^=&]*=)[^&]*")


class _Options(TypedDict, total=False):
    synchronous: str
    busy_timeout: float


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where a store is and how it is opened.

    Args:
        path: the database file; None for a store in memory, which ends with the process.
        synchronous: when SQLite waits for the disk: ``FULL``, ``NORMAL``, ``EXTRA``, ``OFF``.
        busy_timeout: how long to wait for a locked database, in seconds.
    """

    path: Path | None
    synchronous: str = "FULL"
    busy_timeout: float = 30.0

    @property
    def memory_uri(self) -> str:
        """The URI of a store in memory: shared by the connections made from this object."""
        # SQLite shares what is named with a slash, under locks that a busy timeout waits for;
        # `cache=shared` fails at once where two connections meet.
        return f"file:/flowstore-{id(self):x}?vfs=memdb"


def parse(store: str | os.PathLike[str]) -> StoreUrl:
    """Turn a path or URL into a `StoreUrl`; opens nothing.

    Args:
        store: a path (a string or a `Path`, taken as it is, ``~`` included),
            ``sqlite:///relative.db`` or ``sqlite:////absolute.db`` with, if wanted,
            ``?synchronous=NORMAL&busy_timeout=SECONDS``, or ``:memory:``. In a URL ``%3F``
            stands for a question mark in the path and ``%25`` for a percent sign.

    Raises:
        StoreUrlError: it cannot be understood, or there can be no database at that place.
    """
    try:
        text = cast("str | bytes", os.fspath(store))
    except TypeError:
        text = b""
    if isinstance(text, bytes):
        message = (
            f"store {store!r}: is of type {type(store).__name__}; "
            "give a path as a string or a Path, such as 'runs.db'"
        )
        raise StoreUrlError(message)
    if not text.strip():
        _refuse(text, "is empty", "write a path such as 'runs.db', or ':memory:'")
    if text == MEMORY:
        return StoreUrl(None)
    found = None if isinstance(store, os.PathLike) else _SCHEME.fullmatch(text)
    if found is None or not (found["slashes"] or found["scheme"].lower() in _KNOWN_SCHEMES):
        return _parse_path(text)
    return _parse_url(text, found["scheme"].lower(), found["slashes"], found["rest"])


def mask(text: str) -> str:
    """Return the text with any password in it replaced by ``***``, for messages and logs."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def _refuse(text: str, problem: str, remedy: str) -> NoReturn:
    message = f"store {mask(text)!r}: {problem}; {remedy}"
    raise StoreUrlError(message)


def _parse_path(text: str) -> StoreUrl:
    path, _, query = text.partition("?")
    if query.partition("=")[0] in _PARAMETERS:
        _refuse(text, "a path takes no parameters", f"write 'sqlite:///{path}?{query}'")
    return StoreUrl(_checked(text, text))


def _parse_url(text: str, scheme: str, slashes: str, rest: str) -> StoreUrl:
    family = scheme.partition("+")[0]
    if family in ("postgres", "postgresql"):
        _refuse(
            text,
            "PostgreSQL is not available in this version of flowstore",
            "use a SQLite database, such as 'runs.db'",
        )
    location, _, query = rest.partition("?")
    if scheme != "sqlite":
        example = _example(location if family in ("sqlite", "sqlite3", "file") else "", slashes)
        _refuse(text, f"{scheme!r} is not a kind of store", f"write {example!r}")
    options = _parse_query(text, query)
    if (len(slashes) in (2, 3) and location == MEMORY) or (slashes == "//" and not location):
        return StoreUrl(None, **options)
    if len(slashes) < len("///"):
        remedy = f"write {_example(location, slashes)!r} (four slashes for an absolute path)"
        _refuse(text, "has too few slashes before the path", remedy)
    path = unquote(slashes[len("///") :] + location)
    if not path:
        remedy = "write 'sqlite:///runs.db', or 'sqlite://' for a store in memory"
        _refuse(text, "has no path", remedy)
    return StoreUrl(_checked(text, path), **options)


def _example(location: str, slashes: str) -> str:
    """Return the URL that was probably meant; never one with a password in it."""
    if not location or "@" in location:
        return "sqlite:///runs.db"
    absolute = len(slashes) == 1 or len(slashes) > len("///")
    return f"sqlite:///{'/' if absolute else ''}{location}"


def _parse_query(text: str, query: str) -> _Options:
    options = _Options()
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in _PARAMETERS:
            known = " and ".join(_PARAMETERS)
            _refuse(text, f"has no parameter {name!r}", f"the parameters are {known}")
        if name in options:
            _refuse(text, f"gives {name} twice", "give it once")
        if name == "synchronous":
            options["synchronous"] = _parse_synchronous(text, value)
        else:
            options["busy_timeout"] = _parse_timeout(text, value)
    return options


def _parse_synchronous(text: str, value: str) -> str:
    if value.upper() not in _SYNCHRONOUS:
        _refuse(text, f"synchronous is {value!r}", f"write one of {', '.join(_SYNCHRONOUS)}")
    return value.upper()


def _parse_timeout(text: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_TIMEOUT:
        remedy = f"write seconds from 0 to {_LONGEST_TIMEOUT:.0f}, such as busy_timeout=30"
        _refuse(text, f"busy_timeout is {value!r}", remedy)
    return seconds


def _checked(text: str, path: str) -> Path:
    """Return the path if there is a database at it, or if there could be one."""
    if "\0" in path:
        _refuse(text, "holds a NUL character", "write a path without it")
    place = Path(path)
    mode = _mode(text, place)
    if path.endswith("/") or stat.S_ISDIR(mode):
        _refuse(text, "is a folder", f"name a file in it, such as {str(place / 'runs.db')!r}")
    if mode and not stat.S_ISREG(mode):
        _refuse(text, "is not a regular file", "name a file, such as 'runs.db'")
    if not mode and not place.parent.is_dir():
        remedy = "make it, or name a file in a folder that is there"
        if place.parts[0].startswith("~"):
            remedy = "~ is taken as it stands: write the folder out, or use Path.expanduser()"
        _refuse(text, f"there is no folder {str(place.parent)!r}", remedy)
    return place


def _mode(text: str, place: Path) -> int:
    try:
        return place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        remedy = "name a file that you may read and write"
        _refuse(text, (error.strerror or str(error)).lower(), remedy)
