"""Events between what users write and what the log holds: JSON, types, versions.

A stored event names its type; no class is ever imported by a name found in stored data.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast, get_args, get_origin

from pydantic.errors import PydanticUserError

from flowstore.clock import to_datetime
from flowstore.door import Limits, decode_json, encode_json, short_text
from flowstore.errors import (
    ConfigurationError,
    EventTypeError,
    EventVersionError,
    InvalidValueError,
    ValueTooLargeError,
)
from flowstore.events import WorkflowEvent
from flowstore.proof import Form
from flowstore.registry import EXPECTED, EventTypes, is_typed, place, shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Codec",
    "Encoded",
    "EventTypes",
    "Limits",
    "decode_json",
    "encode_json",
    "refuse_engine_id",
]

_OWN_BYTES: Final = 1024 * 1024
_OWN_DEPTH: Final = 8
_JSON_TYPES: Final = (Any, object, str, int, float, bool, list, dict, type(None), None)
# By identity: an annotation can be any object, and have an opinion of what equals it.
_JSON_IDS: Final = frozenset(map(id, _JSON_TYPES))
_ENGINE_ID: Final = re.compile(r"\d+/.+/|cron/.+/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.DOTALL)


class Encoded(NamedTuple):
    """An event's content as the log has it; ``data`` and ``metadata`` are JSON texts."""

    name: str
    version: int
    data: str | None
    metadata: str | None
    error: str | None


class Stored(Protocol):
    """What the log has of an event, as far as its envelope needs it."""

    @property
    def position(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def data(self) -> str | None: ...
    @property
    def metadata(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def causation_id(self) -> str | None: ...
    @property
    def created_at(self) -> int: ...


class Codec:
    """Turns events, results and state into what the store holds, and back.

    Args:
        limits: how large things may be.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.types = EventTypes()
        self._forms: dict[Any, Form | None] = {}
        self._upcasters: dict[str, dict[int, Callable[[Any], Any]]] = {}
        self._versions: dict[str, int] = {}

    # --- versions ---

    def upcaster(self, name: str, version: int, function: Callable[[Any], Any]) -> None:
        """Add the function that turns data of this version of an event into the next.

        The current version of an event is one more than the highest that has an upcaster,
        and 1 without any.

        Raises:
            ConfigurationError: the version is below 1, or has an upcaster already.
        """
        if type(version) is not int or version < 1:
            message = f"upcaster of {name!r}: version is {version!r}; versions count from 1"
            raise ConfigurationError(message)
        known = self._upcasters.setdefault(name, {})
        if version in known:
            message = (
                f"upcaster of {name!r} from version {version} is there already: "
                f"{place(known[version])}"
            )
            raise ConfigurationError(message)
        known[version] = function
        self._versions[name] = max(known) + 1

    def version_of(self, name: str) -> int:
        """Return the version under which an event of this name is stored now."""
        return self._versions.get(name, 1)

    # --- events ---

    def encode(self, event: object) -> Encoded:
        """Turn an event into what the log holds.

        Args:
            event: a `WorkflowEvent`, or a Pydantic model or dataclass, registered or not.

        Raises:
            EventTypeError: it is something else, or its name is already another class's.
            InvalidValueError: part of it cannot be stored and read back unchanged.
            ValueTooLargeError: part of it is over a limit.
        """
        if not isinstance(event, WorkflowEvent):
            return self._encode_typed(event)
        limits, name = self.limits, event.name
        self._check_name(name)
        data = event.data
        if data is not None:
            data = encode_json(data, "data", max_bytes=limits.data_bytes, max_depth=limits.depth)
        metadata = None if event.metadata is None else self._encode_metadata(event.metadata)
        if event.error is not None:
            self._check_error(event.error)
        return Encoded(name, self._versions.get(name, 1), data, metadata, event.error)

    def encode_own(self, name: str, data: dict[str, Any], error: str | None = None) -> Encoded:
        """Turn an event of the engine's own into what the log holds.

        Limits are for what users send: none of theirs may keep a failure from being told.
        """
        text = encode_json(data, "data", max_bytes=_OWN_BYTES, max_depth=_OWN_DEPTH)
        return Encoded(name, self.version_of(name), text, None, error)

    def _encode_metadata(self, metadata: object) -> str:
        if type(metadata) is not dict:
            raise InvalidValueError("metadata", f"is {shown(metadata)}; it must be a dict or None")
        limits = self.limits
        return encode_json(
            cast("object", metadata),
            "metadata",
            max_bytes=limits.metadata_bytes,
            max_depth=limits.depth,
        )

    def _encode_typed(self, event: object) -> Encoded:
        if isinstance(event, type) or not is_typed(type(event)):
            message = f"{shown(event)} is not an event; {EXPECTED}"
            raise EventTypeError(message)
        name = self.types.name_of(event)
        self._check_name(name)
        form = self._event_form(type(event))
        data = form.dump(
            event, "data", max_bytes=self.limits.data_bytes, max_depth=self.limits.depth
        )
        return Encoded(name, self._versions.get(name, 1), data, None, None)

    def decode(self, name: str, version: int, data: str | None) -> Any:
        """Read an event's data, brought up to the current version of the event.

        Raises:
            EventVersionError: the event is newer than the code, an upcaster is missing on
                the way, or one failed.
        """
        value = decode_json(data)
        current = self._versions.get(name, 1)
        if version == current:
            return value
        if version > current:
            message = (
                f"event {name!r} has version {version} and this code knows {current}; "
                "run the newer code, or add its upcasters"
            )
            raise EventVersionError(message)
        for step in range(version, current):
            value = self._upcast(name, step, value)
        return value

    def _upcast(self, name: str, version: int, value: Any) -> Any:
        function = self._upcasters[name].get(version)
        if function is None:
            message = (
                f"event {name!r} has no upcaster from version {version} to {version + 1}; add it"
            )
            raise EventVersionError(message)
        try:
            return function(value)
        except Exception as error:
            message = (
                f"the upcaster of event {name!r} from version {version} to {version + 1} failed: "
                f"{type(error).__name__}: {error}"
            )
            raise EventVersionError(message) from error

    def typed(self, name: str, data: Any) -> object:
        """Make the object of an event from its data, as `decode` returned it.

        Raises:
            EventTypeError: no class is registered for the name.
            InvalidValueError: the data does not fit the class (any more); says where.
        """
        kind = self.types.type_for(name)
        if kind is None:
            message = f"no class is registered for the event {name!r}; register it with a handler"
            raise EventTypeError(message)
        # An envelope is sent without its class: what is in it may never have fitted.
        remedy = (
            f"send {name!r} with data that fits or, if its class has changed since it was sent, "
            f"add an upcaster from version {self._versions.get(name, 1)}"
        )
        return self._event_form(kind).load_plain(data, "data", remedy)

    def event(self, stored: Stored, correlation_id: str) -> WorkflowEvent:
        """Make the envelope of an event that the log holds."""
        name, metadata = stored.name, stored.metadata
        return WorkflowEvent(
            name,
            self.decode(name, stored.version, stored.data),
            metadata if metadata is None else decode_json(metadata),
            stored.error,
            stored.id,
            correlation_id,
            stored.causation_id,
            stored.position,
            to_datetime(stored.created_at),
        )

    # --- results ---

    def encode_value(
        self, value: object, path: str, max_bytes: int | None = None, annotation: Any = None
    ) -> str:
        """Turn the result of a step or a run into JSON.

        Args:
            value: any JSON value, or what the annotation describes.
            path: where the value is, for messages.
            max_bytes: the most bytes that the JSON may have; the limit for results if None.
            annotation: the return type of the function that made it, if it has one.

        Raises:
            InvalidValueError: it cannot be stored and read back unchanged.
            ValueTooLargeError: it is too large or too deep.
        """
        max_bytes = max_bytes or self.limits.result_bytes
        form = self._value_form(annotation)
        if form is not None:
            return form.dump(value, path, max_bytes=max_bytes, max_depth=self.limits.depth)
        if not isinstance(value, type) and is_typed(type(value)):
            problem = (
                f"is {shown(value)}, and without its type it could not be made again; "
                "annotate the function's return type"
            )
            raise InvalidValueError(path, problem)
        return encode_json(value, path, max_bytes=max_bytes, max_depth=self.limits.depth)

    def encode_chunk(self, chunk: object, path: str) -> str:
        """Turn a chunk of a stream into JSON; a model or dataclass is one that comes back so.

        Raises:
            InvalidValueError: it cannot be stored and read back unchanged.
            ValueTooLargeError: it is larger than an event's data may be, or too deep.
        """
        size, depth = self.limits.data_bytes, self.limits.depth
        if type(chunk) is str and (text := short_text(chunk, size)) is not None:
            return text  # most streams are made of them
        if is_typed(type(chunk)):
            form = self._event_form(type(chunk))
            return form.dump(chunk, path, max_bytes=size, max_depth=depth)
        return encode_json(chunk, path, max_bytes=size, max_depth=depth)

    def decode_value(self, text: str | None, annotation: Any = None, path: str = "result") -> Any:
        """Read a result again; the annotation must be the one that it was stored with.

        Raises:
            InvalidValueError: the result does not fit the annotation.
        """
        form = self._value_form(annotation)
        if form is None or text is None:
            return decode_json(text)
        return form.load(text, path)

    # --- texts ---

    def check_text(self, text: object, path: str, max_length: int) -> None:
        """Refuse a name or an id that is not a str, empty, too long, or has NUL or surrogates.

        Args:
            text: the name or id.
            path: what it is, for messages.
            max_length: in characters.

        Raises:
            InvalidValueError: it is not a proper text.
            ValueTooLargeError: it is too long.
        """
        if type(text) is not str:
            raise InvalidValueError(path, f"is {shown(text)}; it must be a str")
        if not text:
            raise InvalidValueError(path, "is empty; it must have at least one character")
        if len(text) > max_length:
            problem = f"has {len(text)} characters and the limit is {max_length}; shorten it"
            raise ValueTooLargeError(path, problem)
        if not text.isprintable():  # as no text is with a NUL or a lone surrogate, and some others
            encode_json(text, path, max_bytes=12 * max_length + 2, max_depth=1)

    def check_id(self, text: str) -> None:
        """Refuse an event's id that is no proper text, or has the shape of the engine's own.

        Raises:
            InvalidValueError: it could not be told from the id of an emitted event.
            ValueTooLargeError: it is too long.
        """
        self.check_text(text, "id", self.limits.id_length)
        refuse_engine_id(text)

    def _check_name(self, name: str) -> None:
        # isprintable is false for NUL and lone surrogates, and for some that are fine.
        longest = self.limits.name_length
        if type(name) is not str or not 0 < len(name) <= longest or not name.isprintable():
            self.check_text(name, "name", longest)

    def _check_error(self, error: object) -> None:
        if type(error) is not str:
            raise InvalidValueError("error", f"is {shown(error)}; it must be a str or None")
        encode_json(error, "error", max_bytes=self.limits.data_bytes, max_depth=1)

    # --- forms ---

    def _event_form(self, kind: type) -> Form:
        form = self._forms.get(kind)
        if form is None:
            try:
                form = self._forms[kind] = Form(kind)
            except (PydanticUserError, NameError) as error:
                message = f"{place(kind)} cannot be an event type: {error}"
                raise EventTypeError(message) from error
        return form

    def prepare(self, annotation: Any) -> None:
        """Make what checks values of an annotation now, unless it names what is not there yet."""
        if not is_json_type(annotation):
            with suppress(PydanticUserError, NameError, TypeError):
                if annotation not in self._forms:
                    self._forms[annotation] = Form(annotation)

    def _value_form(self, annotation: Any) -> Form | None:
        if is_json_type(annotation):
            return None
        with suppress(KeyError, TypeError):  # TypeError: it cannot be hashed
            return self._forms[annotation]
        try:
            form = Form(annotation)
        except (PydanticUserError, NameError):
            form = None  # Pydantic does not know the type; then only plain JSON can pass
        with suppress(TypeError):
            self._forms[annotation] = form
        return form


def refuse_engine_id(text: str) -> None:
    """Refuse the id of a new event that could be taken for an emitted event's, or a cron's.

    Raises:
        InvalidValueError: it has that shape.
    """
    if _ENGINE_ID.match(text):
        problem = (
            f"{text!r} has the shape of the ids that emitted events get "
            "(position/handler/number, cron/name/time); put something before it"
        )
        raise InvalidValueError("id", problem)


def is_json_type(annotation: Any) -> bool:
    """Tell whether an annotation says no more of a value than that it is JSON of some kind."""
    if id(annotation) in _JSON_IDS:
        return True
    return get_origin(annotation) in (list, dict) and all(map(is_json_type, get_args(annotation)))
