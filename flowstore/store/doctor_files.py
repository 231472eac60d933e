"""What a look at the files of a database finds: without opening the database itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flowstore.printable import counted
from flowstore.store.doctor_findings import error, info, warning
from flowstore.store.lock import presence_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.store.doctor_findings import Finding

LEAST_ROOM: Final = 100 * 1024 * 1024
"""Bytes that should be free on the disk."""

LARGE_WAL: Final = 64 * 1024 * 1024
"""Bytes: the writer folds its WAL into the file long before, if no reader holds it up."""

RESET_FIXED: Final = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""Where SQLite has no WAL-reset bug any more, from here to the end of each series and, from the
last, for good: https://sqlite.org/wal.html#walresetbug."""

_DESCRIPTORS: Final = Path("/proc")


class Workers(NamedTuple):
    """The workers that the database knows, by whether they live on this machine."""

    live: set[str]
    dead: set[str]


def look_at_files(path: Path) -> Iterator[Finding]:
    """Yield what is found of the database's file, those beside it, and the disk."""
    yield from _permissions(path)
    yield from _room(path)
    yield from _wal(path)
    yield from _leftovers(path)


def lives(path: Path, worker_id: str) -> bool:
    """Tell whether a worker on this machine holds its sign of life; leaves its file alone."""
    try:
        descriptor = os.open(presence_path(path, worker_id), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def look_at_sqlite(live_workers: int) -> Iterator[Finding]:
    """Yield what is known of the SQLite that this Python has."""
    if has_reset_bug(sqlite3.sqlite_version_info):
        message = (
            f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: in rare cases it damages a "
            "database to which several connections write or fold the WAL back at the same moment"
        )
        remedy = (
            "use a Python with SQLite 3.51.3 or newer; until then let flowstore's own processes "
            "alone write, which do so in turn (https://sqlite.org/wal.html#walresetbug)"
        )
        yield (
            warning("sqlite", message, remedy)
            if live_workers > 1
            else info("sqlite", message, remedy)
        )


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether this version of SQLite has the WAL-reset bug."""
    is_mended = any(version[:2] == fixed[:2] and version >= fixed for fixed in RESET_FIXED)
    return version < RESET_FIXED[-1] and not is_mended


def _permissions(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        message = f"every user of this machine may write it (mode {stat.S_IMODE(mode):o})"
        yield warning("permissions", message, f"chmod o-w {path}")
    if not os.access(path, os.R_OK):
        yield error("permissions", "this user may not read it", f"chmod u+r {path}, or its owner")
    elif not os.access(path, os.W_OK):
        yield info("permissions", "this user may read it, not write it")
    elif not os.access(path.parent, os.W_OK):
        message = "its folder cannot be written, in which SQLite makes files beside it"
        yield info("permissions", message, "give workers the right to write the folder")
    beside = (path.with_name(path.name + tail) for tail in ("-wal", "-shm", "-lock"))
    for file in beside:
        if file.exists() and os.access(path, os.W_OK) and not os.access(file, os.W_OK):
            message = f"{file.name} cannot be written by this user, although the database can"
            yield warning("permissions", message, f"chown it to the owner of {path.name}")


def _room(path: Path) -> Iterator[Finding]:
    free, size = shutil.disk_usage(path.parent).free, path.stat().st_size
    if free < LEAST_ROOM:
        message = f"{free // 2**20} MB are free on its disk"
        yield warning("disk", message, "make room; `flowstore prune` removes runs that are over")
    elif free < 2 * size:
        message = (
            f"{free // 2**20} MB are free on its disk, and it has {size // 2**20} MB: too little "
            "for a backup, an upgrade, or to make it smaller"
        )
        yield info("disk", message, "make room before you do one of these")


def _wal(path: Path) -> Iterator[Finding]:
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size < LARGE_WAL:
        return
    message = f"the WAL has {size // 2**20} MB: a reader holds it, or nobody writes any more"
    holders = ", ".join(map(str, _holders(path)))
    if holders:
        message += f"; processes that have it open: {holders}"
    yield warning(
        "wal", message, "end what reads for long; the next writer then folds it into the file"
    )


def _holders(path: Path) -> list[int]:
    """Return the processes that have the WAL open, as far as this user may know."""
    wal, found = str(path.resolve()) + "-wal", list[int]()
    if not _DESCRIPTORS.is_dir():
        return found
    for process in _DESCRIPTORS.iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            names = [str(each.readlink()) for each in (process / "fd").iterdir()]
        except OSError:
            continue
        if wal in names:
            found.append(int(process.name))
    return sorted(found)


def _leftovers(path: Path) -> Iterator[Finding]:
    backups: list[Path] = []
    dead: list[Path] = []
    for file in sorted(path.parent.iterdir()):
        rest = file.name.removeprefix(path.name)
        if rest == file.name:
            continue
        if rest.endswith(".partial"):
            message = f"{file.name} is left of a backup that was not finished"
            yield warning("files", message, f"remove {file}")
        elif rest.startswith(".backup-"):
            backups.append(file)
        elif rest == "-journal":
            message = f"{file.name} is left of a program that has not used the WAL"
            yield warning("files", message, "open the database once with flowstore; do not remove")
        elif rest.startswith("-worker-") and not lives(path, rest.removeprefix("-worker-")):
            dead.append(file)
    if backups:
        size = sum(file.stat().st_size for file in backups) // 2**20
        lie = "lies" if len(backups) == 1 else "lie"
        message = f"{counted(len(backups), 'backup')} of upgrades {lie} beside it, {size} MB"
        yield info("files", message, "remove them when the upgrade has proved itself")
    if dead:
        lie = "lies" if len(dead) == 1 else "lie"
        message = f"{counted(len(dead), 'file')} of workers that are gone {lie} beside it"
        yield info("files", message, "the next worker removes them")
