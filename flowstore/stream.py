"""Streams: chunks that come one after another, as the data of an event has them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from flowstore.door import child
from flowstore.errors import EventTypeError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from flowstore.events import WorkflowEvent

_MARKER: Final = "$stream"
_EVENT_ID: Final = re.compile(r"\d+/.+/c\d+", re.DOTALL)


class Source(Protocol):
    """Where the chunks of a stream come from."""

    def read(self, offset: int) -> AsyncIterator[Any]:
        """Return an iterator over the chunks from an offset on."""
        ...


class Stream:
    """The chunks of a stream: those that are there, and those that come.

    ``async for chunk in stream`` begins with the first chunk each time. Where the stream is made,
    and as long as it goes on, the chunks are the very objects that the handler's iterator gave
    (those that no reader has left to read are let go of); anyone else gets their JSON values
    from the store.

    A stream that is not finished is waited for. That can be long: when its process has died it
    goes on once the run is resumed, and then begins anew.

    Iterating raises `StreamRestartedError` when the stream has begun anew meanwhile: iterate it
    again, from its new beginning. It raises `StreamFailedError` when the stream has broken off
    for good, behind the chunks that it has.

    Attributes:
        id: names the stream in its run: the id of its event, and the key in the event's data.
    """

    __slots__ = ("__weakref__", "_source", "id")

    def __init__(self, id: str, source: Source) -> None:
        self.id = id
        self._source = source

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._source.read(0)

    def read(self, offset: int = 0) -> AsyncIterator[Any]:
        """Iterate from the chunk with this number on; the first is 0.

        Raises:
            InvalidValueError: the offset is not a whole number from 0.
        """
        if type(offset) is not int or offset < 0:
            raise InvalidValueError("offset", f"is {offset!r}; it is a whole number from 0")
        return self._source.read(offset)

    def __repr__(self) -> str:
        return f"<Stream {self.id!r}>"


# --- events that have streams ----------------------------------------------------------------


def event_id(position: int, handler: str, number: int) -> str:
    """Return the id of the n-th event with streams that a handler emits.

    No other event has an id of this shape, whoever chose it: so the id tells that what looks
    like the mark of a stream in the event's data is one.
    """
    return f"{position}/{handler}/c{number}"


def has_streams(event_id: str) -> bool:
    """Tell by its id whether an event has streams in its data."""
    return "/c" in event_id and _EVENT_ID.fullmatch(event_id) is not None


def sources_of(event: object) -> dict[str, AsyncIterable[Any]]:
    """Return what is to be streamed of an event, by its key in the data."""
    data: object = getattr(event, "data", None)
    if type(data) is not dict:
        return {}
    items = cast("dict[str, object]", data).items()
    return {key: value for key, value in items if isinstance(value, AsyncIterable)}


def marked(event: WorkflowEvent, event_id: str, sources: Mapping[str, object]) -> dict[str, Any]:
    """Return an event's data with a mark in the place of each stream.

    Raises:
        InvalidValueError: something else in the data looks like one of these marks.
        EventTypeError: the event brings an id of its own.
    """
    if event.id is not None:
        raise EventTypeError(
            f"{event.name!r} has a stream and an id; the id of an event with streams is made from "
            "its place, so that a repeat is known as one: leave id out"
        )
    data: dict[str, Any] = {}
    for key, value in event.data.items():
        if key in sources:
            data[key] = {_MARKER: stream_id(event_id, key)}
        elif mark(event_id, value) is not None:
            problem = f"looks like the mark of a stream; use another key than {_MARKER!r}"
            raise InvalidValueError(child("data", key), problem)
        else:
            data[key] = value
    return data


def marks(event_id: str, data: object) -> dict[str, str]:
    """Return the ids of the streams in an event's data, by key."""
    if not has_streams(event_id) or type(data) is not dict:
        return {}
    found = {key: mark(event_id, value) for key, value in cast("dict[str, object]", data).items()}
    return {key: stream for key, stream in found.items() if stream is not None}


def stream_id(event_id: str, key: str) -> str:
    """Return the id of the stream under a key of an event's data."""
    return f"{event_id}/{key}"


def mark(event_id: str, value: object) -> str | None:
    """Return the id of the stream whose mark this is in an event's data, or None."""
    if type(value) is not dict:
        return None
    known = cast("dict[str, object]", value)
    found = known.get(_MARKER)
    if len(known) == 1 and type(found) is str and found.startswith(f"{event_id}/"):
        return found
    return None
