"""What the command ``check`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Only these runs.  [default: all]"),
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
