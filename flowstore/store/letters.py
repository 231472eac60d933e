"""What becomes of dead letters: they are retried, or discarded. Decisions, as in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson

from flowstore.errors import DeadLetterError, RunNotFoundError
from flowstore.events import DEAD_RETRIED
from flowstore.store import arranged, base
from flowstore.store.base import Appended, Behind, DropRow, NewEvent, ParkedRow, SettledDead
from flowstore.store.keys import began_at, failure_reason, is_retry, retry_id

if TYPE_CHECKING:
    from flowstore.store.base import DiscardDead, RetryDead, RunRow, StoredEvent, TransitionRow
    from flowstore.store.ledger import Ledger
    from flowstore.store.lookup import Lookup


class LetterLookup(Protocol):
    """What must be known about the record of a run."""

    def attempts(self, run_id: int, position: int) -> list[TransitionRow]:
        """Return the transitions at a position, in order."""
        ...

    def event_at(self, run_id: int, position: int) -> StoredEvent | None:
        """Return the event at a position."""
        ...

    def last_parked(self, run_id: int, position: int, handler: str, before: int) -> str | None:
        """Return what the handler of an event arranged when it was parked last, before a number."""
        ...

    def discarded(self, run_id: int, event_id: str) -> list[tuple[int, str]]:
        """Return positions and handlers of the dead letters at an event that are discarded."""
        ...

    def failures(self, run_id: int) -> list[tuple[int, str, str, str | None, int, str]]:
        """Return position, handler, event's name, error, number, event's id of all that died."""
        ...


class Letters:
    """Retries and discards dead letters."""

    def __init__(self, ledger: Ledger, lookup: Lookup, rows: LetterLookup) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._rows = rows

    # --- the operations ----------------------------------------------------------------------

    def retry(self, operation: RetryDead) -> SettledDead:
        """Append the event at which the handler is called again.

        Raises:
            RunNotFoundError, DeadLetterError: there is no such dead letter, or none any more, or
                its run is closed for another reason.
        """
        run, event, letter = self._find(operation)
        row, woken_by = self._origin(run, event, letter)
        failure = failure_reason(letter.handler, event.name, letter.position, letter.error)
        opens = self._opens(run, failure)
        data: dict[str, Any] = {
            "position": letter.position,
            "handler": letter.handler,
            "error": letter.error,
            "failure": failure,
            "reopened": run.status in base.CLOSED,
            "row": row[1:],
            "woken_by": woken_by,
        }
        event_id = retry_id(letter.position, letter.handler, letter.number)
        content = (DEAD_RETRIED, 1, orjson.dumps(data).decode(), None, None)
        new = NewEvent(event_id, *content, event.id, operation.now, None)
        if opens:
            run.reason = None
        placed = self._ledger.place(run, new, operation.now)
        self._ledger.changed[run.id] = run
        self._ledger.chosen[run.id, new.id] = placed
        place = (placed.position, run.id, run.status, run.owner)
        appended = Appended("accepted", *place, event=placed)
        return SettledDead(letter.handler, letter.error, appended)

    def discard(self, operation: DiscardDead) -> SettledDead:
        """Record that a dead letter is to be listed no more.

        Raises:
            RunNotFoundError, DeadLetterError: there is no such dead letter, or none any more.
        """
        run, event, letter = self._find(operation)
        cells = (letter.position, letter.handler, base.DISCARDED, operation.reason, operation.now)
        self._ledger.drops.append(DropRow(run.id, event.id, event.name, *cells))
        return SettledDead(letter.handler, letter.error)

    # --- which one it is ---------------------------------------------------------------------

    def _find(
        self, operation: RetryDead | DiscardDead
    ) -> tuple[RunRow, StoredEvent, TransitionRow]:
        run = self._lookup.run(operation.correlation_id)
        if run is None:
            raise RunNotFoundError(
                f"there is no run {operation.correlation_id!r} in the store; "
                "`flowstore runs` lists those there are"
            )
        place = f"run {run.correlation_id!r}, position {operation.position}"
        event = self._rows.event_at(run.id, operation.position)
        attempts = self._rows.attempts(run.id, operation.position)
        dead = [each for each in attempts if each.outcome == base.DEAD]
        if event is None or not dead:
            raise DeadLetterError(f"{place}: no handler has failed for good there")
        if operation.handler is not None:
            dead = [each for each in dead if each.handler == operation.handler]
            if not dead:
                raise DeadLetterError(
                    f"{place}: handler {operation.handler!r} has not failed for good there"
                )
        problems = [self._settled(run, event, each) for each in dead]
        still = [each for each, it in zip(dead, problems, strict=True) if it is None]
        if not still:
            raise DeadLetterError(f"{place}, handler {dead[0].handler!r}: {problems[0]}")
        if len(still) > 1:
            names = ", ".join(repr(each.handler) for each in still)
            raise DeadLetterError(f"{place}: several have failed for good; say which of {names}")
        return run, event, still[0]

    def _settled(self, run: RunRow, event: StoredEvent, letter: TransitionRow) -> str | None:
        """Tell what has become of a dead letter; None if it is one still."""
        retried = self._lookup.event(
            run.id, retry_id(letter.position, letter.handler, letter.number)
        )
        if retried is not None:
            return f"it has been retried already, at position {retried.position}"
        place = (letter.position, letter.handler)
        is_fresh = any(
            (drop.position, drop.handler) == place and drop.reason == base.DISCARDED
            for drop in self._ledger.drops
            if drop.run_id == run.id
        )
        if is_fresh or place in self._rows.discarded(run.id, event.id):
            return "it has been discarded"
        return None

    # --- a retry -----------------------------------------------------------------------------

    def _origin(
        self, run: RunRow, event: StoredEvent, letter: TransitionRow
    ) -> tuple[ParkedRow, int | None]:
        """Return how the handler is to go on: as it was parked, or anew; and at which event."""
        if is_retry(event.name, event.id):
            told = orjson.loads(event.data or "{}")
            row, woken_by = ParkedRow(run.id, *told["row"]), told["woken_by"]
            return (row if woken_by is not None else _anew(row, letter)), woken_by
        place, name = began_at(letter.handler, letter.position)
        if place != letter.position:
            text = self._rows.last_parked(run.id, place, name, letter.number)
            for row in arranged.read(text, run.id).parked:
                if (row.position, row.handler) == (place, name):
                    is_waiting = row.kind == "wait"
                    return (row, event.position) if is_waiting else (_anew(row, letter), None)
            origin = self._rows.attempts(run.id, place)
            if any((each.handler, each.outcome) == (name, base.PARKED) for each in origin):
                raise DeadLetterError(
                    f"run {run.correlation_id!r}, position {letter.position}: handler "
                    f"{letter.handler!r} waited when this was recorded by an older flowstore, "
                    "which did not record how; send the event again under another id"
                )
        row = ParkedRow(run.id, letter.position, letter.handler, *_NOTHING, letter.started_at, 0)
        return _anew(row, letter), None

    def _opens(self, run: RunRow, failure: str) -> bool:
        """Tell whether the run has no reason left to fail, once this is retried.

        Raises:
            DeadLetterError: it is closed, and not for a dead letter.
        """
        failures = [
            (failure_reason(handler, name, position, error), position, handler, number, event_id)
            for position, handler, name, error, number, event_id in self._rows.failures(run.id)
        ]
        found = next((each for each in failures if each[0] == run.reason), None)
        if run.status in base.CLOSED and (run.status != "failed" or found is None):
            because = "" if run.reason is None else f" ({run.reason})"
            raise DeadLetterError(
                f"run {run.correlation_id!r} is {run.status}{because}: its dead letters can be "
                "discarded, not retried"
            )
        if found is None or run.reason == failure:
            return True
        _, position, handler, _, event_id = found
        return (position, handler) in self._rows.discarded(run.id, event_id)


_NOTHING = ("postpone", None, None, "")


def _anew(row: ParkedRow, letter: TransitionRow) -> ParkedRow:
    """Have the handler begin anew; what it puts off from then on gets ids of its own.

    It has put its event off less often than the run has transitions.
    """
    return row._replace(
        kind="postpone",
        name=None,
        condition=None,
        answers=Behind([], [], letter.number).text(),
        state_number=letter.number,
    )
