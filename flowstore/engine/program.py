"""What a workflow consists of: the code that a replay calls again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from flowstore.clock import Clock
    from flowstore.codec import Codec
    from flowstore.kind import StateKind
    from flowstore.routing import Routes
    from flowstore.schedule import Crons
    from flowstore.store.base import Reader
    from flowstore.task import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The parts of a `WorkflowManager` that say what its handlers do.

    Attributes:
        name: the workflow.
        codec: what events, results and their versions pass.
        kind: what the state is.
        routes: the handlers.
        tasks: the registered tasks.
        crons: the registered crons.
        clock: where ``ctx.random()`` comes from.
        resources: what handlers share, ``ctx=``.
        place: where its store is, for messages.
        reader: opens the store for reading.
    """

    name: str
    codec: Codec
    kind: StateKind
    routes: Routes
    tasks: Tasks
    crons: Crons
    clock: Clock
    resources: Mapping[str, Any]
    place: str
    reader: Callable[[], Awaitable[Reader]]
