"""The commands that carry runs from one store to another."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli.options import STORE, Action, Json, Since, Store, status_option

room = typer.Typer()

_MIB = 1024 * 1024


@room.command(
    "export", epilog="Example: flowstore export order-7 order-8 -o runs.jsonl --redact data.email"
)
def _export(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="The runs' correlation_ids.", show_default=False),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Export every run.")] = False,
    status: Annotated[list[str] | None, status_option("Export every run with one of these")] = None,
    since: Since = None,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="Where to; - is standard output."),
    ] = "-",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
    redact: Annotated[
        list[str] | None,
        typer.Option(
            "--redact",
            metavar="PATH",
            help=(
                "Hide the values at this path, and wherever else they are in the run: "
                "data.email, data.items.*.email, metadata.x, state.x, steps.NAME.x. "
                "May be given several times."
            ),
            show_default=False,
        ),
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Write runs into a file that another store can import, on another machine.

    The file has everything that there is of a run, as lines of JSON, with its events as
    CloudEvents; docs/portable-runs.md describes it. --since takes runs in which anything has
    happened since. Nothing is written to the database. With --json the summary is JSON (on
    standard error if the runs go to standard output). Exits with 1 if a run is not there or the
    file cannot be written; then there is none.
    """
    from flowstore.cli import portable

    wanted = portable.Wanted(runs or (), every=every, statuses=status or (), since=since)
    destination = portable.Destination(output, force=force, as_json=as_json)
    return partial(portable.export_runs, store, wanted, destination, redact or ())


@room.command("import", epilog="Example: flowstore import runs.jsonl --store debug.db")
def _import(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What export has written; - is standard input.")
    ],
    *,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out runs that are in the store.")
    ] = False,
    line_bytes: Annotated[
        int,
        typer.Option("--max-line-bytes", metavar="N", min=1, help="Refuse longer lines."),
    ] = 32 * _MIB,
    file_bytes: Annotated[
        int, typer.Option("--max-bytes", metavar="N", min=1, help="Refuse a larger file.")
    ] = 1024 * _MIB,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Put the runs of a file into the database, all of them or none.

    All of the file is checked first, and is in memory then. The database is made if there is
    none. A run that is not settled is one for whoever serves its workflow on this database: it
    goes on there. Exits with 1 if the file is not as it was written, or a run is there already.
    """
    from flowstore.cli import portable

    return partial(
        portable.import_runs,
        store,
        file,
        skip_existing=skip_existing,
        line_bytes=line_bytes,
        file_bytes=file_bytes,
        as_json=as_json,
    )
