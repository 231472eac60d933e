"""The commands that look after the database itself."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli.options import STORE, Action, AnyRun, Json, Store, status_option

_CLOSED = ("completed", "failed", "cancelled")

room = typer.Typer()
database = typer.Typer(
    help="Create, upgrade and check the database itself.",
    epilog="Example: flowstore db check --store runs.db",
    rich_markup_mode=None,
)
room.add_typer(database, name="db")


@database.command("upgrade", epilog="Example: flowstore db upgrade --store runs.db")
def _upgrade(*, store: Store = STORE, as_json: Json = False) -> Action:
    """Create the database, or upgrade it after a backup.

    Exits with 1 if it cannot be upgraded; then it is as it was.
    """
    from flowstore.cli import database

    return partial(database.upgrade, store, as_json=as_json)


@database.command("current", epilog="Example: flowstore db current")
def _current(*, store: Store = STORE, as_json: Json = False) -> Action:
    """Print the revision of the database's schema.

    Exits with 1 if there is none.
    """
    from flowstore.cli import database

    return partial(database.print_current, store, as_json=as_json)


@database.command("check", epilog="Example: flowstore db check --json")
def _check(*, store: Store = STORE, as_json: Json = False) -> Action:
    """Look for damage and deviations; change nothing.

    Compares the tables with the schema and reads the whole file. Exits with 1 if anything is
    wrong.
    """
    from flowstore.cli import database

    return partial(database.check, store, as_json=as_json)


@room.command("verify", epilog="Example: flowstore verify --json > heads.json")
def _verify(
    run: AnyRun = None,
    *,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="FILE", help="What --json has printed before: must still hold."
        ),
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Tell whether any event was changed, removed or inserted since it was appended.

    Each event has a hash over itself and the hash of the one before it. They are computed
    again, and of each run that does not fit the first row is named. Exits with 1 if there is one.

    The hashes have no key: who can write the database can change an event and make all later
    hashes of its run anew. So keep what --json prints in another place; --against it finds that
    too, and runs that are gone. Only events are covered, not states, transitions or steps.
    """
    from flowstore.cli import verify

    return partial(verify.verify, store, run, against=against, as_json=as_json)


@room.command("prune", epilog="Example: flowstore prune --older-than 30d --dry-run")
def _prune(
    *,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="SPAN", help="Not touched for this long: 30d, 12h, 2w."
        ),
    ],
    status: Annotated[
        list[str] | None,
        status_option("Of these", (*_CLOSED, "idle"), default=",".join(_CLOSED)),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="How many runs at a time at most.")
    ] = 100,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many runs that would be.")
    ] = False,
    vacuum: Annotated[
        bool,
        typer.Option("--vacuum/--no-vacuum", help="Make the file smaller when they are gone."),
    ] = True,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Remove runs that are over, with all there is of them; workers go on meanwhile.

    Those go that nothing is outstanding in and no worker has. What ends this in the middle
    leaves whole runs, and the next call goes on. The ids of events that came from outside are
    kept: sent again they are duplicates, and anything else for a run that was closed is stale.
    A run that was idle begins anew. The newest run stays, and those of the newest event and of
    the newest drop. Exits with 0, also if there was none to remove.
    """
    from flowstore.cli import prune

    return partial(
        prune.prune,
        store,
        older_than,
        statuses=tuple(status or _CLOSED),
        workflow=workflow,
        batch=batch,
        dry_run=dry_run,
        vacuum=vacuum,
        as_json=as_json,
    )


@room.command("doctor", epilog="Example: flowstore doctor --full")
def _doctor(
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Check every page, index and hash; takes longer.")
    ] = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Look for what is wrong, or will be, and say what to do about it; change nothing.

    Integrity, schema, SQLite and its known bugs, the WAL and who holds it, permissions, room on
    the disk, files that are left over, workers, runs that are stuck, tasks and timers that no one
    is at, dead letters, and a sample of the events' hashes. Each finding is of severity info,
    warning or error; exits with 1 if any is more than info.
    """
    from flowstore.cli import doctor

    return partial(doctor.diagnose, store, full=full, as_json=as_json)
