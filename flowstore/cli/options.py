"""What several commands take: the types of their arguments and options, and the defaults.

A command returns an `Action` instead of doing its work, so that one place turns whatever goes
wrong into one line and an exit code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

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
STATUSES = ("running", "waiting", "idle", "completed", "failed", "cancelled")
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


def refuse_both(mermaid: bool, as_json: bool) -> None:
    """Refuse two forms of output at once.

    Raises:
        typer.BadParameter: both are wanted.
    """
    if mermaid and as_json:
        raise typer.BadParameter("does not go with --json", param_hint="--mermaid")


def status_option(help_text: str, names: tuple[str, ...] = STATUSES, default: str = "") -> Any:
    """Return the option ``--status``, which can be repeated, and takes lists with commas.

    Args:
        help_text: which runs these are.
        names: the statuses that there are.
        default: which it is about if it is left out, to be shown.
    """

    def known(texts: list[str] | None) -> list[str]:
        found = [name.strip() for text in texts or () for name in text.split(",")]
        for name in found:
            if name not in names:
                raise typer.BadParameter(f"{name!r} is not one of {', '.join(names)}")
        return list(dict.fromkeys(found))

    told = f"  [default: {default}]" if default else ""
    return typer.Option(
        "--status",
        metavar="STATUS,...",
        callback=known,
        show_default=False,
        help=f"{help_text}: {', '.join(names)}; can be repeated.{told}",
    )


Mermaid = Annotated[
    bool,
    typer.Option("--mermaid", help="Print a Mermaid flowchart instead of a tree; not with --json."),
]
RunStatuses = Annotated[list[str] | None, status_option("Only runs with one of these")]
