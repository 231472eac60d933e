"""The command ``fork``: a new run with the same history up to a position."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import typer

from flowstore.cli import output
from flowstore.cli.archives import archive_of, is_exported
from flowstore.cli.reading import file_of
from flowstore.cli.send import read_json
from flowstore.clock import SystemClock
from flowstore.codec import Codec
from flowstore.errors import InvalidValueError
from flowstore.replay.cut import unrecorded
from flowstore.replay.fork import Edits, fork
from flowstore.replay.fork_writing import place
from flowstore.store.base import CLOSED, INTERNAL, PENDING
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

if TYPE_CHECKING:
    from pathlib import Path

    from flowstore.store.archive import Archive

_NAMED = 5
"""How many pending events are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the fork is to be like.

    Args:
        at: where the run is forked.
        edit_event: a JSON merge patch for the event there, as it was typed.
        edit_state: one for the state.
        into: the store to put it into; None for that of the run.
        name: its correlation_id; None to have one made.
        from_now: timers have the time left that they had then.
    """

    at: int
    edit_event: str | None = None
    edit_state: str | None = None
    into: str | None = None
    name: str | None = None
    from_now: bool = False


def fork_run(store: str, run: str, wish: Wish, *, as_json: bool) -> int:
    """Make the fork and say what is pending in it, and who goes on with it."""
    edits = Edits(
        event=_patch(wish.edit_event, "--edit-event"), state=_patch(wish.edit_state, "--edit-state")
    )
    if wish.into is None and is_exported(store):
        problem = f"{store} has exported runs; name the database that is to get the fork"
        raise typer.BadParameter(problem, param_hint="--into")
    if wish.into is not None and is_exported(wish.into):
        problem = "is a database; runs are put into files by flowstore export"
        raise typer.BadParameter(problem, param_hint="--into")
    archive = archive_of(store, run)
    target = store if wish.into is None else wish.into
    path = file_of(target)
    is_new = not path.exists()
    is_elsewhere = is_new or is_exported(store) or not path.samefile(file_of(store))
    clock, codec = SystemClock(), Codec()

    def make(name: str) -> Archive:
        return fork(
            archive,
            at=wish.at,
            name=name,
            now=clock.now(),
            codec=codec,
            edits=edits,
            store=_absolute(store) if is_elsewhere else None,
            from_now=wish.from_now,
        )

    make(wish.name or run)  # what cannot be forked makes no database
    made = asyncio.run(_put(target, codec, make, archive, wish))
    if as_json:
        output.print_json(_to_json(made, path))
    else:
        _print(made, path, clock.now(), is_new=is_new, is_elsewhere=is_elsewhere)
    return 0


def _patch(text: str | None, option: str) -> dict[str, Any] | None:
    """Return a merge patch that was typed."""
    if text is None:
        return None
    try:
        patch: object = read_json(text)
    except InvalidValueError as error:
        raise typer.BadParameter(error.problem, param_hint=option) from error
    if not isinstance(patch, dict):
        problem = (
            """is a JSON object that says what is different, as in '{"data": {"paid": true}}'"""
        )
        raise typer.BadParameter(problem, param_hint=option)
    return cast("dict[str, Any]", patch)


def _absolute(store: str) -> str:
    return store if is_exported(store) else str(file_of(store).absolute())


async def _put(target: str, codec: Codec, make: Any, archive: Archive, wish: Wish) -> Archive:
    store = SQLiteStore(parse(target))
    try:
        await store.open()
        source = archive.run.correlation_id
        return await place(store, codec, make, source=source, at=wish.at, name=wish.name)
    finally:
        await store.close()


# --- what is told ----------------------------------------------------------------------------


def _to_json(made: Archive, path: Path) -> dict[str, Any]:
    run = made.run
    pending = [] if run.status in CLOSED else made.events[run.cursor :]
    return {
        "correlation_id": run.correlation_id,
        "workflow": run.workflow,
        "store": str(path),
        "status": run.shown_status,
        "head": run.head,
        "cursor": run.cursor,
        **json.loads(run.lineage or "{}"),
        "pending": [
            {"position": event.position, "id": event.id, "name": event.name} for event in pending
        ],
        "outstanding": _outstanding(made),
    }


def _outstanding(made: Archive) -> dict[str, int]:
    tasks = [task.kind for task in made.tasks if task.status == PENDING]
    own = tasks.count(INTERNAL)
    return {
        "timers": len(made.timers),
        "tasks": own,
        "external_tasks": len(tasks) - own,
        "waits": len(made.parked),
        "collected": len(made.collected),
    }


def _print(made: Archive, path: Path, now: int, *, is_new: bool, is_elsewhere: bool) -> None:
    run = made.run
    told = _to_json(made, path)
    origin = told["forked_from"]
    names = [event["name"] for event in told["pending"]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    waits = [_counted(count, kind) for kind, count in told["outstanding"].items() if count]
    due = sum(timer.due_at <= now for timer in made.timers)
    if due:
        waits.append(f"{due} of the timers due already")
    output.print_fields(
        {
            "fork": run.correlation_id,
            "of": f"{origin['correlation_id']} at {origin['position']}",
            "store": f"{path} (new)" if is_new else str(path),
            "status": told["status"],
            "pending": f"{len(names)}: {', '.join(names[:_NAMED])}{more}" if names else None,
            "waits for": ", ".join(waits) or None,
        }
    )
    if unrecorded(made.transitions):
        output.note(
            "an older flowstore, which did not keep what handlers began, recorded part of it: "
            "timers that were removed later are not there, nor events that were collected"
        )
    output.note(_next(made, path, is_elsewhere=is_elsewhere))


def _counted(count: int, kind: str) -> str:
    words = kind.replace("_", " ")
    if kind == "collected":
        return f"{count} collected event{'s' if count > 1 else ''}"
    return f"{count} {words.removesuffix('s') if count == 1 else words}"


def _next(made: Archive, path: Path, *, is_elsewhere: bool) -> str:
    """Say who goes on with the fork."""
    run = made.run
    if run.status in CLOSED:
        return f"it is {run.status}, as the run was: nothing goes on"
    if run.status == "idle":
        return "nothing is pending in it; it takes new events"
    who = f"workflow {run.workflow!r} on {path}"
    if is_elsewhere:
        return f"it stays as it is until you serve {who}"
    return f"whoever serves {who} goes on with it, now or later, with all that its handlers do"
