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
    help="Look at dead letters, events whose handler failed for good; retry or discard them.",
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
    """List dead letters, the youngest first.

    Exits with 1 if there is no such run; none that fits is no failure.
    """
    from flowstore.cli import refused

    return partial(refused.list_dead, store, run, limit=limit, as_json=as_json)


Handler = Annotated[
    str | None, typer.Argument(metavar="[HANDLER]", help="Which, if several failed there.")
]
AnyPosition = Annotated[
    int | None,
    typer.Argument(
        metavar="[POSITION]", min=1, help="Where it is recorded; if RUN has one, there."
    ),
]
Every = Annotated[bool, typer.Option("--all", help="All of them, or all of RUN.")]
OfHandler = Annotated[
    str | None, typer.Option("--handler", metavar="NAME", help="With --all: only this handler's.")
]
WithError = Annotated[
    str | None,
    typer.Option("--error", metavar="TEXT", help="With --all: only those with this in the error."),
]
Sure = Annotated[bool, typer.Option("--yes", help="With --all: do it. Else it is only shown.")]


@dead.command("show", epilog="Example: flowstore dead show order-7 4 pay")
def _show(
    run: RunName,
    position: AnyPosition = None,
    handler: Handler = None,
    *,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Show a dead letter: event, state of that moment, attempts, steps and traceback.

    Exits with 1 if there is none, or several to choose from.
    """
    from flowstore.cli import dead

    return partial(dead.show, store, run, position, handler, as_json=as_json)


@dead.command("retry", epilog="Example: flowstore dead retry --all --handler pay --yes")
def _retry(
    run: AnyRun = None,
    position: AnyPosition = None,
    handler: Handler = None,
    *,
    every: Every = False,
    of_handler: OfHandler = None,
    error: WithError = None,
    sure: Sure = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Have the handler of a dead letter called again, by whoever serves the workflow.

    No other handler of its event is called again, and its finished steps are not run again. A
    run that failed because of it is open again, without the timers, tasks and waits it had; a
    completed or cancelled one is not opened. With --all and without --yes this only says what
    it would do. Exits with 1 if anything is refused.
    """
    from flowstore.cli import dead

    chosen = dead.Chosen(
        run=run,
        position=position,
        handler=handler,
        every=every,
        of_handler=of_handler,
        error=error,
        sure=sure,
    )
    return partial(dead.settle, store, "retry", chosen, reason=None, as_json=as_json)


@dead.command("discard", epilog="Example: flowstore dead discard order-7 4 --reason 'paid by hand'")
def _discard(
    run: AnyRun = None,
    position: AnyPosition = None,
    handler: Handler = None,
    *,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")
    ] = None,
    every: Every = False,
    of_handler: OfHandler = None,
    error: WithError = None,
    sure: Sure = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Record that nothing is to be done about a dead letter: it is listed no more.

    Its run stays as it is, and the record keeps what happened; among the drops it is
    "discarded". With --all and without --yes this only says what it would do. Exits with 1 if
    anything is refused.
    """
    from flowstore.cli import dead

    chosen = dead.Chosen(
        run=run,
        position=position,
        handler=handler,
        every=every,
        of_handler=of_handler,
        error=error,
        sure=sure,
    )
    return partial(dead.settle, store, "discard", chosen, reason=reason, as_json=as_json)
