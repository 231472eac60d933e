"""What several commands take: the types of their arguments and options, and the defaults.

A command returns an `Action` instead of doing its work, so that one place turns whatever goes
wrong into one line and an exit code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import typer

OK = 0
FAILED = 1
USAGE = 2

Action = Callable[[], int]
"""What is to be done; returns the exit code."""

STORE = "flowstore.db"
LIMIT = 50

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
AppName = Annotated[
    str,
    typer.Option(
        "--app",
        metavar="MODULE:NAME",
        envvar="FLOWSTORE_APP",
        help="The WorkflowManager with the handlers, as in shop.orders:workflow.",
    ),
]
After = Annotated[
    int, typer.Option("--after", metavar="N", min=0, help="Begin after this position.")
]
Until = Annotated[
    int | None,
    typer.Option(
        "--until", metavar="N", min=0, help="End with this position.  [default: the last]"
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Not before: 7d, 36h, 90min, or 2026-05-01, 2026-05-01T12:00Z.",
    ),
]
EventName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Only events of this name.")
]
HandlerName = Annotated[
    str | None, typer.Option("--handler", metavar="NAME", help="Only what this handler got.")
]
InRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only in this run.")]
RunStatus = Annotated[Status | None, typer.Option("--status", help="Only runs with this status.")]
