"""The mapping that a handler's context is: the run's state, and shared resources behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from flowstore.journal import Journal


class StateView(MutableMapping[str, Any]):
    """Reads the run's state first and the manager's shared resources behind it.

    Writes go to the state, which is durable and belongs to this run alone.
    """

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getitem__(self, key: str) -> Any:
        state = self._journal.get_state()
        if isinstance(state, Mapping):
            mapping = cast("Mapping[str, Any]", state)
            if key in mapping:
                return mapping[key]
        elif key in _fields(state):
            return getattr(state, key)
        return self._journal.resources[key]

    def __setitem__(self, key: str, value: Any) -> None:
        state = self._journal.get_state()
        if isinstance(state, MutableMapping):
            cast("MutableMapping[str, Any]", state)[key] = value
        elif key in _fields(state):
            setattr(state, key, value)
        else:
            message = f"{key!r} is not a field of the state, which is a {type(state).__name__}"
            raise KeyError(message)

    def __delitem__(self, key: str) -> None:
        state = self._journal.get_state()
        if isinstance(state, MutableMapping) and key in state:
            del state[key]
        elif key in self._journal.resources:
            message = f"{key!r} is a shared resource of the manager; it cannot be deleted here"
            raise KeyError(message)
        else:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        state = self._journal.get_state()
        names = (
            tuple(cast("Mapping[str, Any]", state))
            if isinstance(state, Mapping)
            else _fields(state)
        )
        yield from names
        yield from (key for key in self._journal.resources if key not in names)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _fields(state: Any) -> tuple[str, ...]:
    """Return the names of a model's or a dataclass's fields."""
    names: dict[str, Any] = getattr(state, "__dataclass_fields__", {})
    return tuple(getattr(state.__class__, "model_fields", names))
