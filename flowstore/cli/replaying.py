"""The commands that run code again over what is recorded."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli import check_options
from flowstore.cli.options import (
    STORE,
    Action,
    AppName,
    Json,
    Mermaid,
    RunName,
    RunStatuses,
    Since,
    Store,
    refuse_both,
)

room = typer.Typer()


def _ignorable(paths: list[str] | None) -> list[str] | None:
    """Refuse a path that would cover everything or nothing, before any program is loaded."""
    if paths:
        from flowstore.errors import InvalidValueError
        from flowstore.replay.difference import ignorable

        try:
            ignorable(paths)
        except InvalidValueError as error:
            raise typer.BadParameter(error.problem) from error
    return paths


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
        callback=_ignorable,
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
        typer.Option(
            "--pdb",
            help="Stop in the handler of the first dead or diverging event; not with --json.",
        ),
    ] = False,
    stop_at: Annotated[
        int | None,
        typer.Option(
            "--break",
            metavar="N",
            min=1,
            help="Stop in the handlers of the event at N instead; not with --json.",
        ),
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


@room.command("check", epilog="Example: flowstore check --app shop.orders:workflow --since 7d")
def _check(
    runs: check_options.Runs = None,
    *,
    app: AppName,
    since: Since = None,
    status: RunStatuses = None,
    workflow: check_options.Workflow = None,
    limit: check_options.Most = None,
    live: Live = None,
    ignore: Ignore = None,
    accept: check_options.Accept = None,
    update: check_options.Update = None,
    reason: check_options.Reason = None,
    junit: check_options.Junit = None,
    unguarded: Unguarded = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Execute recorded runs again with the code at hand, and tell which of them diverge.

    Runs are taken from the database, which is only read, or with --store FILE.jsonl from a file
    of exported ones; those still at work up to where they are. --since takes runs in which
    anything has happened since. What handlers print is not shown.
    Exits with 0 if all runs are identical but for what is ignored or accepted, with 1 if one
    diverges, cannot be read or is not there.
    """
    from flowstore.cli import check
    from flowstore.cli.times import bound_of

    request = check.Request(
        app=app,
        store=store,
        workflow=workflow,
        runs=tuple(runs or ()),
        since=bound_of(since, "--since"),
        statuses=frozenset(status or ()),
        limit=limit,
        ignore=tuple(ignore or ()),
        live=tuple(live or ()),
        accept=accept,
        update=update,
        reason=reason,
        junit=junit,
        is_guarded=not unguarded,
        as_json=as_json,
    )
    return partial(check.check, request)


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
    as_mermaid: Mermaid = False,
    as_json: Json = False,
) -> Action:
    """Show which handlers listen to and emit what.

    It is read from the code, without running it; ? stands for what only running it would tell.
    Marked are events that nobody listens to, and handlers of events that nothing emits. Exits
    with 2 if the program cannot be loaded.
    """
    from flowstore.cli import graph

    refuse_both(as_mermaid, as_json)
    return partial(graph.draw, app, store=store, as_mermaid=as_mermaid, as_json=as_json)


@room.command("fork", epilog="Example: flowstore fork order-7 --at 12 --into copy.db")
def _fork(
    run: RunName,
    *,
    at: Annotated[
        int,
        typer.Option("--at", metavar="N", min=1, help="The last position that comes along."),
    ],
    edit_event: Annotated[
        str | None,
        typer.Option(
            "--edit-event",
            metavar="JSON",
            help="A merge patch for the event at N, which is then handled anew; {} to leave it.",
        ),
    ] = None,
    edit_state: Annotated[
        str | None,
        typer.Option("--edit-state", metavar="JSON", help="A merge patch for the state."),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="PATH-OR-URL",
            help="The database to put it into, made if it is not there.  [default: the run's]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="RUN", help="The fork's correlation_id.  [default: RUN~N, or RUN~N.2 …]"
        ),
    ] = None,
    from_now: Annotated[
        bool,
        typer.Option("--from-now", help="Timers have the time left that they had at N."),
    ] = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Make a new run with the same history up to N, which goes on from there with live code.

    Whoever serves the workflow on the database goes on with it, and does what comes behind N
    again, with all that it does outside; in a database of its own, with --into, nobody does until
    you serve it. Edits are JSON merge patches (RFC 7396): {"data": {"total": 5, "note": null}}
    sets one value and removes another. With --store FILE.jsonl the run is one that was exported
    (- is standard input).
    Exits with 1 if the run or the position is not there, or if the edit or the name is refused.
    """
    from flowstore.cli import fork

    wish = fork.Wish(
        at=at, edit_event=edit_event, edit_state=edit_state, into=into, name=name, from_now=from_now
    )
    return partial(fork.fork_run, store, run, wish, as_json=as_json)


@room.command("diff", epilog="Example: flowstore diff order-7 order-7~12 --other copy.db")
def _diff(
    run: Annotated[str, typer.Argument(metavar="RUN_A", help="The one run's correlation_id.")],
    other_run: Annotated[
        str, typer.Argument(metavar="RUN_B", help="The other run's correlation_id.")
    ],
    *,
    other: Annotated[
        str | None,
        typer.Option(
            "--other",
            metavar="PATH-OR-URL",
            help="The database of the other run, or FILE.jsonl.  [default: --store]",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show all that differs, not only where it begins.")
    ] = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Show where two runs part: their events, attempts, steps, waits and states, side by side.

    Times and versions of the code do not count, nor do the ids of the runs themselves, nor those
    of events that were sent without one. Behind the first 50 positions that differ the states
    are compared as they are in the end. Exits with 0 if the runs are the same, with 1 if they
    differ, with 2 if one of them cannot be read.
    """
    from flowstore.cli import diff

    return partial(
        diff.print_diff, store, run, other or store, other_run, every=every, as_json=as_json
    )
