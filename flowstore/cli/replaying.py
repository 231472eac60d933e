"""The commands that run code again over what is recorded."""

from __future__ import annotations

import typer

room = typer.Typer()
