"""What the command ``check`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from flowstore.cli.options import Status

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Only these runs.  [default: all]"),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar=f"[{'|'.join(get_args(Status))}]",
        help="Only runs with this status; can be repeated.",
    ),
]
Workflow = Annotated[
    str | None,
    typer.Option("--workflow", metavar="NAME", help="Runs of this workflow.  [default: the app's]"),
]
Most = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=1, help="How many runs, the youngest.  [default: all]"
    ),
]
Accept = Annotated[
    Path | None,
    typer.Option("--accept", metavar="FILE", help="Divergences in this file are intended; TOML."),
]
Update = Annotated[
    Path | None,
    typer.Option(
        "--update", metavar="FILE", help="As --accept, and write those that are found into it."
    ),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why they are intended; with --update."),
]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML as well.")
]


def known(statuses: list[str] | None) -> frozenset[str]:
    """Return statuses; typer has no lists of a few words.

    Raises:
        typer.BadParameter: one is none.
    """
    for text in statuses or ():
        if text not in get_args(Status):
            message = f"{text!r} is not one of {', '.join(get_args(Status))}"
            raise typer.BadParameter(message, param_hint="--status")
    return frozenset(statuses or ())
