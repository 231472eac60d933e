"""Writing runs into a file that any store can take them from: see docs/portable-runs.md."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import orjson

from flowstore.errors import StoreCorruptError
from flowstore.replay.portable.events import source_of, tell_event
from flowstore.replay.portable.kinds import KINDS, RUN
from flowstore.replay.portable.reading import FORMAT, VERSION, end_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flowstore.store.archive import Archive

_DISTRIBUTION: Final = "flowstore-engine"


class RunWriter:
    """Writes runs as lines; complete once `end` has been called.

    Args:
        write: takes the lines, as bytes.
        redacted: the paths that have been redacted, for the header.

    Attributes:
        runs: how many have been written.
        events: how many, in all of these.
        lines: how many, with the header.
        bytes: how many.
    """

    def __init__(self, write: Callable[[bytes], object], redacted: Sequence[str] = ()) -> None:
        self._write = write
        self._digest = sha256()
        self.runs = self.events = self.lines = self.bytes = 0
        header = {
            "line": "header",
            "format": FORMAT,
            "version": VERSION,
            "flowstore": _flowstore_version(),
            "redacted": list(redacted),
        }
        self._put(header)

    def add(self, archive: Archive) -> None:
        """Write a run.

        Raises:
            StoreCorruptError: a column that holds JSON holds something else.
        """
        try:
            for said in lines_of(archive):
                self._put(said)
        except StoreCorruptError as error:
            message = f"run {archive.run.correlation_id!r}: {error}"
            raise StoreCorruptError(message) from error
        self.runs += 1
        self.events += len(archive.events)

    def end(self) -> None:
        """Write the closing line."""
        counts = {"runs": self.runs, "events": self.events, "lines": self.lines + 1}
        self._write_line(end_line(counts, self._digest.hexdigest()))

    def _put(self, said: dict[str, Any]) -> None:
        self._write_line(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))

    def _write_line(self, line: bytes) -> None:
        self._digest.update(line)
        self.lines += 1
        self.bytes += len(line)
        self._write(line)


def lines_of(archive: Archive) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run, as JSON objects for orjson."""
    run = archive.run
    cells = (
        run.correlation_id, run.workflow, run.shown_status, run.head, run.cursor, run.state_version,
        run.epoch, run.ready_at, run.result, run.reason, run.lineage, run.created_at,
        run.updated_at, run.chain,
    )  # fmt: skip
    yield RUN.tell(cells, {"line": "run"})
    source = source_of(run.workflow, run.correlation_id)
    for event, digest in zip(archive.events, archive.hashes, strict=True):
        yield tell_event(event, digest, run.correlation_id, source)
    for name, kind in KINDS.items():
        for row in getattr(archive, kind.part):
            yield kind.tell(row, {"line": name})


def _flowstore_version() -> str:
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
