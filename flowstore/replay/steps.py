"""What the steps of a handler end with when it is called again: what they ended with then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from flowstore.engine.calls import call_step, return_annotation
from flowstore.engine.raised import raised_again
from flowstore.errors import InvalidValueError
from flowstore.outside import refusal
from flowstore.replay.in_turn import InTurn, patiently
from flowstore.replay.undone import LaterSteps
from flowstore.store.arranged import read_failed
from flowstore.store.base import DEAD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from typing import NoReturn

    from flowstore.codec import Codec
    from flowstore.engine.attempt import Attempt
    from flowstore.replay.record import Record
    from flowstore.replay.report import Kind
    from flowstore.replay.undone import Key
    from flowstore.store.base import TransitionRow

    class Stage(Protocol):
        """Where the steps are called."""

        codec: Codec

        def halt(self, kind: Kind, handler: str | None, message: str, actual: Any) -> NoReturn:
            """End the replay here."""
            ...


class Steps:
    """The recorded steps of a run, an attempt at a time.

    Args:
        stage: where they are called.
        record: the run.
        live: names of steps that really run.
    """

    def __init__(self, stage: Stage, record: Record, live: frozenset[str]) -> None:
        self._stage = stage
        self._record = record
        self._live = live
        self._later = LaterSteps(record.archive)
        self._undone: dict[Key, str | None] = {}
        self._in_turn = InTurn()
        self._attempt: Attempt | None = None
        self._row: TransitionRow | None = None
        self._task: asyncio.Task[Any] | None = None

    def begin(self, attempt: Attempt, row: TransitionRow | None, place: tuple[int, str]) -> None:
        """Begin with an attempt; steps that were not done yet when it ended are kept from it.

        Args:
            attempt: the attempt; all other steps of its run are at hand in its memory.
            row: how it ended then, if it is recorded.
            place: the event that its handler handles, and the handler's name there.
        """
        self._attempt, self._row, self._task = attempt, row, asyncio.current_task()
        steps = attempt.run.steps
        steps.update(self._undone)
        self._undone = {}
        failed: list[Key] = []
        if row is not None and row.outcome == DEAD:
            failed = [(*place, *each) for each in read_failed(row.arranged)]
            self._undone = {key: steps.pop(key) for key in self._later.done_after(row, place)}
        self._in_turn = InTurn(self._record.steps_of(place), row, failed)

    def is_in_turn(self, key: Key) -> bool:
        """Tell whether a step can end now; if so, it has."""
        return self._in_turn.take(key)

    def call(
        self,
        key: Key,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Awaitable[Any]:
        """Return what a step ends with that is not at hand; one that is live really runs."""
        steps = {} if self._attempt is None else self._attempt.run.steps
        if key[2] in self._live and key not in steps:  # what is finished only waits for its turn
            return _unguarded(call_step(key[2], function, arguments, keywords))
        return self._end(key, function)

    async def _end(self, key: Key, function: Callable[..., Any]) -> Any:
        attempt, row = self._attempt, self._row
        past = None if attempt is None else attempt.past
        is_past = past is not None and past.is_replayed  # what failed before a wait is met again
        await self._in_turn.wait(key)
        if attempt is not None and key in attempt.run.steps:
            text = attempt.run.steps[key]
            return self._stage.codec.decode_value(text, return_annotation(function))
        failure = self._failure(key, row, is_past=is_past)
        if failure is not None:
            raise raised_again(failure)
        # A handler that does not wait for all of its steps was done without this one then, too.
        is_awaited = asyncio.current_task() is self._task
        if not is_awaited and attempt is not None and await patiently(lambda: attempt.has_ended):
            raise asyncio.CancelledError
        return self._halt(key, attempt, row)

    def _failure(self, key: Key, row: TransitionRow | None, *, is_past: bool) -> str | None:
        """Return what a step raised in this attempt; another one may have failed of it as well."""
        if row is not None and row.outcome == DEAD and not is_past:
            return read_failed(row.arranged).get(key[2:])
        return self._record.failures.get(key)

    def _halt(self, key: Key, attempt: Attempt | None, row: TransitionRow | None) -> NoReturn:
        handler = None if attempt is None else attempt.recorded_as
        position = key[0] if attempt is None else attempt.position
        _, _, name, number = key
        why = ""
        if row is not None and row.outcome == DEAD:  # perhaps what was wrong is mended now
            why = f" (it was dead: {(row.error or '')[:200]})"
        which = "" if number == 1 else f", call {number} of that name,"
        self._stage.halt(
            "step",
            handler,
            f"position {position}: handler {handler!r} reached for step {name!r}{which} "
            f"which is not recorded; have it really run with live=[{name!r}] (--live {name!r}), "
            f"or see why it was not done then{why}",
            name,
        )

    def are_live(self, names: Collection[str]) -> bool:
        """Tell whether one of these really runs, perhaps in the place of another."""
        return not self._live.isdisjoint(names)


def named(live: Collection[str]) -> frozenset[str]:
    """Return names of steps that are to run, unless they are the letters of one name.

    Raises:
        InvalidValueError: it is a text.
    """
    if isinstance(live, str):
        raise InvalidValueError("live", f"is {live!r}; it takes several names: [{live!r}]")
    return frozenset(live)


async def _unguarded(call: Awaitable[Any]) -> Any:
    """Await a call that may reach outside."""
    guarded = refusal.set(None)
    try:
        return await call
    finally:
        refusal.reset(guarded)
