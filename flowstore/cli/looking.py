"""The commands that only look: at runs, their logs and states, and at what was refused."""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from flowstore.cli.options import (
    LIMIT,
    STORE,
    Action,
    After,
    AnyRun,
    EventName,
    HandlerName,
    InRun,
    Json,
    Limit,
    Mermaid,
    RunName,
    RunStatuses,
    Since,
    Store,
    Until,
    refuse_both,
)

room = typer.Typer()


@room.command("runs", epilog="Example: flowstore runs --status failed --json")
def _runs(
    *,
    status: RunStatuses = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")
    ] = None,
    limit: Limit = LIMIT,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """List runs, the youngest first.

    Exits with 1 if there is no database; none that fits is no failure.
    """
    from flowstore.cli import runs

    return partial(
        runs.list_runs,
        store,
        statuses=status or (),
        workflow=workflow,
        limit=limit,
        as_json=as_json,
    )


@room.command("show", epilog="Example: flowstore show order-7")
def _show(run: RunName, *, store: Store = STORE, as_json: Json = False) -> Action:
    """Show a run: its status, counts, what it waits for, dead letters and drops.

    Of what it waits for it has the oldest 20, of dead letters, drops and unhandled events the
    youngest 20 of each. Exits with 1 if there is no such run.
    """
    from flowstore.cli import runs

    return partial(runs.show, store, run, as_json=as_json)


@room.command("log", epilog="Example: flowstore log order-7 --after 10 --limit 5")
def _log(
    run: RunName,
    *,
    after: After = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=1, help="How many events at most.  [default: all]"
        ),
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Print a run's events and what became of each.

    Exits with 1 if there is no such run.
    """
    from flowstore.cli import log

    return partial(log.print_log, store, run, after=after, limit=limit, as_json=as_json)


@room.command("state", epilog="Example: flowstore state order-7 --at 12")
def _state(
    run: RunName,
    *,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="N", min=0, help="As it was after this position.  [default: now]"
        ),
    ] = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Print a run's state as JSON, now or as it was after a position.

    Exits with 1 if there is no such run, or if it has not come so far.
    """
    from flowstore.cli import runs

    return partial(runs.print_state, store, run, at=at, as_json=as_json)


@room.command("history", epilog="Example: flowstore history order-7 --after 10 --until 12")
def _history(
    run: RunName,
    *,
    after: After = 0,
    until: Until = None,
    handler: HandlerName = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Print every attempt of a run's handlers, and what it did.

    How it ended, how long it took, what it made different in the state, the events that it
    emitted, its steps, and the tasks, timers and waits that it began or ended. Exits with 1 if
    there is no such run.
    """
    from flowstore.cli import history

    return partial(
        history.print_history,
        store,
        run,
        after=after,
        until=until,
        handler=handler,
        as_json=as_json,
    )


@room.command("why", epilog="Example: flowstore why bank-1 --run order-7")
def _why(
    event: Annotated[
        str,
        typer.Argument(metavar="EVENT", help="The event's id; with --run also its position."),
    ],
    *,
    run: InRun = None,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Say what became of an event, and why.

    By what and when it was handled or refused, what followed, and which handlers waited for such
    an event and did not take it. Ids count within a run: every run that has the id is told of.
    Exits with 1 if there is none.
    """
    from flowstore.cli import why

    return partial(why.why, store, event, run=run, as_json=as_json)


@room.command("trace", epilog="Example: flowstore trace order-7 --mermaid")
def _trace(
    run: RunName,
    *,
    mermaid: Mermaid = False,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Print which event of a run came of which.

    And what became of each of them: a tree, or with --mermaid a flowchart.
    Exits with 1 if there is no such run.
    """
    from flowstore.cli import trace

    refuse_both(mermaid, as_json)
    return partial(trace.trace, store, run, mermaid=mermaid, as_json=as_json)


@room.command("grep", epilog="Example: flowstore grep bank-17 --since 2d --name paid")
def _grep(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A text, found as it is; see --regex.")
    ],
    *,
    regex: Annotated[
        bool, typer.Option("--regex", help="PATTERN is a regular expression of Python's.")
    ] = False,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Capitals do not matter.")
    ] = False,
    name: EventName = None,
    since: Since = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Before this; as for --since.")
    ] = None,
    status: RunStatuses = None,
    handler: HandlerName = None,
    errors: Annotated[
        bool, typer.Option("--error", help="Only in errors: of events, and of handlers.")
    ] = False,
    run: InRun = None,
    limit: Limit = LIMIT,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Search the events and errors of all runs.

    Names, ids, data, metadata, errors and tracebacks are searched, data as compact JSON, such as
    {"total":12.5}. The youngest events come first. Exits with 1 if nothing is found.
    """
    from flowstore.cli import grep
    from flowstore.cli.times import bound_of
    from flowstore.store.search import Search

    search = Search(
        run=run,
        name=name,
        statuses=tuple(status or ()),
        handler=handler,
        since=bound_of(since, "--since"),
        before=bound_of(until, "--until"),
        errors=errors,
    )
    typed = grep.Pattern(pattern, regex, ignore_case)
    return partial(grep.grep, store, typed, search, limit=limit, as_json=as_json)


@room.command("tail", epilog="Example: flowstore tail order-7 --once --last 20")
def _tail(
    run: AnyRun = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on with what comes, or end.")
    ] = True,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=0, help="How many past events to begin with.")
    ] = 10,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """Print what happens, while it happens, until Ctrl-C.

    Events, attempts of handlers and refused events, of one run or of all, whichever process
    writes them. With --json each is an object on a line of its own. Exits with 1 if there is no
    such run.
    """
    from flowstore.cli import tail

    return partial(tail.tail, store, run, last=last, follow=follow, as_json=as_json)


@room.command("drops", epilog="Example: flowstore drops order-7 --reason duplicate")
def _drops(
    run: AnyRun = None,
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="REASON", help="Only drops for this reason."),
    ] = None,
    limit: Limit = LIMIT,
    store: Store = STORE,
    as_json: Json = False,
) -> Action:
    """List refused events with the reason, the youngest first.

    Exits with 1 if there is no such run; none that fits is no failure.
    """
    from flowstore.cli import refused

    return partial(refused.list_drops, store, run, reason=reason, limit=limit, as_json=as_json)
