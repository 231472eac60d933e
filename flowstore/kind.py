"""What the state of a workflow's runs is: a dict, or objects of a class. No I/O."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, cast

import pydantic  # not its names: they would load half of it before anyone needs them
from pydantic.errors import PydanticUserError

from flowstore.door import Limits
from flowstore.errors import ConfigurationError, InvalidStateError, InvalidValueError
from flowstore.proof import Form

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

    def fill(self, former: Any, value: Any) -> Any:
        """Give one object of this kind what another has, and return it."""
        if type(former) is not type(value):
            return value
        if self.form is None:
            former.clear()
            former.update(value)
            return former
        names = _PARTS if isinstance(value, pydantic.BaseModel) else value.__dataclass_fields__
        for name in names:
            # Also of a frozen class: to its users this is another object.
            object.__setattr__(former, name, getattr(value, name))
        return former
