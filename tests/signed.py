"""Files of runs whose closing line fits whatever is in them, and how they are refused."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from portable import EVERYTHING, archives_of, live

from flowstore.errors import RunFileError
from flowstore.replay import FileLimits, read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Line = dict[str, Any]


def export_everything(folder: Path) -> bytes:
    """Return an export of runs in which every kind of line occurs."""
    asyncio.run(live(folder / "runs.db", EVERYTHING))
    write_file(folder / "runs.jsonl", asyncio.run(archives_of(folder / "runs.db")))
    return (folder / "runs.jsonl").read_bytes()


def signed(lines: list[bytes]) -> bytes:
    """Return a file of these lines whose closing line fits: as who wants to deceive makes it."""
    body = b"".join(line + b"\n" for line in lines)
    end = {
        "line": "end",
        "runs": sum(b'"line":"run"' in line for line in lines),
        "events": sum(b'"specversion"' in line for line in lines),
        "lines": len(lines) + 1,
        "sha256": sha256(body).hexdigest(),
    }
    return body + orjson.dumps(end) + b"\n"


def resigned(exported: bytes, change: Callable[[list[Line]], object]) -> bytes:
    """Return an export with its lines changed, and signed anew."""
    lines: list[Line] = [json.loads(line) for line in exported.splitlines()[:-1]]
    change(lines)
    return signed([orjson.dumps(line) for line in lines])


def refusal(folder: Path, content: bytes, **limits: int) -> RunFileError:
    """Return how a file is refused."""
    (folder / "bad.jsonl").write_bytes(content)
    with pytest.raises(RunFileError) as caught:
        read_file(folder / "bad.jsonl", limits=FileLimits(**limits))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{folder / 'bad.jsonl'}, line ")
    return caught.value
