"""The commands that run code again over what is recorded."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli.options import STORE, Action, AppName, Json, RunName, Store

room = typer.Typer()

Live = Annotated[
    list[str] | None,
    typer.Option(
        "--live",
        metavar="STEP",
        help="A step that really runs where the record has no result of it; can be repeated.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="PATH",
        help="What does not count, as in state.updated or emitted.*.data.at; can be repeated.",
    ),
]
Unguarded = Annotated[
    bool,
    typer.Option(
        "--no-guard", help="Let handlers reach the network, other programs and files to write."
    ),
]


@room.command("replay", epilog="Example: flowstore replay order-7 --app shop.orders:workflow --pdb")
def _replay(
    run: RunName,
    *,
    app: AppName,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="N", min=0, help="End with this position.  [default: the last handled]"
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option("--pdb", help="Stop in the handler of the first dead or diverging event."),
    ] = False,
    stop_at: Annotated[
        int | None,
        typer.Option("--break", metavar="N", min=1, help="Stop in the handlers of the event at N."),
    ] = None,
    live: Live = None,
    ignore: Ignore = None,
    unguarded: Unguarded = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Execute a run again with the code at hand, and print the first divergence.

    Steps, task results, timers, time, randomness and ids come from the record; nothing is
    written, and the workflow's own store is not opened. With --store FILE.jsonl it is a run that
    was exported. Exits with 0 if the run is identical, with 1 if it diverges or is not there.
    """
    from flowstore.cli import replay

    return partial(
        replay.replay,
        store,
        run,
        app=app,
        to=to,
        stop_at=stop_at,
        is_debugged=debug,
        live=live or (),
        ignore=ignore or (),
        is_guarded=not unguarded,
        as_json=as_json,
    )


@room.command(
    "graph", epilog="Example: flowstore graph --app shop.orders:workflow --mermaid > graph.mmd"
)
def _graph(
    *,
    app: AppName,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="PATH-OR-URL",
            help="Count what the recorded runs of this database show.",
        ),
    ] = None,
    as_mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid flowchart.")
    ] = False,
    as_json: Json = False,
) -> Action:
    """Show which handlers listen to and emit what.

    It is read from the code, without running it; ? stands for what only running it would tell.
    Marked are events that nobody listens to, and handlers of events that nothing emits.
    """
    from flowstore.cli import graph

    return partial(graph.draw, app, store=store, as_mermaid=as_mermaid, as_json=as_json)
