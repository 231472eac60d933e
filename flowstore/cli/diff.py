"""The command ``diff``: where two runs part, side by side."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

import typer

from flowstore.cli import output, terminal
from flowstore.cli.archives import archive_of
from flowstore.errors import FlowstoreError
from flowstore.replay.difference import ABSENT, shown
from flowstore.replay.parting import Parting, Place, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowstore.replay.difference import Difference
    from flowstore.store.archive import Archive

    Row = tuple[str, str, bool]

_SHOWN = 5
"""How many places are shown where two runs differ, unless all are asked for."""

_SHOWN_OF_RUN = 20
"""How many differences of the runs as a whole are shown, likewise."""

_LONGEST = 2000

_SHOWN_ANYWAY = ("event.name", "attempts", "pending")
"""Differences in these are to be seen in the lines of the event and its attempts."""


def print_diff(
    store: str, run: str, other_store: str, other_run: str, *, every: bool, as_json: bool
) -> int:
    """Print where two runs part; 1 if they do."""
    one = _archive(store, run, "RUN_A")
    other = _archive(other_store, other_run, "RUN_B")
    parting = part(one, other)
    places = parting.places if every else parting.places[:_SHOWN]
    titles = (f"{run} ({store})", f"{other_run} ({other_store})")
    with output.unread_or_not():
        if as_json:
            output.print_json(_to_json(parting, places, one, other))
        else:
            of_run = parting.run if every else parting.run[:_SHOWN_OF_RUN]
            _print(parting, places, of_run, [output.printable(title) for title in titles])
    return int(not parting.is_same)


def _archive(store: str, run: str, name: str) -> Archive:
    """Return a run; as for diff(1), one that cannot be read is no difference."""
    try:
        return archive_of(store, run)
    except FlowstoreError as error:
        raise typer.BadParameter(str(error), param_hint=name) from error


def _to_json(
    parting: Parting, places: Sequence[Place], one: Archive, other: Archive
) -> dict[str, Any]:
    return {
        "one": one.run.correlation_id,
        "other": other.run.correlation_id,
        "identical": parting.is_same,
        "same": parting.same,
        "differing": len(parting.places),
        "places": [place.to_json() for place in places],
        "run": [each.to_json() for each in parting.run],
    }


def _print(
    parting: Parting, places: Sequence[Place], of_run: Sequence[Difference], titles: Sequence[str]
) -> None:
    same = output.counted(parting.same, "event is", "events are")
    if parting.is_same:
        output.print_line([(f"the runs are the same: {same} alike", terminal.GOOD)])
        return
    lead = f"the first {same} the same" if parting.same else "they differ from the first event on"
    rows = [row for place in places for row in _rows(place)]
    rows += [_row(each, "run.") for each in of_run]
    if terminal.is_terminal():
        output.print_line([(lead, terminal.PLAIN)])
        terminal.print_sides(titles, rows)
    else:
        output.write(f"--- {titles[0]}\n+++ {titles[1]}\n{lead}\n")
        for left, right, differs in rows:
            _write(left, right, differs=differs)
    more = len(parting.places) - len(places)
    if more:
        output.note(f"{more} more positions differ; all of them with --all")
    more = len(parting.run) - len(of_run)
    if more:
        output.note(f"{more} more values differ in the end; all of them with --all")


def _write(left: str, right: str, *, differs: bool) -> None:
    if not differs:
        output.write(f"  {left}\n")
        return
    if left:
        output.write(f"- {left}\n")
    if right:
        output.write(f"+ {right}\n")


def _rows(place: Place) -> Iterator[Row]:
    """Return what is shown of one position: the event, what became of it, and what differs."""
    one, other = place.one or {}, place.other or {}
    heads = [_head(place.position, each) for each in (one, other)]
    yield heads[0], heads[1], heads[0] != heads[1]
    yield from _aligned(_attempts(one), _attempts(other))
    is_alone = place.one is None or place.other is None
    for each in place.differences:
        if each.path.startswith("state") or not (is_alone or each.path.startswith(_SHOWN_ANYWAY)):
            yield _row(each)


def _head(position: int, told: dict[str, Any]) -> str:
    if not told:
        return ""
    event = cast("dict[str, Any]", told["event"])
    data = output.brief(event["data"]) if "data" in event else ""
    return f"{position} {output.printable(event['name'])} {data}".rstrip()


def _attempts(told: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for attempt in told.get("attempts", ()):
        text = f"    {attempt['outcome']} by {output.printable(attempt['handler'])}"
        error = attempt["error"]
        lines.append(text if error is None else f"{text}: {output.brief(error)}")
    return [*lines, "    pending"] if told.get("pending") else lines


def _aligned(left: list[str], right: list[str]) -> Iterator[Row]:
    """Put lines beside one another so that those that are the same meet."""
    for code, start, end, other_start, other_end in SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        pairs = zip_longest(left[start:end], right[other_start:other_end], fillvalue="")
        for one, other in pairs:
            yield one, other, code != "equal"


def _row(difference: Difference, lead: str = "") -> Row:
    path = output.printable(f"    {lead}{difference.path}")
    sides = [
        "" if value is ABSENT else f"{path}: {_short(shown(value))}"
        for value in (difference.expected, difference.actual)
    ]
    return sides[0], sides[1], True


def _short(text: str) -> str:
    text = output.printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
