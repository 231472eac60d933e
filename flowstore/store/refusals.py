"""What is refused in the same words in several places."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from flowstore.door import decode_json
from flowstore.errors import ConfigurationError
from flowstore.events import TASK_COMPLETED, TASK_FAILED

if TYPE_CHECKING:
    from flowstore.store.base import NewEvent


def refuse_other_workflow(correlation_id: str, has: str, asked: str) -> NoReturn:
    """Refuse to mix the runs of two workflows.

    Raises:
        ConfigurationError: always; names both.
    """
    raise ConfigurationError(
        f"run {correlation_id!r} belongs to workflow {has!r}, not to {asked!r}; give the "
        f"WorkflowManager that name (name={has!r}), or the event another correlation_id"
    )


def why_no_end(event: NewEvent) -> str | None:
    """Tell why an event that somebody sent is not the end of a task that it says it is.

    Handlers, waits and collections know an end by its name and the task's name in its data.
    """
    if event.name not in (TASK_COMPLETED, TASK_FAILED):
        return None
    data = decode_json(event.data)
    if not isinstance(data, dict) or "task" not in data:
        return None
    return (
        "an event that is sent ends no task: tasks end by themselves, external ones with "
        "complete_task or fail_task and their token"
    )
