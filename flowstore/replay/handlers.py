"""Whether the handlers of an event are those that were called then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.replay.record import EDITED
from flowstore.replay.report import Divergence
from flowstore.routing import OVERDUE, REVIVER
from flowstore.store.base import RETRIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowstore.codec import Codec
    from flowstore.replay.difference import Ignored
    from flowstore.replay.record import Record
    from flowstore.routing import Handler, Routes
    from flowstore.store.base import StoredEvent, TransitionRow


class Handlers:
    """Tells of handlers that were called then and are gone, and of those that are new.

    Args:
        record: the run.
        routes: what is registered now.
        codec: reads the events.
        ignored: paths that do not count, such as ``handler.audit``.
    """

    def __init__(self, record: Record, routes: Routes, codec: Codec, ignored: Ignored) -> None:
        self._record = record
        self._routes = routes
        self._codec = codec
        self._ignored = ignored

    def gone(
        self, stored: StoredEvent, rows: Mapping[str, TransitionRow], handlers: Sequence[Handler]
    ) -> Divergence | None:
        """Find a handler that was called then, and is not registered for the event now.

        Args:
            stored: the event.
            rows: how each of those that were called ended then.
            handlers: those that are registered for it now.
        """
        known = [each.name for each in handlers]
        for name, row in rows.items():
            if name in known or row.outcome == EDITED:
                continue
            place, base = self._record.origin(stored.position, name, known)
            event = self._record.at(place).name
            if any(each.name == base for each in self._routes.handlers(event)):
                continue
            if self._ignored.covers(f"handler.{base}"):
                continue
            now = ", ".join(map(repr, known)) or "none"
            message = (
                f"position {stored.position}, {stored.name!r}: handler {base!r} was called then, "
                f"and is not registered for {event!r} now (registered: {now}); if it has a new "
                f"name, register it with name={base!r}"
            )
            return _divergence(stored, base, message, expected=name, actual=known)
        return None

    def is_new(
        self, stored: StoredEvent, rows: Mapping[str, TransitionRow], handler: Handler
    ) -> bool:
        """Tell whether a handler would be called now that was not called then.

        Args:
            stored: the event.
            rows: how each of those that were called ended then.
            handler: one that is registered for it now.
        """
        if handler.name in rows or handler is OVERDUE or handler is REVIVER:
            return False
        if handler.task is None:
            return True
        return handler.accepts(self._codec.decode(stored.name, stored.version, stored.data))

    def added(self, stored: StoredEvent, name: str) -> Divergence | None:
        """Return that a handler was not called then, unless the event's turn was cut short."""
        rows = self._record.rows(stored.position)
        is_whole = all(row.outcome != RETRIED for row in rows.values())
        if not is_whole or self._ignored.covers(f"handler.{name}"):
            return None
        message = (
            f"position {stored.position}, {stored.name!r}: handler {name!r} is registered for it "
            f"now, and was not called then; if that is intended, ignore handler.{name}"
        )
        return _divergence(stored, name, message, expected=[*rows], actual=name)


def _divergence(
    stored: StoredEvent, name: str, message: str, *, expected: Any, actual: Any
) -> Divergence:
    return Divergence(
        position=stored.position,
        event=stored.name,
        handler=name,
        kind="handler",
        message=message,
        expected=expected,
        actual=actual,
    )
