"""The commands about one dead letter or many: ``dead show``, ``dead retry``, ``dead discard``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from flowstore.change import replay
from flowstore.cli import output
from flowstore.cli.raised import error_text, step_error, type_of, typed
from flowstore.cli.reading import existing, find_run, read
from flowstore.cli.words import span
from flowstore.clock import SystemClock
from flowstore.errors import DeadLetterError, FlowstoreError
from flowstore.store.base import DEAD, DISCARDED, DiscardDead, RetryDead
from flowstore.store.keys import began_at, retry_id
from flowstore.store.readonly import open_queries
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.base import (
        DeadLetterRecord,
        Reader,
        RunRecord,
        StepRow,
        StoredEvent,
        TransitionRow,
    )
    from flowstore.store.queries import Queries

Doing = Literal["retry", "discard"]

_DONE = {"retry": "retried", "discard": "discarded"}
_COLUMNS = ("correlation_id", "position", "handler", "error", "status", "at", "reason")
_OF_ATTEMPT = ("attempt", "outcome", "started_at", "duration", "error", "code")
_OF_STEP = ("name", "number", "result", "error", "started_at", "duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which dead letters are meant.

    Args:
        run, position, handler: one of them, by its place.
        every: all of them, those of ``run`` if it is given.
        of_handler: of these, those of this handler.
        error: of these, those whose error has this text in it.
        sure: do it, with ``every``; else only say what would be done.
    """

    run: str | None
    position: int | None
    handler: str | None
    every: bool
    of_handler: str | None
    error: str | None
    sure: bool


# --- show ------------------------------------------------------------------------------------


def show(store: str, run: str, position: int | None, handler: str | None, *, as_json: bool) -> int:
    """Print all there is about a dead letter."""

    async def work(queries: Queries) -> dict[str, Any]:
        found = await find_run(queries, run, store)
        place = position, handler
        if position is None:
            place = await _only(queries, run)
        return await _gather(queries, found, place[0] or 0, place[1])

    shown = read(store, work)
    if as_json:
        output.print_json(shown)
    else:
        _print_shown(shown)
    return 0


async def _only(reader: Reader, run: str) -> tuple[int, str]:
    """Return position and handler of the one dead letter that a run has.

    Raises:
        DeadLetterError: it has none, or several.
    """
    letters = await reader.list_dead(run)
    if not letters:
        raise DeadLetterError(
            f"run {run!r} has no dead letter; `flowstore dead` lists those there are"
        )
    if len(letters) > 1:
        places = ", ".join(f"{each.position} {each.handler}" for each in reversed(letters))
        raise DeadLetterError(f"run {run!r} has several dead letters; say which of: {places}")
    return letters[0].position, letters[0].handler


async def _gather(
    queries: Queries, run: RunRecord, position: int, handler: str | None
) -> dict[str, Any]:
    name = run.correlation_id
    excerpt = await queries.read_excerpt(name, after=position - 1, until=position, limit=1)
    dead = [each for each in excerpt.transitions if each.outcome == DEAD]
    letter = _one_of(dead, handler, f"run {name!r}, position {position}")
    origin, event, steps = letter.handler, excerpt.events[0], excerpt.steps
    place, base = began_at(letter.handler, position)
    if place != position:
        # It waited: it handles an earlier event, and its steps are recorded there.
        before = await queries.read_excerpt(name, after=place - 1, until=place, limit=1)
        if any(each.handler == base for each in before.transitions):
            origin, event, steps = base, before.events[0], before.steps
    fields = output.to_json(event)
    del fields["run_id"]
    return {
        "correlation_id": name,
        "run_status": run.status,
        "position": position,
        "handler": letter.handler,
        "became": await _became(queries, run, letter, excerpt.events[0]),
        "error": letter.error,
        "error_type": type_of(letter),
        "event": fields,
        "state": await _state_before(queries, name, letter, excerpt.transitions),
        "attempts": [
            {**_row(each, _OF_ATTEMPT), "error_type": type_of(each)}
            for each in excerpt.transitions
            if each.handler == letter.handler
        ],
        "steps": [_row(each, _OF_STEP) for each in steps if each.handler == origin],
        "traceback": letter.traceback,
    }


async def _state_before(
    queries: Queries, run: str, letter: TransitionRow, beside: Sequence[TransitionRow]
) -> dict[str, Any]:
    """Return the state that the handler was given when it failed for good."""
    snapshot, changes = await queries.read_state(run, at=letter.position - 1)
    here = [each.change for each in beside if each.number < letter.number]
    return replay(snapshot, [*changes, *(change for change in here if change is not None)])


def _one_of(dead: Sequence[TransitionRow], handler: str | None, place: str) -> TransitionRow:
    """Return the dead letter that is meant.

    Raises:
        DeadLetterError: there is none, or there are several.
    """
    names = ", ".join(repr(each.handler) for each in dead)
    if not dead:
        raise DeadLetterError(f"{place}: no handler has failed for good there")
    if handler is None and len(dead) > 1:
        raise DeadLetterError(f"{place}: several have failed for good; say which of {names}")
    for each in dead:
        if handler in {None, each.handler}:
            return each
    raise DeadLetterError(
        f"{place}: handler {handler!r} has not failed for good there, but {names}"
    )


async def _became(
    queries: Queries, run: RunRecord, letter: TransitionRow, event: StoredEvent
) -> str:
    """Say what has become of a dead letter."""
    name, place = run.correlation_id, (letter.position, letter.handler)
    sought = retry_id(*place, letter.number)
    found = await queries.read_excerpt(
        name, after=letter.position - 1, until=letter.position, limit=1
    )
    for caused in found.caused:
        if caused.id == sought:
            return f"retried at position {caused.position}"
    for drop in await queries.list_drops(name, reason=DISCARDED):
        if (drop.position, drop.handler) == place and drop.event_id == event.id:
            return f"discarded: {drop.detail}" if drop.detail else "discarded"
    return "dead"


def _row(row: TransitionRow | StepRow, names: Sequence[str]) -> dict[str, Any]:
    cells = {name: getattr(row, name) for name in names}
    cells["started_at"] = output.time_text(cells["started_at"])
    return cells


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"duration": span(row["duration"])}


def _print_shown(shown: dict[str, Any]) -> None:
    plain = ("correlation_id", "run_status", "position", "handler", "became", "error")
    said = typed(shown)
    output.print_fields({name: said[name] for name in plain})
    output.write("\nevent\n")
    output.print_fields(shown["event"])
    output.write("\nstate at that moment\n")
    output.print_json(shown["state"])
    said["attempts"] = map(typed, shown["attempts"])
    said["steps"] = [{**each, "error": step_error(each["error"])} for each in shown["steps"]]
    for name, columns in (("attempts", _OF_ATTEMPT), ("steps", _OF_STEP)):
        if shown[name]:
            output.write(f"\n{name}\n")
            output.print_table(columns, map(_as_text, said[name]))
    if shown["traceback"]:
        output.write("\n")
        for line in shown["traceback"].splitlines():
            output.write(f"{output.printable(line)}\n")


# --- retry, discard --------------------------------------------------------------------------


def settle(store: str, doing: Doing, chosen: Chosen, *, reason: str | None, as_json: bool) -> int:
    """Retry or discard dead letters; 1 if any of them is refused."""
    if chosen.position is not None if chosen.every else chosen.run is None:
        message = "name one by RUN and POSITION, or give --all"
        raise typer.BadParameter(message, param_hint="RUN POSITION")
    if not chosen.every:
        given = {"--handler": chosen.of_handler, "--error": chosen.error, "--yes": chosen.sure}
        for option, value in given.items():
            if value not in {None, False}:
                raise typer.BadParameter("goes with --all", param_hint=option)
    existing(store)
    if not chosen.every:
        rows = asyncio.run(_do_one(store, doing, chosen, reason))
    else:
        rows = asyncio.run(_do_all(store, doing, chosen, reason))
    if as_json:
        output.print_json(rows)
    elif rows:
        output.print_table(_COLUMNS, map(typed, rows))
    else:
        output.note("no dead letters")
    if rows and chosen.every and not chosen.sure:
        output.note(f"nothing was done; --yes has them {_DONE[doing]}")
    elif not as_json and any(row["status"] == "retried" for row in rows):
        output.note("called again by whoever serves the workflow, or resumes it")
    return int(any(row["status"] == "refused" for row in rows))


async def _do_one(
    store: str, doing: Doing, chosen: Chosen, reason: str | None
) -> list[dict[str, Any]]:
    writer = SQLiteStore(parse(store))
    run, position, handler = chosen.run or "", chosen.position, chosen.handler
    try:
        if position is None:
            await find_run(open_queries(parse(store)), run, store)
            position, handler = await _only(writer.reader, run)
        letters = await writer.reader.list_dead(run)
        done = await writer.perform(_operation(doing, run, position, handler, reason))
    finally:
        await writer.close()
    place = position, done.handler
    return [
        {
            "correlation_id": run,
            "position": position,
            "handler": done.handler,
            "error": done.error,
            "error_type": next(
                (type_of(each) for each in letters if (each.position, each.handler) == place), None
            ),
            "status": _DONE[doing],
            "at": done.appended.position if done.appended else None,
            "reason": reason,
        }
    ]


async def _do_all(
    store: str, doing: Doing, chosen: Chosen, reason: str | None
) -> list[dict[str, Any]]:
    writer = SQLiteStore(parse(store))
    queries = writer.reader
    letters = [each for each in await queries.list_dead(chosen.run) if _is_meant(each, chosen)]
    letters.reverse()  # in the order in which they died
    rows = [_planned(each, doing, reason) for each in letters]
    if not chosen.sure or not rows:
        return rows
    try:
        outcomes = await asyncio.gather(
            *(
                writer.perform(
                    _operation(doing, each.correlation_id, each.position, each.handler, reason)
                )
                for each in letters
            ),
            return_exceptions=True,
        )
    finally:
        await writer.close()
    for row, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, FlowstoreError):
            row |= {"status": "refused", "reason": str(outcome)}
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            row["status"] = _DONE[doing]
            row["at"] = outcome.appended.position if outcome.appended else None
    return rows


def _planned(letter: DeadLetterRecord, doing: Doing, reason: str | None) -> dict[str, Any]:
    fields = asdict(letter) | {"error_type": type_of(letter)}
    row = {name: fields.get(name) for name in (*_COLUMNS, "error_type")}
    return row | {"status": f"to be {_DONE[doing]}", "reason": reason}


def _is_meant(letter: DeadLetterRecord, chosen: Chosen) -> bool:
    names = {letter.handler, began_at(letter.handler, letter.position)[1]}
    return (chosen.of_handler is None or chosen.of_handler in names) and (
        chosen.error is None or chosen.error in (error_text(letter) or "")
    )


def _operation(
    doing: Doing, run: str, position: int, handler: str | None, reason: str | None
) -> RetryDead | DiscardDead:
    now = SystemClock().now()
    if doing == "retry":
        return RetryDead(run, position, handler, now)
    return DiscardDead(run, position, handler, reason, now)
