"""Reading a file of runs: line by line, and nothing is taken on trust."""

from __future__ import annotations

import errno
import os
import stat
import sys
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

import orjson

from flowstore.errors import ConfigurationError, RunFileError
from flowstore.replay.portable.checks import check
from flowstore.replay.portable.events import Expected
from flowstore.replay.portable.fields import FieldError, a_list, an_object, shown, text
from flowstore.replay.portable.kinds import IMPORTED, KINDS, RUN
from flowstore.replay.portable.strict_json import JsonError, read_line
from flowstore.store import base
from flowstore.store.archive import Archive
from flowstore.store.base import RunRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT: Final = "flowstore-runs"
VERSION: Final = 1
STANDARD: Final = "-"
"""Stands for standard input, or output, in the place of a path."""

_MIB: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """How large a file of runs may be that is read.

    Attributes:
        line_bytes: one line, in bytes; the longest are snapshots of large states.
        file_bytes: the file, in bytes; reading takes some times as much memory.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1.
    """

    line_bytes: int = 32 * _MIB
    file_bytes: int = 1024 * _MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value: object = getattr(self, field.name)
            if type(value) is not int or value < 1:
                message = (
                    f"FileLimits.{field.name} is {value!r}; it must be a whole number from 1 up"
                )
                raise ConfigurationError(message)


def read_file(path: str | os.PathLike[str], *, limits: FileLimits | None = None) -> list[Archive]:
    """Return the runs of a file that ``flowstore export`` or `write_file` has written.

    All of the file is read and checked first, and is in memory then. Nothing is executed or
    imported by name. The runs have the ids 1, 2, 3 in place of those of a store.

    Args:
        path: the file; ``-`` reads standard input.
        limits: how large it may be.

    Raises:
        RunFileError: it cannot be read, or is not such a file from beginning to end, as it was
            written: the message names the line and what is wrong with it.
    """
    place = os.fspath(path)
    if place == STANDARD:
        return _Reading("standard input", limits or FileLimits()).read(sys.stdin.buffer)
    with _opened(place) as file:
        return _Reading(place, limits or FileLimits()).read(file)


def _opened(path: str) -> BinaryIO:
    try:
        # Opening a pipe that no one writes to would wait.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFileError(path, f"cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise RunFileError(path, "is not a file; to read a pipe, give - and redirect it")
    return os.fdopen(number, "rb", buffering=_MIB)


def end_line(counts: Mapping[str, int], digest: str) -> bytes:
    """Return the closing line, which has to be there byte for byte: no hash stands over it."""
    said = {"line": "end", **counts, "sha256": digest}
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


class _Reading:
    """One reading of a file."""

    def __init__(self, path: str, limits: FileLimits) -> None:
        self._path = path
        self._limits = limits
        self._number = 0
        self._bytes = 0
        self._digest = sha256()
        self._archives: list[Archive] = []
        self._names: dict[str, int] = {}
        self._events = 0
        self._archive: Archive | None = None
        self._expected = Expected(0, "", "")
        self._started_at = 0

    def read(self, file: BinaryIO) -> list[Archive]:
        """Return all runs."""
        lines = self._lines(file)
        try:
            self._take_header(next(lines, b""))
            if not self._has_ended(lines):
                self._refuse("there is no closing line: the file is cut off", self._number + 1)
            if next(lines, None) is not None:
                self._refuse("comes behind the closing line")
        except FieldError as error:
            self._refuse(str(error))
        except OSError as error:
            self._refuse(f"cannot be read: {error.strerror or os.strerror(errno.EIO)}")
        return self._archives

    def _has_ended(self, lines: Iterator[bytes]) -> bool:
        for line in lines:
            said = self._parse(line)
            if said.get("line") == "end":
                self._take_end(said, line)
                return True
            self._take(said)
            self._digest.update(line)
        return False

    def _refuse(self, problem: str, line: int | None = None) -> NoReturn:
        raise RunFileError(self._path, problem, self._number if line is None else line) from None

    # --- lines -----------------------------------------------------------------------------

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        longest = self._limits.line_bytes
        while line := file.readline(longest + 1):
            self._number += 1
            self._bytes += len(line)
            if len(line) > longest:
                self._refuse(f"is longer than {longest} bytes; see --max-line-bytes")
            if self._bytes > self._limits.file_bytes:
                self._refuse(f"is beyond {self._limits.file_bytes} bytes; see --max-bytes")
            if self._number == 1:
                self._refuse_wrapped(line)
            if not line.endswith(b"\n"):
                self._refuse("does not end: the file is cut off")
            yield line

    def _refuse_wrapped(self, line: bytes) -> None:
        if line.startswith(_GZIP):
            self._refuse("is compressed; try gunzip -c FILE | flowstore import -")
        if line.startswith(_BOM):
            self._refuse("begins with a byte order mark, which JSON has none of; remove it")
        if line.startswith(_SQLITE):
            self._refuse("is a database, not runs that were exported from one; see --store")
        if line.endswith(b"\r\n"):
            self._refuse(
                "ends like a line of Windows: something has turned the file's line ends; if it was "
                "git, have a line `*.jsonl -text` in .gitattributes"
            )

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            said = read_line(line)
        except JsonError as error:
            self._refuse(str(error))
        try:
            return an_object(said)
        except FieldError as error:
            self._refuse(str(error))

    # --- the first line and the last ---------------------------------------------------------

    def _take_header(self, line: bytes) -> None:
        if not line:
            self._refuse("the file is empty", 1)
        said = self._parse(line)
        if said.get("line") != "header" or said.get("format") != FORMAT:
            self._refuse(f'is not the first line of exported runs, with "format":"{FORMAT}"')
        version = said.get("version")
        if type(version) is not int or version < 1:
            self._refuse(f"'version' is {shown(version)}, not a whole number from 1")
        if version > VERSION:
            self._refuse(
                f"is of version {version} of the format, and this flowstore reads {VERSION}: "
                "use a newer one"
            )
        text(said.get("flowstore"))
        for each in a_list(said.get("redacted")):
            text(each)
        unknown = set(said) - {"line", "format", "version", "flowstore", "redacted"}
        if unknown:
            self._refuse(f"a header has no field {shown(min(unknown))}")
        self._digest.update(line)

    def _take_end(self, said: dict[str, Any], line: bytes) -> None:
        self._finish()
        counts = {"runs": len(self._archives), "events": self._events, "lines": self._number}
        for key, expected in counts.items():
            if said.get(key) != expected or type(said.get(key)) is not int:
                self._refuse(f"{key!r} is {shown(said.get(key))}, and the file has {expected}")
        if said.get("sha256") != self._digest.hexdigest():
            self._refuse("'sha256' is not that of the lines before it: the file was changed")
        if line != end_line(counts, self._digest.hexdigest()):
            self._refuse("is not written as a closing line is")

    # --- what is between -----------------------------------------------------------------------

    def _take(self, said: dict[str, Any]) -> None:
        archive = self._archive
        if "specversion" in said:
            if archive is None:
                raise FieldError("an event before any run")
            event, digest = self._expected.take(said)
            archive.events.append(event)
            archive.hashes.append(digest)
            self._events += 1
            return
        name = said.get("line")
        if name == "run":
            self._finish()
            self._begin(said)
            return
        kind = KINDS.get(name) if type(name) is str else None
        if kind is None:
            raise FieldError(f"no line is of kind {shown(name)}")
        if archive is None:
            raise FieldError(f"a {name} before any run")
        getattr(archive, kind.part).append(kind.take(said, archive.run.id))

    def _begin(self, said: dict[str, Any]) -> None:
        cells = RUN.take(said, 1)
        *cells, chain = cells
        name, workflow, status, head, cursor, version, epoch, *rest = cells
        if name in self._names:
            raise FieldError(f"run {shown(name)} is in line {self._names[name]} already")
        self._names[name] = self._started_at = self._number
        number = len(self._names)
        run = RunRow(number, name, workflow, status, head, cursor, version, epoch, None, *rest)
        run.chain = chain
        self._archive = Archive(run=run)
        self._expected = Expected(number, workflow, name)

    def _finish(self) -> None:
        """Check the run whose lines have all been read, and fill in what lines leave out."""
        archive = self._archive
        if archive is None:
            return
        run = archive.run
        archive.timers = [row._replace(workflow=run.workflow) for row in archive.timers]
        archive.tasks = [
            row._replace(owner=IMPORTED)
            if (row.kind, row.status) == (base.INTERNAL, base.PENDING)
            else row
            for row in archive.tasks
        ]
        run.waits, run.tasks = archive.count_outstanding()
        if run.status == "running" and run.cursor == run.head:
            run.status = base.WORKING
        try:
            check(archive)
        except FieldError as error:
            self._refuse(str(error), self._started_at)
        self._archives.append(archive)
        self._archive = None
