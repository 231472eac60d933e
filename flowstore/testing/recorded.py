"""Recorded runs as test cases: exported runs, kept in a repository, to check code against."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowstore.errors import AcceptedFileError, RunFileError
from flowstore.replay import read_file
from flowstore.replay.accepted import AcceptedChanges
from flowstore.replay.accepted_file import add_accepted, read_accepted
from flowstore.replay.check import Checker, grouped
from flowstore.replay.telling import divergence_lines, trait_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flowstore.replay.accepted import Accepted
    from flowstore.replay.check import Verdict
    from flowstore.replay.rerun import Workflow
    from flowstore.store.archive import Archive

UPDATE: Final = "FLOWSTORE_UPDATE"
"""The environment variable, and the name of pytest's option, that has divergences accepted."""

_ACCEPTED: Final = ".accepted.toml"
_OF_PROJECTS: Final = ("pyproject.toml", ".git", "pytest.ini", "tox.ini", "setup.cfg", "setup.py")


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run in a file, as a parameter of a test.

    Attributes:
        path: the file, made by ``flowstore export``.
        archive: all there is of the run; None if the file cannot be read.
        problem: why it cannot; None if it can.
    """

    path: Path
    archive: Archive | None
    problem: str | None = None

    @property
    def name(self) -> str:
        """The run's correlation_id, or the file if it cannot be read."""
        return self.path.name if self.archive is None else self.archive.run.correlation_id

    @property
    def accepted(self) -> Path:
        """The file beside it that says which divergences are intended."""
        return self.path.with_name(self.path.name.removesuffix(".jsonl") + _ACCEPTED)

    def __str__(self) -> str:
        return self.name


def recorded_runs(*patterns: str | os.PathLike[str]) -> list[Any]:
    """Return the runs in files, as values for ``pytest.mark.parametrize``.

    Each is a test case of its own, called by the run's correlation_id. A file that cannot be read
    is one too, which fails.

    Args:
        *patterns: files that ``flowstore export`` made, as in ``"runs/*.jsonl"``; looked for in the
            folder of the calling file, then in those above it, up to the first that has one, and
            no further than the project (where ``pyproject.toml``, ``.git`` or the like is).

    Raises:
        FileNotFoundError: no file is there: a test of nothing would pass.
    """
    import pytest  # noqa: PLC0415 - the rest of this package is of use without it

    caller = sys._getframe(1)  # noqa: SLF001 - whose files they are  # pyright: ignore[reportPrivateUsage]
    start = Path(caller.f_code.co_filename).resolve().parent
    runs: list[Any] = []
    for pattern in patterns:
        for path in _files(os.fspath(pattern), start):
            runs += [pytest.param(run, id=run.name) for run in _runs(path)]
    return runs


def _files(pattern: str, start: Path) -> list[Path]:
    given = Path(pattern)
    if given.is_absolute():
        folders = [Path(given.anchor)]
        pattern = str(given.relative_to(given.anchor))
    else:
        folders = _within_the_project(start)
    for folder in folders:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found
    raise FileNotFoundError(
        f"no file is called {pattern!r} in {start} or above; make one with "
        "flowstore export RUN -o FILE"
    )


def _within_the_project(start: Path) -> list[Path]:
    folders = [start, *start.parents]
    for count, folder in enumerate(folders, 1):
        if any((folder / name).exists() for name in _OF_PROJECTS):
            return folders[:count]
    return folders


def _runs(path: Path) -> list[RecordedRun]:
    try:
        return [RecordedRun(path, archive) for archive in read_file(path)]
    except (RunFileError, OSError) as error:
        return [RecordedRun(path, None, str(error))]


async def assert_replays(
    workflow: Workflow,
    run: RecordedRun | Archive,
    *,
    ignore: Sequence[str] = (),
    live: Collection[str] = (),
    accepted: str | os.PathLike[str] | None = None,
    guard: bool = True,
) -> None:
    """Check that the handlers do with a recorded run what they did then.

    Nothing is written, no step that is recorded runs again, and no database is opened. Where the
    code is meant to do something else now, have that said by ``pytest --flowstore-update
    "the reason"`` (with ``pytest_plugins = ["flowstore.testing.plugin"]`` in the outermost
    ``conftest.py``), or ``FLOWSTORE_UPDATE="the reason" pytest``: it is written into a small file
    beside the run, ``order.accepted.toml`` beside ``order.jsonl``, to be reviewed with the change.

    Args:
        workflow: the code: a `WorkflowManager` with its handlers.
        run: the run, from `recorded_runs`, or from `flowstore.replay.read_file`.
        ignore: paths that do not count, as in `flowstore.replay.rerun`.
        live: names of steps that really run, likewise.
        accepted: the file that says which divergences are intended; None for the one beside the
            run.
        guard: end the replay where a handler reaches for something outside the process.

    Raises:
        AssertionError: it goes another way; the message says where, with what was and what is.
        AcceptedFileError: the file of accepted divergences is not understood.
    """
    __tracebackhide__ = True
    archive, place = _parts(run, accepted)
    name, reason = archive.run.correlation_id, os.environ.get(UPDATE)
    known = AcceptedChanges(read_accepted(place) if place is not None and place.exists() else ())
    checker = Checker(
        workflow,
        ignore=ignore,
        live=live,
        accepted=known,
        guard=guard,
        finds_all=reason is not None,
    )
    verdict = await checker.check(archive)
    outdated = known.unseen(name)
    if reason is None or verdict.problem is not None:
        message = _message(verdict, archive, place) or _leftover(name, outdated, place)
        if message:
            raise AssertionError(message)
    elif verdict.fresh or outdated:
        if place is None:
            raise AcceptedFileError("say with accepted= where to write what is accepted")
        new = [group.accept(_checked(reason), run=name) for group in grouped([verdict])]
        add_accepted(place, new, outdated=outdated)


def _parts(
    run: RecordedRun | Archive, accepted: str | os.PathLike[str] | None
) -> tuple[Archive, Path | None]:
    """Return what there is of a run, and the file of what is accepted."""
    place = None if accepted is None else Path(accepted)
    if not isinstance(run, RecordedRun):
        return run, place
    if run.archive is None:
        raise AssertionError(run.problem)
    return run.archive, place or run.accepted


def _checked(reason: str) -> str:
    if not reason.strip():
        raise AcceptedFileError(f"{UPDATE} is empty: say why the changes are intended")
    return reason


def _leftover(name: str, outdated: Sequence[Accepted], place: Path | None) -> str:
    """Say what is accepted for nothing; nothing if all of it is needed."""
    if not outdated:
        return ""
    lines = [f"run {name!r}: what is accepted in {place} does not occur any more:"]
    lines += [f"  {trait_text(entry.trait, entry.paths)}" for entry in outdated]
    return "\n".join([*lines, "take it out, or have it taken out by an update"])


def _message(verdict: Verdict, archive: Archive, place: Path | None) -> str:
    name = verdict.correlation_id
    if verdict.problem is not None:
        return f"run {name!r} cannot be executed again: {verdict.problem}"
    if verdict.divergence is None:
        return ""
    divergence = verdict.divergence
    lines = [f"run {name!r} of workflow {archive.run.workflow!r} goes another way:"]
    lines += divergence_lines(divergence)
    if place is not None:
        with suppress(ValueError):
            place = place.relative_to(Path.cwd())
        lines.append(
            f'if that is intended: pytest --flowstore-update "why", which writes {place}; '
            "or ignore= the paths"
        )
    return "\n".join(lines)
