"""The commands that change runs: events and results for them, and what becomes of dead letters."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli.groups import ListByDefault
from flowstore.cli.options import LIMIT, STORE, Action, AnyRun, Json, Limit, RunName, Store

room = typer.Typer()
dead = typer.Typer(
    cls=ListByDefault,
    help="Look at dead letters: events whose handler failed for good.",
    epilog="Example: flowstore dead order-7, which is short for flowstore dead list order-7",
    rich_markup_mode=None,
)
room.add_typer(dead, name="dead")


@room.command(
    "send", epilog="""Example: flowstore send order-7 paid '{"amount": 12.5}' --id bank-1"""
)
def _send(
    run: RunName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.")],
    data: Annotated[
        str, typer.Argument(metavar="JSON", help="The event's data; - reads standard input.")
    ],
    *,
    event_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The event's id: sent again, it is a duplicate."),
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option(
            "--workflow",
            metavar="NAME",
            help="The workflow of a new run.  [default: the run's, else workflow]",
        ),
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Append an event to a run and print the receipt.

    Whoever serves the workflow handles it. The run is made if there is none, and so is the
    database. Exits with 1 if the event is stale, or if another event has its id.
    """
    from flowstore.cli import send

    return partial(
        send.send, store, run, name, data, event_id=event_id, workflow=workflow, as_json=as_json
    )


@room.command("complete", epilog="""Example: flowstore complete TOKEN '{"approved": true}'""")
def _complete(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="What ctx.submit_external has returned.")
    ],
    result: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="The result; - reads standard input.")
    ] = None,
    *,
    error: Annotated[
        str | None, typer.Option("--error", metavar="TEXT", help="It failed, and why.")
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """End an external task and print the receipt.

    Whoever serves the workflow handles its event. Done a second time it is a duplicate, or, if
    it says something else, stale: then, and when the run is closed, this exits with 1.
    """
    from flowstore.cli import complete

    return partial(complete.complete, store, token, result, error=error, as_json=as_json)


@dead.command("list", epilog="Example: flowstore dead list order-7 --json")
def _dead(
    run: AnyRun = None, *, limit: Limit = LIMIT, store: Store = STORE, as_json: Json = False
) -> Action:
    """List dead letters, the youngest first."""
    from flowstore.cli import refused

    return partial(refused.list_dead, store, run, limit=limit, as_json=as_json)
