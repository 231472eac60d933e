"""Typed objects as JSON, with the proof that they come back the same.

Pydantic turns most things into JSON, and not all of them back: a secret becomes stars, a
subclass loses its fields, an invalid value is written without a word. So whatever is
written is read back at once and compared with the original, type by type.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from operator import is_
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import pydantic  # not its names: they would load half of it before anyone needs them

from flowstore.door import child, encode_json
from flowstore.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_EXACT: Final = frozenset({str, int, bool, type(None)})  # the same type and equal is the same
_BYTES: Final = 'set model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
_UPCAST: Final = "add an upcaster"
_REMEDY: Final = "give the field a type that says exactly what it holds"


class Form:
    """How the objects of one type are written as JSON and read back.

    Args:
        annotation: a Pydantic model class, a dataclass, or any type that Pydantic knows.

    Raises:
        pydantic.errors.PydanticUserError: Pydantic cannot make a schema for it.
    """

    __slots__ = ("_adapter", "_has_sets")

    def __init__(self, annotation: Any) -> None:
        self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
        self._adapter.rebuild(raise_errors=True)
        self._has_sets = _mentions_sets(self._adapter.core_schema)

    def dump(self, value: object, path: str, *, max_bytes: int, max_depth: int) -> str:
        """Turn an object into JSON that `load` turns back into an equal object.

        Raises:
            InvalidValueError: it cannot be written, or would not come back the same.
            ValueTooLargeError: it is too large or too deep.
        """
        return self.prove(value, path, max_bytes=max_bytes, max_depth=max_depth)[1]

    def prove(self, value: object, path: str, *, max_bytes: int, max_depth: int) -> tuple[Any, str]:
        """Do as `dump` does, and return the plain value as well as its JSON."""
        data = self._plain(value, path)
        text = encode_json(data, path, max_bytes=max_bytes, max_depth=max_depth)
        found = difference(value, self._load(text, path, stored=False), path)
        if found is not None:
            raise found
        return data, text

    def load(self, text: str, path: str) -> Any:
        """Make the object from JSON again.

        Raises:
            InvalidValueError: the JSON does not fit the type (any more); says where.
        """
        return self._load(text, path, stored=True)

    def load_plain(self, data: object, path: str, remedy: str = _UPCAST) -> Any:
        """Make the object from a JSON value that has been read already.

        Args:
            data: the value.
            path: where it is, for messages.
            remedy: what to do if it does not fit, for messages.

        Raises:
            InvalidValueError: the value does not fit the type (any more); says where.
        """
        # Not validate_python: only JSON may stand for dates and sets in a strict model.
        return self._load(orjson.dumps(data), path, stored=True, remedy=remedy)

    def _load(self, text: str | bytes, path: str, *, stored: bool, remedy: str = _UPCAST) -> Any:
        try:
            return self._adapter.validate_json(text, by_alias=False, by_name=True)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = _join(path, first["loc"])
            if stored:
                problem = f"the stored value does not fit its type: {first['msg']}; {remedy}"
            else:
                problem = f"would not come back the same: {first['msg']}; {_REMEDY}"
        except Exception as error:  # noqa: BLE001 - a validator is the user's code
            where, problem = path, f"a validator failed: {type(error).__name__}: {error}"
        # The cause is not chained: it shows the input, which may be a secret.
        raise InvalidValueError(where, problem)

    def _plain(self, value: object, path: str, include: Any = None) -> Any:
        try:
            data = self._adapter.dump_python(
                value, mode="json", include=include, by_alias=False, round_trip=True, warnings=False
            )
        except Exception as error:  # noqa: BLE001 - a serializer may be the user's code
            if include is None:
                self._blame_field(value, path)
            remedy = _BYTES if isinstance(error, UnicodeDecodeError) else _REMEDY
            problem = f"cannot be written as JSON: {type(error).__name__}: {error}; {remedy}"
        else:
            return _sorted_sets(value, data) if self._has_sets else data
        raise InvalidValueError(path, problem)

    def _blame_field(self, value: object, path: str) -> None:
        for name in _field_names(value):
            self._plain(value, child(path, name), include={name})


def difference(old: object, new: object, path: str) -> InvalidValueError | None:
    """Return the error for the first place where two objects differ, or None.

    More exact than ``==``: 1, 1.0 and True differ, and so do subclasses. A datetime's zone
    counts by its offset, because the zone's name is not part of ISO 8601. The fields of
    objects are compared, whatever their ``__eq__`` does; private attributes are not.
    """
    if old is new:
        return None
    kind = type(old)
    if kind is not type(new):
        problem = f"is {kind.__name__} and would come back as {type(new).__name__}; {_REMEDY}"
        return InvalidValueError(path, problem)
    for kinds, compare in _COMPARE:
        if isinstance(old, kinds):
            return compare(old, new, path)
    if is_typed_object(old):
        return _fields_difference(old, new, path)
    if _same_scalar(old, new):
        return None
    problem = f"would come back as another {kind.__name__}; {_REMEDY}"
    return InvalidValueError(path, problem)


def is_typed_object(value: object) -> bool:
    """Tell whether a value is an object of a model class or a dataclass."""
    if isinstance(value, pydantic.BaseModel):
        return True
    return is_dataclass(value) and not isinstance(value, type)


def _same_scalar(old: Any, new: Any) -> bool:
    if isinstance(old, float):
        return repr(old) == repr(new)  # tells -0.0 from 0.0
    if isinstance(old, Decimal):
        return bool(old.as_tuple() == new.as_tuple())  # tells 1.0 from 1.00
    if isinstance(old, (datetime, time)):
        if old.tzinfo is None:
            return bool(new.tzinfo is None and old == new and old.fold == new.fold)
        # Times of two zones are never equal in the hour that the clock is put back.
        return bool(
            old.replace(tzinfo=None, fold=0) == new.replace(tzinfo=None, fold=0)
            and old.utcoffset() == new.utcoffset()
        )
    return bool(old == new)


def _dict_difference(
    old: Mapping[Any, Any], new: Mapping[Any, Any], path: str
) -> InvalidValueError | None:
    if len(old) != len(new):
        problem = f"has {len(old)} keys and would come back with {len(new)}; {_REMEDY}"
        return InvalidValueError(path, problem)
    for (old_key, old_item), (new_key, new_item) in zip(old.items(), new.items(), strict=True):
        where = child(path, old_key)
        found = difference(old_key, new_key, where) or difference(old_item, new_item, where)
        if found is not None:
            return found
    return None


def _sequence_difference(
    old: Sequence[Any], new: Sequence[Any], path: str
) -> InvalidValueError | None:
    if (
        len(old) == len(new)
        and set(map(type, old)) <= _EXACT
        and all(map(is_, map(type, old), map(type, new)))
        and old == new
    ):
        return None
    if len(old) != len(new):
        problem = f"has {len(old)} items and would come back with {len(new)}; {_REMEDY}"
        return InvalidValueError(path, problem)
    for index, (old_item, new_item) in enumerate(zip(old, new, strict=True)):
        found = difference(old_item, new_item, f"{path}[{index}]")
        if found is not None:
            return found
    return None


def _set_difference(old: set[Any], new: set[Any], path: str) -> InvalidValueError | None:
    if old != new:
        return InvalidValueError(path, f"would come back with other items; {_REMEDY}")
    twins = {item: item for item in new}
    for item in old:
        found = difference(item, twins[item], path)
        if found is not None:
            return found
    return None


def _fields_difference(old: object, new: object, path: str) -> InvalidValueError | None:
    for name in _field_names(old):
        found = difference(getattr(old, name, None), getattr(new, name, None), child(path, name))
        if found is not None:
            return found
    if isinstance(old, pydantic.BaseModel) and isinstance(new, pydantic.BaseModel):
        return _dict_difference(old.__pydantic_extra__ or {}, new.__pydantic_extra__ or {}, path)
    return None


_COMPARE: Final[tuple[tuple[Any, Callable[..., InvalidValueError | None]], ...]] = (
    (dict, _dict_difference),
    ((list, tuple), _sequence_difference),
    ((set, frozenset), _set_difference),
)


def _field_names(value: object) -> Sequence[str]:
    if isinstance(value, pydantic.BaseModel):
        return tuple(type(value).model_fields)
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(field.name for field in fields(value))
    return ()


def _mentions_sets(schema: Any) -> bool:
    if isinstance(schema, dict):
        part = cast("dict[str, Any]", schema)
        # A tuple, for what is found may be unhashable: a model's field can be called "type".
        if part.get("type") in ("set", "frozenset"):
            return True
        return any(_mentions_sets(item) for key, item in part.items() if key != "metadata")
    if isinstance(schema, (list, tuple)):
        return any(_mentions_sets(item) for item in cast("list[Any]", schema))
    return False


def _sorted_sets(value: object, data: object) -> Any:
    # Sets come in another order in every process, and a repeated event must have the same
    # bytes. Both sides were made by going through the same sets, so they run in parallel.
    if isinstance(data, list):
        items = list(cast("Sequence[Any]", data))
        if not isinstance(value, (list, tuple, set, frozenset)):
            return items
        source = cast("Sequence[Any]", value)
        if len(source) == len(items):
            items = [_sorted_sets(*pair) for pair in zip(source, items, strict=True)]
        return sorted(items, key=orjson.dumps) if isinstance(value, (set, frozenset)) else items
    if isinstance(data, dict):
        document = cast("dict[str, Any]", data)
        parts = _parts(value)
        return {
            name: _sorted_sets(parts[name], item) if name in parts else item
            for name, item in document.items()
        }
    return data


def _parts(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        source = cast("Mapping[Any, Any]", value)
        return {_key_text(key): item for key, item in source.items()}
    return {name: getattr(value, name, None) for name in _field_names(value)}


def _key_text(key: object) -> str:
    return str(key.value) if isinstance(key, Enum) else str(key)


def _join(path: str, location: Sequence[int | str]) -> str:
    for part in location:
        path = child(path, part)
    return path
