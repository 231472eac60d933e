"""The commands that carry runs from one store to another."""

from __future__ import annotations

import typer

room = typer.Typer()
