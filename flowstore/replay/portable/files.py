"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flowstore.errors import RunFileError
from flowstore.replay.portable.redaction import Redaction
from flowstore.replay.portable.writing import RunWriter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from flowstore.store.archive import Archive

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems say that have no hard links."""


def write_file(
    path: str | os.PathLike[str],
    archives: Iterable[Archive],
    *,
    force: bool = False,
    redact: Sequence[str] = (),
) -> None:
    """Write runs into a file that `read_file` reads: all of them, or there is no such file.

    Args:
        path: the file.
        archives: the runs, as a store or `read_file` has given them.
        force: a file that is there is replaced.
        redact: paths to values that are hidden, such as ``data.email``; see
            docs/portable-runs.md.

    Raises:
        ConfigurationError: one of ``redact`` is not a path.
        RunFileError: the file is there, or cannot be written.
        StoreCorruptError: a run has a column with something that it cannot hold.
    """
    redaction = Redaction(redact)
    with written_whole(path, force=force) as file:
        writer = RunWriter(file.write, redaction.paths)
        for archive in archives:
            writer.add(redaction.redacted(archive))
        writer.end()


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], *, force: bool) -> Generator[BinaryIO]:
    """Give a file to write to, which takes its place when all is written and on the disk.

    Raises:
        RunFileError: there is such a file, or it cannot be written.
    """
    place = Path(path)
    _refuse_unfit(place, force=force)
    temporary = place.with_name(f".{place.name[:100]}.{secrets.token_hex(8)}")
    try:
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        with os.fdopen(number, "wb", buffering=1024 * 1024) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, place, force=force)
    except OSError as error:
        raise _unwritable(place, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_unfit(place: Path, *, force: bool) -> None:
    if place.is_dir():
        raise RunFileError(str(place), "is a folder; name a file in it")
    if place.exists() and not place.is_file():
        raise RunFileError(str(place), "is not a file; use - for standard output")
    if not force and (place.exists() or place.is_symlink()):
        raise RunFileError(str(place), "is there already; --force replaces it")


def _unwritable(place: Path, error: OSError) -> RunFileError:
    if isinstance(error, FileExistsError):
        return RunFileError(str(place), "is there already; --force replaces it")
    return RunFileError(str(place), f"cannot be written: {error.strerror or error}")


def _put_in_place(temporary: Path, place: Path, *, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, place)  # unlike a rename, it never replaces
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return
        _refuse_unfit(place, force=False)
    temporary.replace(place)
