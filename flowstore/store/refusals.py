"""What is refused in the same words in several places."""

from __future__ import annotations

from typing import NoReturn

from flowstore.errors import ConfigurationError


def refuse_other_workflow(correlation_id: str, has: str, asked: str) -> NoReturn:
    """Refuse to mix the runs of two workflows.

    Raises:
        ConfigurationError: always; names both.
    """
    raise ConfigurationError(
        f"run {correlation_id!r} belongs to workflow {has!r}, not to {asked!r}; give the "
        f"WorkflowManager that name (name={has!r}), or the event another correlation_id"
    )
