"""The command ``complete``: end an external task with its token."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from flowstore import token
from flowstore.cli import output
from flowstore.cli.reading import file_of
from flowstore.cli.send import read_json, workflow_of
from flowstore.errors import InvalidTokenError, InvalidValueError
from flowstore.manager import WorkflowManager

if TYPE_CHECKING:
    from flowstore.events import Receipt


def complete(store: str, text: str, result: str | None, *, error: str | None, as_json: bool) -> int:
    """End the task of a token and print the receipt; 1 if it is stale."""
    if (result is None) == (error is None):
        raise typer.BadParameter("give the result or --error, one of them", param_hint="JSON")
    value: Any = None
    if result is not None:
        try:
            value = read_json(sys.stdin.read() if result == "-" else result)
        except InvalidValueError as refused:
            raise typer.BadParameter(refused.problem, param_hint="JSON") from refused
    file_of(store)
    receipt = asyncio.run(_complete(store, text, value, error))
    if as_json:
        output.print_json(asdict(receipt))
    else:
        fields = asdict(receipt)
        output.print_fields({key: value for key, value in fields.items() if value is not None})
    return int(receipt.status == "stale")


async def _complete(store: str, text: str, value: Any, error: str | None) -> Receipt:
    name = await workflow_of(store, token.peek(text).correlation_id)
    if name is None:
        raise InvalidTokenError(f"{store} has no run that the token could be for; see --store")
    manager = WorkflowManager(store, name=name)
    try:
        if error is None:
            return await manager.complete_task(text, value)
        return await manager.fail_task(text, error)
    finally:
        await manager.close()
