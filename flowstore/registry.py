"""The classes whose objects are events, by the names under which events are stored."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import pydantic  # not its names: they would load half of it before anyone needs them

from flowstore.errors import EventTypeError
from flowstore.events import WorkflowEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXPECTED: Final = "use a WorkflowEvent, a Pydantic model or a dataclass instance"


class EventTypes:
    """The classes whose objects are events, by name.

    Subclasses of registered classes are known too, whenever they are defined.
    """

    def __init__(self) -> None:
        self._registered: dict[str, type] = {}
        self._found: dict[str, type] = {}
        self._lineages: dict[str, tuple[type, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._registered)

    def register(self, kind: type) -> str:
        """Make a Pydantic model class or a dataclass an event type; return its name.

        The name is that of the class, or its own class attribute ``event_name``.

        Raises:
            EventTypeError: it is another kind of class, or another class has the name.
        """
        if not isinstance(cast("object", kind), type) or not is_typed(kind):
            message = (
                f"{shown(kind)} cannot be an event type; "
                "use a Pydantic model class, a dataclass, or a name as str"
            )
            raise EventTypeError(message)
        name = self.name_of(kind)
        self._registered[name] = kind
        self._found.pop(name, None)
        self._lineages.clear()
        return name

    def name_of(self, event: object) -> str:
        """Return the name under which an event, or the events of a class, are stored.

        Raises:
            EventTypeError: it is not an event, or another class has the name.
        """
        kind = event if isinstance(event, type) else type(event)
        if not is_typed(kind):
            message = f"{shown(event)} is not an event; {EXPECTED}"
            raise EventTypeError(message)
        own = _name(kind)
        known = self._registered.get(own)
        if known is not None and known is not kind:
            message = (
                f"two classes have the event name {own!r}: {place(known)} and {place(kind)}; "
                "give one of them another: event_name: ClassVar[str] = …"
            )
            raise EventTypeError(message)
        return own

    def type_for(self, name: str) -> type | None:
        """Return the class that is registered under this name, or derived from one that is.

        Raises:
            EventTypeError: two subclasses have the name, so there is no telling them apart.
        """
        kind = self._registered.get(name) or self._found.get(name)
        if kind is None and self._registered:
            kind = self._search(name)
            if kind is not None:
                self._found[name] = kind
        return kind

    def lineage(self, name: str) -> tuple[type, ...]:
        """Return the class for this name and every registered class that it derives from.

        The class itself comes first, the others in the order of its bases; nothing if no
        class has the name.
        """
        known = self._lineages.get(name)
        if known is None:
            kind = self.type_for(name)
            if kind is None:
                return ()  # not remembered: the class may be defined later
            registered = set(self._registered.values())
            known = (kind, *(base for base in kind.__mro__[1:] if base in registered))
            self._lineages[name] = known
        return known

    def _search(self, name: str) -> type | None:
        found: dict[str, type] = {}
        for kind in _subclasses(self._registered.values()):
            if _name(kind) == name:
                # A dataclass with slots is made twice; the younger is the one in use.
                found[place(kind)] = kind
        if len(found) > 1:
            message = (
                f"the event name {name!r} stands for several classes: {', '.join(found)}; "
                "register the one that is meant, or give the others an event_name"
            )
            raise EventTypeError(message)
        return next(iter(found.values()), None)


def is_typed(kind: type) -> bool:
    """Tell whether a class is a Pydantic model class or a dataclass, and not an envelope."""
    if issubclass(kind, pydantic.BaseModel):
        return True
    return is_dataclass(cast("object", kind)) and not issubclass(kind, WorkflowEvent)


def _name(kind: type) -> str:
    own: object = vars(kind).get("event_name")
    if type(own) is str and own and not _is_field(kind, "event_name"):
        return own
    return kind.__name__


def _is_field(kind: Any, name: str) -> bool:
    # A dataclass keeps the default of a field as a class attribute.
    return is_dataclass(kind) and any(field.name == name for field in fields(kind))


def _subclasses(kinds: Iterable[type]) -> Iterator[type]:
    seen: set[type] = set()
    queue = list(kinds)
    for kind in queue:
        derived: type
        for derived in type.__subclasses__(kind):
            if derived not in seen:
                seen.add(derived)
                queue.append(derived)
                yield derived


def place(thing: Any) -> str:
    """Return where a class or function is defined, for messages."""
    return f"{thing.__module__}.{thing.__qualname__}"


def shown(value: object) -> str:
    """Say what a value is without showing it, for messages."""
    if isinstance(value, type):
        return f"the class {place(value)}"
    return f"a value of type {type(value).__name__}"
