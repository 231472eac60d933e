"""Divergences that are intended: a small file that people review, beside the code or the runs.

It is TOML, one table for each intended change::

    [[accepted]]
    handler = "fold"
    kind = "state"
    paths = ["+state.vat", "state.total"]
    reason = "totals have VAT since 2.0"

What it names are a handler, a kind and paths, no values and no positions: it holds for all runs in
which that change shows, and outlives edits elsewhere. ``+`` and ``-`` before a path say that there
was nothing then, or is nothing now; ``*`` stands for any one key or index.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from flowstore.errors import AcceptedFileError
from flowstore.replay.accepted import Accepted, Trait
from flowstore.replay.report import Kind

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

_TABLE: Final = "accepted"
_HEADER: Final = re.compile(rf"^[ \t]*\[\[[ \t]*{_TABLE}[ \t]*\]\]", re.MULTILINE)
_HEAD: Final = """\
# Divergences from recorded runs that are intended. Each was found by `flowstore check --update`
# or `pytest --flowstore-update`; a divergence that is not described here is reported.
"""
_TEXTS: Final = ("detail", "event", "run")
_NEEDED: Final = ("handler", "kind", "reason")
_LARGEST: Final = 4 * 1024 * 1024


def read_accepted(path: Path) -> list[Accepted]:
    """Return the changes that a file describes.

    Raises:
        AcceptedFileError: there is no such file, or it is not understood.
    """
    return _entries(_text(path), path)


def add_accepted(path: Path, new: Sequence[Accepted], *, outdated: Sequence[Accepted] = ()) -> None:
    """Write changes into a file, which is made if there is none; what else is in it stays.

    Args:
        path: the file.
        new: what is written at its end.
        outdated: what is taken out of it.

    Raises:
        AcceptedFileError: it is there and not understood, or cannot be written.
    """
    if path.exists() and not path.is_file():
        raise AcceptedFileError(f"{path}: is not a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            text = _without(_text(path), path, outdated) if path.exists() else _HEAD
            for entry in new:
                text = f"{text.rstrip()}\n\n{_written(entry)}"
            fresh = path.with_name(f"{path.name}.new")
            try:
                fresh.write_text(text, encoding="utf-8")
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
    except OSError as error:
        raise AcceptedFileError(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Let no other process write in the folder meanwhile, which tests in parallel may want to."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise AcceptedFileError(
                f"{path}: is larger than {_LARGEST:,} bytes, and no file of changes"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "is not UTF-8"
        raise AcceptedFileError(
            f"{path}: {problem}; `flowstore check --update` makes one"
        ) from error


def _entries(text: str, path: Path) -> list[Accepted]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AcceptedFileError(f"{path}: is not TOML: {error}") from error
    others = document.keys() - {_TABLE}
    tables: list[Any] = document.get(_TABLE, [])
    if others or not isinstance(tables, list):  # pyright: ignore[reportUnnecessaryIsInstance] - it is from a file
        names = ", ".join(sorted(others)) or _TABLE
        raise AcceptedFileError(f"{path}: has {names}; it has tables [[{_TABLE}]] and nothing else")
    return [_entry(each, f"{path}, entry {number}") for number, each in enumerate(tables, 1)]


def _entry(table: Any, place: str) -> Accepted:
    if not isinstance(table, dict):
        raise AcceptedFileError(f"{place}: is no table")
    fields = cast("dict[str, Any]", table)
    unknown = fields.keys() - {*_NEEDED, *_TEXTS, "paths"}
    if unknown:
        raise AcceptedFileError(f"{place}: {', '.join(sorted(unknown))} is not known")
    for name in (*_NEEDED, *_TEXTS):
        value: Any = fields.get(name)
        if not (isinstance(value, str) or (value is None and name in _TEXTS)):
            raise AcceptedFileError(f"{place}: {name} must be a text")
    if not fields["reason"].strip():
        raise AcceptedFileError(f"{place}: reason is empty; say why the change is intended")
    if fields["kind"] not in get_args(Kind):
        raise AcceptedFileError(f"{place}: kind must be one of {', '.join(get_args(Kind))}")
    paths: Any = fields.get("paths", [])
    if not (isinstance(paths, list) and all(isinstance(each, str) for each in paths)):  # pyright: ignore[reportUnknownVariableType]
        raise AcceptedFileError(f"{place}: paths must be a list of texts")
    return Accepted(
        trait=Trait(
            handler=fields["handler"] or None, kind=fields["kind"], detail=fields.get("detail")
        ),
        paths=tuple(cast("list[str]", paths)),
        reason=fields["reason"],
        event=fields.get("event"),
        run=fields.get("run"),
    )


def _without(text: str, path: Path, outdated: Sequence[Accepted]) -> str:
    """Take entries out of a text, with the comments in them; refuse a text that is no such file."""
    entries = _entries(text, path)
    starts = [found.start() for found in _HEADER.finditer(text)]
    if len(starts) != len(entries):  # a text in it looks like a header: written anew
        kept = [entry for entry in entries if entry not in outdated]
        return _HEAD + "".join(f"\n{_written(entry)}" for entry in kept)
    ends = [*starts[1:], len(text)] if starts else []
    parts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    lasting = [part for part, entry in zip(parts, entries, strict=True) if entry not in outdated]
    return "".join([text[: starts[0]] if starts else text, *lasting])


def _written(entry: Accepted) -> str:
    lines = [f"[[{_TABLE}]]"]
    for name, value in entry.to_json().items():
        if isinstance(value, list):
            texts = ", ".join(_quoted(each) for each in cast("list[str]", value))
            lines.append(f"{name} = [{texts}]")
        else:
            lines.append(f"{name} = {_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as TOML has it, which is as JSON does but for DEL and lone surrogates."""
    lasting = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(lasting, ensure_ascii=False).replace("\x7f", "\\u007f")
