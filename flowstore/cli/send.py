"""The command ``send``: append an event to a run."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from flowstore.cli import output
from flowstore.cli.reading import file_of
from flowstore.errors import ConfigurationError, InvalidValueError
from flowstore.events import WorkflowEvent
from flowstore.manager import WorkflowManager
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse

if TYPE_CHECKING:
    from flowstore.events import Receipt

_DEFAULT_WORKFLOW = "workflow"


def send(
    store: str,
    correlation_id: str,
    name: str,
    text: str,
    *,
    event_id: str | None,
    workflow: str | None,
    as_json: bool,
) -> int:
    """Append an event and print its receipt; 1 if it is stale."""
    file_of(store)
    try:
        data = read_json(sys.stdin.read() if text == "-" else text)
    except InvalidValueError as error:
        raise typer.BadParameter(error.problem, param_hint="JSON") from error
    event = WorkflowEvent(name, data, id=event_id, correlation_id=correlation_id)
    receipt = asyncio.run(_send(store, correlation_id, event, workflow))
    if as_json:
        output.print_json(asdict(receipt))
    else:
        fields = asdict(receipt)
        output.print_fields({key: value for key, value in fields.items() if value is not None})
    return int(receipt.status == "stale")


async def _send(
    store: str, correlation_id: str, event: WorkflowEvent, workflow: str | None
) -> Receipt:
    owner = await workflow_of(store, correlation_id)
    if owner is not None and workflow not in (None, owner):
        message = (
            f"--workflow {workflow!r}: run {correlation_id!r} is of workflow {owner!r}; "
            "leave the option out"
        )
        raise ConfigurationError(message)
    manager = WorkflowManager(store, name=workflow or owner or _DEFAULT_WORKFLOW)
    try:
        return await manager.send(event)
    finally:
        await manager.close()


async def workflow_of(store: str, correlation_id: str) -> str | None:
    """Return the name of a run's workflow, None if there is no such run."""
    if not file_of(store).exists():
        return None
    run = await open_queries(parse(store)).get_run(correlation_id)
    return None if run is None else run.workflow


def read_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        InvalidValueError: it is not JSON, or says something that JSON cannot mean: a key
            twice, NaN, a number without end.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidValueError("JSON", f"{problem}; text needs double quotes") from error
    except RecursionError as error:
        raise InvalidValueError("JSON", "is nested too deeply") from error
    except InvalidValueError:
        raise
    except ValueError as error:
        raise InvalidValueError("JSON", str(error)) from error


def _refuse(constant: str) -> NoReturn:
    raise InvalidValueError("JSON", f"{constant} is not JSON; use null, or a text")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidValueError("JSON", f"the key {repeated!r} comes twice in one object")
    return found
