"""What can be typed: every command with its arguments, and how the program ends.

A command returns what is to be done instead of doing it, so that one place turns whatever
goes wrong into one line and an exit code, and asking for help imports no database.
"""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

import typer

from flowstore.errors import FlowstoreError

OK = 0
FAILED = 1
USAGE = 2
_INTERRUPTED = 130

Action = Callable[[], int]

_EPILOGUE = (
    "Exit codes: 0 all is well; 1 what was asked for was not found, was refused or failed its "
    "check; 2 the command was not understood."
)

app = typer.Typer(
    name="flowstore",
    help="Look into the runs in a flowstore database, send them events, and look after it.",
    epilog=_EPILOGUE,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
database = typer.Typer(
    help="Create, upgrade and check the database itself.",
    epilog="Example: flowstore db check --store runs.db",
    rich_markup_mode=None,
)
app.add_typer(database, name="db")

Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="PATH-OR-URL",
        envvar="FLOWSTORE_URL",
        help="The database: a path, or sqlite:///PATH with parameters.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, with times in ISO 8601, UTC.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's correlation_id.")]
AnyRun = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="The run's correlation_id; all if left out.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most.")]
Status = Literal["running", "waiting", "idle", "completed", "failed", "cancelled"]

_STORE = "flowstore.db"
_LIMIT = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code.

    Args:
        arguments: the words after the program's name; None for those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        action = _understand(words or ["--help"])
        code = action()
        sys.stdout.flush()
    except FlowstoreError as error:
        return _complain(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader, such as `head`, has seen enough.
            _discard_output()
            return OK
        return _complain(error.strerror or str(error), FAILED)
    except Exception as error:
        # Typer's errors have no common class that all its versions make public.
        message: Callable[[], str] | None = getattr(error, "format_message", None)
        if message is None:
            raise
        return _complain(message(), USAGE)
    return code


def _understand(words: list[str]) -> Action:
    """Parse the words; `--help` and `--version` have nothing left to do but to end."""
    command = typer.main.get_command(app)
    outcome: Any = command.main(args=words, prog_name="flowstore", standalone_mode=False)
    return cast("Action", outcome) if callable(outcome) else lambda: int(outcome or OK)


def _complain(message: str, code: int) -> int:
    from flowstore.cli.output import printable

    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    sys.stderr.write(f"flowstore: {printable(' '.join(message.split()))}\n")
    return code


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python's own flush at exit succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _print_version(wanted: bool) -> None:
    if wanted:
        from flowstore import __version__

        typer.echo(f"flowstore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command("runs", epilog="Example: flowstore runs --status failed --json")
def _runs(
    *,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only runs with this status.")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")
    ] = None,
    limit: Limit = _LIMIT,
    store: Store = _STORE,
    as_json: Json = False,
) -> Action:
    """List runs, the youngest first."""
    from flowstore.cli import runs

    return partial(
        runs.list_runs, store, status=status, workflow=workflow, limit=limit, as_json=as_json
    )


@app.command("show", epilog="Example: flowstore show order-7")
def _show(run: RunName, *, store: Store = _STORE, as_json: Json = False) -> Action:
    """Show a run: its status, counts, what it waits for, dead letters and drops.

    Of what it waits for it has the oldest 20, of dead letters, drops and unhandled events the
    youngest 20 of each.
    """
    from flowstore.cli import runs

    return partial(runs.show, store, run, as_json=as_json)


@app.command("log", epilog="Example: flowstore log order-7 --after 10 --limit 5")
def _log(
    run: RunName,
    *,
    after: Annotated[
        int, typer.Option("--after", metavar="N", min=0, help="Begin after this position.")
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=1, help="How many events at most.  [default: all]"
        ),
    ] = None,
    store: Store = _STORE,
    as_json: Json = False,
) -> Action:
    """Print a run's events and what became of each."""
    from flowstore.cli import log

    return partial(log.print_log, store, run, after=after, limit=limit, as_json=as_json)


@app.command("state", epilog="Example: flowstore state order-7 --at 12")
def _state(
    run: RunName,
    *,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="N", min=0, help="As it was after this position.  [default: now]"
        ),
    ] = None,
    store: Store = _STORE,
    as_json: Json = False,
) -> Action:
    """Print a run's state as JSON, now or as it was after a position."""
    from flowstore.cli import runs

    return partial(runs.print_state, store, run, at=at, as_json=as_json)


@app.command(
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
    store: Store = _STORE,
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


@app.command("complete", epilog="""Example: flowstore complete TOKEN '{"approved": true}'""")
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
    store: Store = _STORE,
    as_json: Json = False,
) -> Action:
    """End an external task and print the receipt.

    Whoever serves the workflow handles its event. Done a second time it is a duplicate, or, if
    it says something else, stale: then, and when the run is closed, this exits with 1.
    """
    from flowstore.cli import complete

    return partial(complete.complete, store, token, result, error=error, as_json=as_json)


@app.command("drops", epilog="Example: flowstore drops order-7 --reason duplicate")
def _drops(
    run: AnyRun = None,
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="REASON", help="Only drops for this reason."),
    ] = None,
    limit: Limit = _LIMIT,
    store: Store = _STORE,
    as_json: Json = False,
) -> Action:
    """List refused events with the reason, the youngest first."""
    from flowstore.cli import refused

    return partial(refused.list_drops, store, run, reason=reason, limit=limit, as_json=as_json)


@app.command("dead", epilog="Example: flowstore dead --json")
def _dead(
    run: AnyRun = None, *, limit: Limit = _LIMIT, store: Store = _STORE, as_json: Json = False
) -> Action:
    """List dead letters, the youngest first.

    A dead letter is an event whose handler failed for good.
    """
    from flowstore.cli import refused

    return partial(refused.list_dead, store, run, limit=limit, as_json=as_json)


@database.command("upgrade", epilog="Example: flowstore db upgrade --store runs.db")
def _upgrade(*, store: Store = _STORE, as_json: Json = False) -> Action:
    """Create the database, or upgrade it after a backup."""
    from flowstore.cli import database

    return partial(database.upgrade, store, as_json=as_json)


@database.command("current", epilog="Example: flowstore db current")
def _current(*, store: Store = _STORE, as_json: Json = False) -> Action:
    """Print the revision of the database's schema."""
    from flowstore.cli import database

    return partial(database.print_current, store, as_json=as_json)


@database.command("check", epilog="Example: flowstore db check --json")
def _check(*, store: Store = _STORE, as_json: Json = False) -> Action:
    """Look for damage and deviations; change nothing.

    Compares the tables with the schema and reads the whole file. Exits with 1 if anything is
    wrong.
    """
    from flowstore.cli import database

    return partial(database.check, store, as_json=as_json)
