"""Events as files of runs have them: CloudEvents 1.0 in JSON, one to a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from flowstore.replay.portable.fields import (
    FieldError,
    digest,
    name,
    place,
    put_json,
    shown,
    take_json,
    text,
    time,
    time_text,
)
from flowstore.replay.portable.strict_json import JsonError, dumped, read_line
from flowstore.store.base import StoredEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

SPECVERSION: Final = "1.0"
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_.~-]+")
JSON_TYPE: Final = "application/json"

_KNOWN: Final = frozenset(
    {
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "correlationid",
        "sequence",
        "datacontenttype",
        "data",
        "causationid",
        "expirytime",
        "dataversion",
        "metadata",
        "error",
        "hash",
        "datatext",
    }
)


def source_of(workflow: str, correlation_id: str) -> str:
    """Return the source of a run's events; with an event's id it names one event."""
    return f"/workflows/{_quoted(workflow)}/runs/{_quoted(correlation_id)}"


def _quoted(text: str) -> str:
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


def sequence_of(position: int) -> str:
    """Return a position such that comparing texts compares positions."""
    return f"{position:019d}"


def tell_event(
    event: StoredEvent, hash_: bytes | None, correlation_id: str, source: str
) -> dict[str, Any]:
    """Return the line of an event."""
    said: dict[str, Any] = {
        "specversion": SPECVERSION,
        "id": event.id,
        "source": source,
        "type": event.name,
        "time": time_text(event.created_at),
    }
    if event.data is not None:
        said["datacontenttype"] = JSON_TYPE
        put_json(said, "data", event.data, "datatext")
    said["correlationid"] = correlation_id
    if event.causation_id is not None:
        said["causationid"] = event.causation_id
    said["sequence"] = sequence_of(event.position)
    if event.expires_at is not None:
        said["expirytime"] = time_text(event.expires_at)
    if event.version != 1:
        said["dataversion"] = event.version
    if event.metadata is not None:
        said["metadata"] = event.metadata
    if event.error is not None:
        said["error"] = event.error
    if hash_ is not None:
        said["hash"] = hash_.hex()
    return said


class Expected:
    """What the next event of a run must be.

    Attributes:
        position: its place.
    """

    def __init__(self, run_id: int, workflow: str, correlation_id: str) -> None:
        self._run_id = run_id
        self._correlation_id = correlation_id
        self._source = source_of(workflow, correlation_id)
        self.position = 1

    def take(self, said: Mapping[str, Any]) -> tuple[StoredEvent, bytes | None]:
        """Return the event that a line tells, and its hash.

        Raises:
            FieldError: it is not a CloudEvent as this format has them, or not the next one.
        """
        if not _KNOWN.issuperset(said):
            unknown = next(key for key in said if key not in _KNOWN)
            raise FieldError(f"an event has no attribute {unknown[:60]!r}")
        if (
            said.get("specversion") != SPECVERSION
            or said.get("source") != self._source
            or said.get("correlationid") != self._correlation_id
            or said.get("sequence") != sequence_of(self.position)
        ):
            self._refuse(said)
        event = StoredEvent(
            self._run_id,
            self.position,
            _take(said, "id", name),
            _take(said, "type", name),
            1 if "dataversion" not in said else _take(said, "dataversion", place),
            self._data(said),
            None if "metadata" not in said else _take(said, "metadata", _json_text),
            None if "error" not in said else _take(said, "error", text),
            None if "causationid" not in said else _take(said, "causationid", text),
            _take(said, "time", time),
            None if "expirytime" not in said else _take(said, "expirytime", time),
        )
        self.position += 1
        return event, None if "hash" not in said else _take(said, "hash", digest)

    def _refuse(self, said: Mapping[str, Any]) -> None:
        """Tell which of what is the same in all events, or follows on the last, is another."""
        for key, expected in (
            ("specversion", SPECVERSION),
            ("source", self._source),
            ("correlationid", self._correlation_id),
            ("sequence", sequence_of(self.position)),
        ):
            if key not in said:
                raise FieldError(f"an event without {key!r}")
            self._compare(key, said[key], expected)

    def _compare(self, key: str, found: Any, expected: str) -> None:
        if found != expected:
            raise FieldError(f"{key!r} of an event is {shown(found)}, not {shown(expected)}")

    def _data(self, said: Mapping[str, Any]) -> str | None:
        if "data" not in said:
            if "datacontenttype" in said or "datatext" in said:
                raise FieldError("an event with 'datacontenttype' and without 'data'")
            return None
        if said.get("datacontenttype") != JSON_TYPE:
            self._compare("datacontenttype", said.get("datacontenttype"), JSON_TYPE)
        if "datatext" not in said:
            return dumped(said["data"])
        try:
            return take_json(said["data"], said["datatext"])
        except FieldError as error:
            raise FieldError(f"'data' of an event {error}") from None


def _take(said: Mapping[str, Any], key: str, take: Any) -> Any:
    try:
        return take(said[key])
    except KeyError:
        raise FieldError(f"an event without {key!r}") from None
    except FieldError as error:
        raise FieldError(f"{key!r} of an event {error}") from None


def _json_text(value: Any) -> str:
    """Take a JSON text: the values of attributes are no objects."""
    told = name(value)
    try:
        read_line(told.encode())
    except JsonError as error:
        raise FieldError(f"is a text that {error}") from error
    return told
