"""The command ``replay``: a run is executed again, perhaps in a debugger."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from flowstore.cli import output
from flowstore.cli.archives import archive_of
from flowstore.cli.debugger import HandlerDebugger
from flowstore.cli.loading import load
from flowstore.cli.options import FAILED, OK
from flowstore.replay import rerun
from flowstore.replay.difference import shown
from flowstore.store.base import DEAD, RETRIED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flowstore.manager import WorkflowManager
    from flowstore.replay import Moment, Report
    from flowstore.store.archive import Archive

_SHOWN = 20
"""How many differences are printed at most."""


def replay(
    store: str,
    correlation_id: str,
    *,
    app: str,
    to: int | None,
    stop_at: int | None,
    is_debugged: bool,
    live: Sequence[str],
    ignore: Sequence[str],
    is_guarded: bool,
    as_json: bool,
) -> int:
    """Execute a run again and print what came of it."""
    if as_json and (is_debugged or stop_at is not None):
        raise typer.BadParameter("the debugger talks on standard output", param_hint="--json")
    if to is not None and stop_at is not None and stop_at > to:
        raise typer.BadParameter(f"{stop_at} comes after --to {to}", param_hint="--break")
    workflow = load(app)
    archive = archive_of(store, correlation_id)
    handlers: Collection[str] = ()
    if is_debugged and stop_at is None:
        failing = _failing(workflow, archive, to, ignore, is_guarded=is_guarded)
        if failing is None:
            output.write("nothing failed and nothing diverges; name an event with --break N\n")
            return OK
        stop_at, handlers = failing
    debugging = None if stop_at is None else Debugging(archive, stop_at, handlers)
    last = stop_at if to is None else to
    work = rerun(
        workflow,
        archive,
        to=last,
        live=live,
        ignore=ignore,
        guard=is_guarded,
        before=debugging,
    )
    # What handlers print is no JSON.
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        report = asyncio.run(work)
    sys.settrace(None)
    if debugging is not None and debugging.is_left:
        output.note("the debugger was left, so nothing was compared")
        return FAILED
    with output.unread_or_not():
        _print(report, as_json=as_json)
    if debugging is not None and not debugging.has_stopped and report.is_identical:
        output.note(f"no handler was called at position {stop_at}")
    return OK if report.is_identical else FAILED


def _failing(
    workflow: WorkflowManager,
    archive: Archive,
    to: int | None,
    ignore: Sequence[str],
    *,
    is_guarded: bool,
) -> tuple[int, Collection[str]] | None:
    """Return the position of the first dead or diverging event, and which handlers it is about.

    An event that is to be tried again is as good as dead.

    None of them are named if it is about the event itself. No step really runs for this: one that
    is not recorded is where it diverges.
    """
    report = asyncio.run(rerun(workflow, archive, to=to, ignore=ignore, guard=is_guarded))
    left = {(row.position, row.handler): row.outcome for row in archive.transitions}
    found = [
        place
        for place, outcome in left.items()
        if outcome == DEAD or (outcome == RETRIED and place[0] > archive.run.cursor)
    ]
    found = [place for place in found if to is None or place[0] <= to]
    divergence = report.divergence
    if divergence is not None:
        is_called = divergence.kind not in {"error", "handler"}
        found.append((divergence.position, (is_called and divergence.handler) or ""))
    if not found:
        return None
    first = min(position for position, _ in found)
    handlers = {handler for position, handler in found if position == first}
    return first, () if "" in handlers else handlers


class Debugging:
    """Has the debugger stop at one event; to be given to `rerun` as ``before``.

    Args:
        archive: the run.
        position: the event.
        handlers: stop in these alone, as the record calls them; in all of its handlers if empty.
    """

    def __init__(self, archive: Archive, position: int, handlers: Collection[str] = ()) -> None:
        self._names = {event.position: event.name for event in archive.events}
        self._position = position
        self._handlers = handlers
        self._debugger = HandlerDebugger()
        self.has_stopped = False

    @property
    def is_left(self) -> bool:
        """Whether the user has quit the debugger."""
        return self._debugger.is_left

    def __call__(self, moment: Moment) -> None:
        """Stop in the handler that is about to be called, if its event is the one."""
        if moment.position != self._position or self.is_left:
            return
        if self._handlers and moment.handler not in self._handlers:
            return
        self.has_stopped = True
        began, position = moment.event.position, moment.position
        origin = "" if began == position else f", which began at {began}, {moment.event.name!r}"
        ended = "" if moment.outcome is None else f", which was {moment.outcome}"
        output.write(
            f"position {position}, {self._names[position]!r}: handler {moment.handler!r}{origin}, "
            f"attempt {moment.attempt}{ended}\n"
        )
        sys.stdout.flush()
        self._debugger.wait_for(moment.function)


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        output.print_json(report.to_json())
        return
    name, found = output.printable(report.correlation_id), report.divergence
    if found is None:
        events = output.counted(report.events, "event")
        events = f"{events} handled again up to position {report.until}"
        output.write(f"{name}: identical, {events}\n")
        return
    output.write(f"{name}: diverged ({found.kind}) at {output.printable(found.message)}\n")
    if len(found.differences) == 1 and found.differences[0].path in found.message:
        return
    for each in found.differences[:_SHOWN]:
        line = f"{each.path}: recorded {shown(each.expected)}, now {shown(each.actual)}"
        output.write(f"  {output.printable(line)}\n")
    if len(found.differences) > _SHOWN:
        output.note(f"and {len(found.differences) - _SHOWN} more; --json has them all")
