"""Which events a parked handler, or a collection, waits for. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.errors import ConfigurationError, FlowstoreError
from flowstore.events import WAIT_EXPIRED
from flowstore.routing import EVERYTHING, Outcome
from flowstore.store.base import Behind, name_behind

if TYPE_CHECKING:
    from flowstore.codec import Codec
    from flowstore.store.base import ParkedRow, StoredEvent


# Not those of progress (p), timers (s) and tasks (t), whose ids have the same shape.
_LETTER: Final = {"wait": "w", "postpone": "l"}


_OF_A_CLASS = '{"class": true'
"""What the condition of a wait for a class begins with."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event that is waited for.

    Attributes:
        name: its name, or that of its class.
        is_class: events of subclasses fit as well, and the typed object is handed out.
        where: what its data must have, at its top level.
    """

    name: str
    is_class: bool
    where: Mapping[str, Any]

    @classmethod
    def of(cls, event: object, codec: Codec, where: Mapping[str, Any] | None = None) -> Trigger:
        """Return what an argument stands for: a name, a class, or how a task ends.

        Raises:
            ConfigurationError: it is none of these.
        """
        if isinstance(event, Outcome):
            return cls(event.event, is_class=False, where={**(where or {}), "task": event.task})
        if isinstance(event, str) and event:
            return cls(event, is_class=False, where=where or {})
        if isinstance(event, type):
            return cls(codec.types.register(event), is_class=True, where=where or {})
        raise ConfigurationError(
            f"{event!r} is no event to wait for: give its name, its class (a Pydantic model or a "
            "dataclass), or task.completed of a task"
        )

    @property
    def condition(self) -> str | None:
        """Return all but the name as JSON, None if there is nothing else to say."""
        if not self.is_class and not self.where:
            return None
        return json.dumps({"class": self.is_class, "where": dict(self.where)})

    @classmethod
    def from_row(cls, row: ParkedRow) -> Trigger:
        """Return what a parked handler waits for; its row must name an event."""
        said: dict[str, Any] = json.loads(row.condition) if row.condition else {}
        return cls(row.name or "", said.get("class", False), said.get("where", {}))

    def is_unknown(self, codec: Codec) -> bool:
        """Tell whether its class is not known here, so that only the handler can tell what fits.

        A class that is only waited for is known from the first wait for it in this process.
        """
        return self.is_class and codec.types.type_for(self.name) is None

    def fits_name(self, name: str, codec: Codec) -> bool:
        """Tell whether events of this name can fit."""
        if name == self.name or (self.name == EVERYTHING and name != WAIT_EXPIRED):
            return True
        kind = codec.types.type_for(self.name) if self.is_class else None
        return kind is not None and kind in codec.types.lineage(name)

    def fits(self, name: str, data: object, codec: Codec) -> bool:
        """Tell whether an event with this data fits."""
        if not self.fits_name(name, codec):
            return False
        if not self.where:
            return True
        if not isinstance(data, Mapping):
            return False
        found = cast("Mapping[str, Any]", data)
        return all(key in found and _is_same(found[key], it) for key, it in self.where.items())


def awaits(row: ParkedRow, stored: StoredEvent, codec: Codec) -> bool:
    """Tell whether this is an event that a parked handler waits for, as far as its row says."""
    if stored.name == WAIT_EXPIRED != row.name:
        return ends_wait(row, stored)
    # One that was parked at this very event does not wait for it.
    if row.position >= stored.position or not may_await(row, stored.name, codec):
        return False
    trigger = Trigger.from_row(row)
    if trigger.is_unknown(codec) or not trigger.where:
        return True
    try:
        data = codec.decode(stored.name, stored.version, stored.data)
    except FlowstoreError:
        return True  # the handler is told when it asks for the event
    return trigger.fits(stored.name, data, codec)


def may_await(row: ParkedRow, name: str, codec: Codec) -> bool:
    """Tell whether a parked handler may wait for an event of this name."""
    if name == WAIT_EXPIRED or row.name in {name, EVERYTHING}:
        return True
    # Its JSON is read for no more rows than it has to be: a run can have many.
    if row.name is None or row.condition is None or not row.condition.startswith(_OF_A_CLASS):
        return False
    trigger = Trigger.from_row(row)
    return trigger.fits_name(name, codec) or trigger.is_unknown(codec)


def continued_name(row: ParkedRow) -> str:
    """Return what the record calls a handler that goes on."""
    return name_behind(row.handler, row.position)


def ends_wait(row: ParkedRow, stored: StoredEvent) -> bool:
    """Tell whether an event says that this very wait has lasted long enough."""
    return stored.name == WAIT_EXPIRED and stored.id == expiry_id(row)


def expiry_id(row: ParkedRow) -> str:
    """Return the id of the event that ends this wait when its time is over."""
    behind = Behind.read(row.answers)
    number = len(behind.waits) + behind.times + 1
    return f"{row.position}/{row.handler}/{_LETTER[row.kind]}{number}"


def _is_same(one: object, other: object) -> bool:
    """Compare JSON values; to Python, true would be 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
