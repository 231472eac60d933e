"""The command ``check``: recorded runs are executed again with the code at hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import typer

from flowstore.cli import output, terminal
from flowstore.cli.junit import write_junit
from flowstore.cli.loading import load
from flowstore.cli.options import FAILED, OK, STORE
from flowstore.cli.output import printable
from flowstore.cli.recorded import Wanted, runs_in
from flowstore.clock import SystemClock, to_datetime
from flowstore.errors import FlowstoreError
from flowstore.replay.accepted import AcceptedChanges
from flowstore.replay.accepted_file import add_accepted, read_accepted
from flowstore.replay.check import (
    DIVERGED,
    IDENTICAL,
    UNREADABLE,
    Checker,
    Findings,
    Verdict,
    grouped,
    unreadable,
)
from flowstore.replay.telling import trait_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from flowstore.cli.recorded import Runs
    from flowstore.replay.check import Group

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        app: the code.
        store: where the runs are.
        workflow: whose; None for the app's own.
        runs: only these; empty for all.
        since: only runs with something new since; microseconds since 1970.
        statuses: only runs with one of these; empty for all.
        limit: how many at most.
        ignore: paths that do not count.
        live: steps that really run.
        accept: the file that says which divergences are intended.
        update: the file that is to say so of those that are found.
        reason: why those are.
        junit: the file for JUnit XML.
        is_guarded: whether handlers are kept from reaching outside.
        as_json: whether JSON is printed.
    """

    app: str
    store: str
    workflow: str | None
    runs: tuple[str, ...]
    since: int | None
    statuses: frozenset[str]
    limit: int | None
    ignore: tuple[str, ...]
    live: tuple[str, ...]
    accept: Path | None
    update: Path | None
    reason: str | None
    junit: Path | None
    is_guarded: bool
    as_json: bool


def check(request: Request) -> int:
    """Execute runs again, and print which of them diverge."""
    _refuse_nonsense(request)
    accepted = AcceptedChanges(
        entry
        for path in dict.fromkeys([request.accept, request.update])
        if path is not None and (path == request.accept or path.exists())
        for entry in read_accepted(path)
    )
    workflow = load(request.app)
    checker = Checker(
        workflow,
        ignore=request.ignore,
        live=request.live,
        accepted=accepted,
        guard=request.is_guarded,
        finds_all=request.update is not None,
    )
    wanted = Wanted(
        workflow=request.workflow or workflow.name,
        runs=request.runs,
        since=request.since,
        statuses=request.statuses,
        limit=request.limit,
    )
    began = to_datetime(SystemClock().now()).isoformat(timespec="seconds").removesuffix("+00:00")
    findings = Findings()
    checking = Checking(checker, runs_in(request.store), wanted, workflow.name, findings)
    checking.run()
    if request.junit is not None:
        _write_junit(request.junit, wanted.workflow, findings, began)
    return _conclude(request, wanted, findings, accepted)


def _refuse_nonsense(request: Request) -> None:
    if (request.update is None) != (request.reason is None):
        message = "--update FILE and --reason TEXT go together: say why the changes are intended"
        raise typer.BadParameter(message, param_hint="--update")
    if request.reason is not None and not request.reason.strip():
        raise typer.BadParameter("it is empty", param_hint="--reason")
    if request.junit is not None:
        folder = request.junit.parent
        if not folder.is_dir():
            raise typer.BadParameter(f"there is no folder {str(folder)!r}", param_hint="--junit")
        if request.junit.is_dir():
            raise typer.BadParameter(f"{str(request.junit)!r} is a folder", param_hint="--junit")


class Checking:
    """Goes through runs, and shows how far it is.

    Args:
        checker: executes them.
        runs: where they are.
        wanted: which.
        name: the workflow's name in the code.
        findings: what is found, also if this is interrupted.
    """

    def __init__(
        self, checker: Checker, runs: Runs, wanted: Wanted, name: str, findings: Findings
    ) -> None:
        self._checker = checker
        self._runs = runs
        self._wanted = wanted
        self._name = name
        self._findings = findings
        self._total = 0
        self._under_way: str | None = None

    def run(self) -> None:
        """Go through all of them.

        Raises:
            KeyboardInterrupt: after a word on how far it came.
        """
        self._total = asyncio.run(self._runs.find(self._wanted))
        try:
            with _progress(self._total) as advance, _silence():
                while not self._is_through(advance):
                    pass
        except KeyboardInterrupt:
            done, diverged = len(self._findings.verdicts), self._findings.count(DIVERGED)
            output.note(f"interrupted after {done:,} of {self._total:,} runs: {diverged:,} diverge")
            raise

    def _is_through(self, advance: Callable[[Verdict], None]) -> bool:
        """Go on to the end; false if a handler ends the program, which is not this one's end."""
        try:
            asyncio.run(self._go(advance))
        except SystemExit as error:
            if self._under_way is None:
                raise
            told = FlowstoreError(f"a handler of it ends the program: sys.exit({error.code!r})")
            self._note(unreadable(self._under_way, told), advance)
            return False
        return True

    async def _go(self, advance: Callable[[Verdict], None]) -> None:
        async with contextlib.aclosing(self._runs.read()) as runs:
            async for each in runs:
                if isinstance(each, Verdict):
                    self._note(each, advance)
                    continue
                self._under_way = each.run.correlation_id
                # Under whatever name it was recorded, it is to be one of this workflow.
                each.run.workflow = self._name
                self._note(await self._checker.check(each), advance)
                await asyncio.sleep(0)  # the next are being read

    def _note(self, verdict: Verdict, advance: Callable[[Verdict], None]) -> None:
        self._under_way = None
        self._findings.verdicts.append(verdict)
        advance(verdict)


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Have what handlers print and log thousands of times go nowhere."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123 - no path, a device
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _progress(total: int) -> Generator[Callable[[Verdict], None]]:
    """Show a progress bar if a person looks at standard error; yield what moves it on."""
    if not sys.stderr.isatty() or not total:
        yield _show_nothing
        return
    diverged = 0
    with _bar(sys.stderr) as progress:
        task = progress.add_task("", total=total)

        def advance(verdict: Verdict) -> None:
            nonlocal diverged
            diverged += bool(verdict.fresh)
            words = f"{diverged:,} diverge" if diverged else ""
            progress.update(task, advance=1, description=words)

        yield advance


def _show_nothing(_verdict: Verdict) -> None:
    """Stand for a progress bar in a pipe."""


def _bar(stream: TextIO) -> Any:
    from rich.console import Console  # noqa: PLC0415 - a pipe does not pay for it
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", style=terminal.BAD),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _write_junit(path: Path, workflow: str, findings: Findings, began: str) -> None:
    try:
        write_junit(path, workflow, findings, began)
    except OSError as error:
        raise FlowstoreError(f"{path}: {error.strerror or error}") from error


# --- what came of it ---------------------------------------------------------------------


def _conclude(
    request: Request, wanted: Wanted, findings: Findings, accepted: AcceptedChanges
) -> int:
    """Print what was found, accept it if that is asked for, and return the exit code."""
    groups = grouped(findings.verdicts)
    if request.update is not None and request.reason is not None and groups:
        new = [group.accept(request.reason) for group in groups]
        add_accepted(request.update, new)
    with output.unread_or_not():
        if request.as_json:
            output.print_json(_as_json(wanted, findings, groups, accepted))
        else:
            _print(wanted, findings, groups, accepted)
    if request.update is not None:
        changes = output.counted(len(groups), "change")
        output.note(f"{changes} accepted in {request.update}")
        return FAILED if findings.count(UNREADABLE) else OK
    if groups and not request.as_json:
        words = ["flowstore", "replay", groups[0].runs[0], "--app", request.app, "--pdb"]
        if request.store != STORE:
            words += ["--store", request.store]
        output.note(f"look into one: {shlex.join(words)}")
    return OK if findings.is_good else FAILED


def _as_json(
    wanted: Wanted, findings: Findings, groups: list[Group], accepted: AcceptedChanges
) -> dict[str, Any]:
    return {
        "workflow": wanted.workflow,
        "checked": len(findings.verdicts),
        "events": findings.events,
        IDENTICAL: findings.count(IDENTICAL),
        DIVERGED: findings.count(DIVERGED),
        UNREADABLE: findings.count(UNREADABLE),
        "groups": [group.to_json() for group in groups],
        "accepted": [
            {**entry.to_json(), "runs": accepted.seen.get(entry, 0)} for entry in accepted.entries
        ],
        "runs": [verdict.to_json() for verdict in findings.verdicts],
    }


def _print(
    wanted: Wanted, findings: Findings, groups: list[Group], accepted: AcceptedChanges
) -> None:
    for group in groups:
        count = output.counted(len(group.runs), "run diverges", "runs diverge")
        what = f" {trait_text(group.trait, group.paths)}"
        output.print_line([(count, terminal.BAD), (what, terminal.PLAIN)])
        first = {run: divergence.message for run, divergence in reversed(group.found)}
        _print_examples([(run, first[run]) for run in group.runs])
    broken = [
        (each.correlation_id, each.problem or "") for each in findings.verdicts if each.problem
    ]
    if broken:
        count = f"{output.counted(len(broken), 'run')} cannot be checked"
        output.print_line([(count, terminal.BAD)])
        _print_examples(broken)
    for entry in accepted.unseen():
        output.note(f"accepted, and no run has it: {trait_text(entry.trait, entry.paths)}")
    if findings.verdicts:
        output.print_line(_summary(wanted, findings))
    else:
        output.note(f"no runs of {wanted.workflow} to check")


def _print_examples(found: list[tuple[str, str]]) -> None:
    for run, message in found[:_EXAMPLES]:
        output.print_line(
            [(f"  {printable(run)}", terminal.STRONG), (f": {printable(message)}", terminal.PLAIN)]
        )
    if len(found) > _EXAMPLES:
        output.print_line([(f"  and {len(found) - _EXAMPLES:,} more", terminal.QUIET)])


def _summary(wanted: Wanted, findings: Findings) -> list[tuple[str, str]]:
    diverged, broken = findings.count(DIVERGED), findings.count(UNREADABLE)
    changed = sum(bool(each.accepted) and not each.fresh for each in findings.verdicts)
    total = output.counted(len(findings.verdicts), "run")
    pieces = [(f"{total} of {printable(wanted.workflow)}: ", terminal.PLAIN)]
    if diverged:
        pieces += [
            (f"{diverged:,} {'diverges' if diverged == 1 else 'diverge'}", terminal.BAD),
            (", ", terminal.PLAIN),
        ]
    if broken:
        pieces += [(f"{broken:,} cannot be checked", terminal.BAD), (", ", terminal.PLAIN)]
    pieces.append((f"{findings.count(IDENTICAL):,} identical", terminal.GOOD))
    if changed:
        pieces.append((f" ({changed:,} of them but for accepted changes)", terminal.QUIET))
    return pieces
