"""What the state of a workflow's runs is: a dict, or objects of a class. No I/O."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

import pydantic  # not its names: they would load half of it before anyone needs them
from pydantic.errors import PydanticUserError

from flowstore.change import apply, copied, replay
from flowstore.door import Limits
from flowstore.errors import ConfigurationError, InvalidStateError, InvalidValueError
from flowstore.proof import Form

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# All that a Pydantic model consists of.
_PARTS = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


class StateKind:
    """What the state of a workflow's runs is: a dict, or objects of a class.

    Args:
        kind: ``dict``, a Pydantic model class or a dataclass.
        limits: how large a state may be.

    Raises:
        ConfigurationError: it is something else.
    """

    __slots__ = ("form", "kind", "limits")

    def __init__(self, kind: type = dict, limits: Limits | None = None) -> None:
        self.kind = kind
        self.limits = limits or Limits()
        self.form: Form | None = None
        if kind is dict:
            return
        if not isinstance(cast("object", kind), type) or not (
            issubclass(kind, pydantic.BaseModel) or is_dataclass(cast("object", kind))
        ):
            message = f"state={kind!r}: must be dict, a Pydantic model class or a dataclass"
            raise ConfigurationError(message)
        try:
            self.form = Form(kind)
        except (PydanticUserError, NameError) as error:
            message = f"state={kind.__name__}: {error}"
            raise ConfigurationError(message) from error

    def new(self) -> Any:
        """Return the state that a run begins with.

        Raises:
            InvalidStateError: a field has no default.
        """
        try:
            return self.kind()
        except Exception as error:
            problem = (
                f"{self.kind.__name__}() failed: {error}; "
                "a run begins with an empty state, so give every field a default"
            )
            raise InvalidStateError("state", problem) from error

    def dump(self, value: object) -> dict[str, Any]:
        """Return the state as a document, ready for JSON.

        A dict is returned as it is and checked by `State.change`; objects are checked here.

        Raises:
            InvalidStateError: it is not of this kind, fails its class's validation, or
                would not come back the same.
        """
        if type(value) is not self.kind:
            problem = f"is {type(value).__name__}; it must be {self.kind.__name__}"
            raise InvalidStateError("state", problem)
        if self.form is None:
            return cast("dict[str, Any]", value)
        limits = self.limits
        try:
            data, _ = self.form.prove(
                value, "state", max_bytes=limits.state_bytes, max_depth=limits.depth
            )
        except InvalidValueError as error:
            raise InvalidStateError(error.path, error.problem) from None
        if type(data) is not dict:
            problem = f"{self.kind.__name__} is not written as a JSON object; use one with fields"
            raise InvalidStateError("state", problem)
        return cast("dict[str, Any]", data)

    def load(self, document: dict[str, Any]) -> Any:
        """Make the state from a document, which becomes part of it.

        Raises:
            InvalidStateError: the document does not fit the class (any more); says where.
        """
        if self.form is None:
            return document
        try:
            return self.form.load_plain(document, "state")
        except InvalidValueError as error:
            raise InvalidStateError(error.path, error.problem) from None

    def restore(self, document: dict[str, Any]) -> Any:
        """Make the state from what was saved, which becomes part of it; the first if it is empty.

        Raises:
            InvalidStateError: the document does not fit the class (any more); says where.
        """
        return self.load(document) if document or self.form is None else self.new()

    def former(self, moments: Iterable[tuple[str | None, Sequence[str]]]) -> FormerState:
        """Return what a state was, moment by moment; see `FormerState`."""
        return FormerState(self, moments)

    def fill(self, former: Any, value: Any) -> Any:
        """Give one object of this kind what another has, which is then used up; return it.

        Whoever holds a list, a dict or an object within the former one holds from now on what
        the other has in its place, if that is there and of the same type.
        """
        return _filled(former, value, set())


class FormerState:
    """What a handler sees of the state while it is replayed.

    Args:
        kind: what the state is.
        moments: for each moment a snapshot to start from, None to go on from the moment before;
            and the changes from there on.

    Attributes:
        value: the state at the moment.

    Raises:
        InvalidStateError: what was saved cannot be read.
    """

    __slots__ = ("_document", "_kind", "_moments", "value")

    def __init__(
        self, kind: StateKind, moments: Iterable[tuple[str | None, Sequence[str]]]
    ) -> None:
        self._kind = kind
        self._moments = iter(moments)
        self._document: dict[str, Any] = {}
        self.value = self._next()

    def move_on(self) -> None:
        """Give whoever holds the value what it was at the next moment."""
        self.value = self._kind.fill(self.value, self._next())

    def _next(self) -> Any:
        snapshot, changes = next(self._moments)
        if snapshot is not None:
            self._document = replay(snapshot, ())
        for change in changes:
            apply(self._document, change)
        return self._kind.restore(copied(self._document))


def _filled(former: Any, value: Any, taken: set[int]) -> Any:
    """Return the former object with what the other has, or the other if that cannot be."""
    kind: type[Any] = value.__class__
    if type(former) is not kind or id(former) in taken:  # one that is in two places is two now
        return value
    if kind is dict:
        taken.add(id(former))
        new = {
            key: _filled(former[key], item, taken) if key in former else item
            for key, item in value.items()
        }
        former.clear()
        former.update(new)
    elif kind is list:
        taken.add(id(former))
        common = zip(former, value, strict=False)
        former[:] = [*(_filled(*pair, taken) for pair in common), *value[len(former) :]]
    elif issubclass(kind, pydantic.BaseModel):
        taken.add(id(former))
        _filled(former.__dict__, value.__dict__, taken)
        for name in _PARTS[1:]:
            object.__setattr__(former, name, getattr(value, name))
    elif is_dataclass(kind):
        taken.add(id(former))
        for name in kind.__dataclass_fields__:
            if hasattr(value, name):
                item = _filled(getattr(former, name, None), getattr(value, name), taken)
                object.__setattr__(former, name, item)  # also of a frozen class
    else:
        return value
    return former
