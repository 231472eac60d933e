"""The codec: envelopes, versions and results."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from values import NOON, Inner, Model, Named, Point, Text

from flowstore.codec import Codec
from flowstore.door import Limits
from flowstore.errors import (
    ConfigurationError,
    EventTypeError,
    EventVersionError,
    InvalidValueError,
    ValueTooLargeError,
)
from flowstore.events import WorkflowEvent
from flowstore.store.base import StoredEvent
from flowstore.store.same import same_content

# --- envelopes -----------------------------------------------------------------------------


def test_event_is_encoded() -> None:
    event = WorkflowEvent("query", {"q": 1}, {"by": "me"}, "bad")
    assert Codec().encode(event) == ("query", 1, '{"q":1}', '{"by":"me"}', "bad")
    assert Codec().encode(WorkflowEvent("query")) == ("query", 1, None, None, None)


@pytest.mark.parametrize("name", ["", None, 1, Text("x"), Named.RED, "\0", "\ud800", "x" * 256])
def test_bad_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^name: "):
        Codec().encode(WorkflowEvent(name))


def test_any_proper_text_is_a_name() -> None:
    for name in ("x" * 255, "two words", "line\nbreak", "ключ", "é" * 255):
        assert Codec().encode(WorkflowEvent(name)).name == name


@pytest.mark.parametrize("metadata", [1, [], "x", OrderedDict(), {"a": {1}}, {"a": "x" * 70_000}])
def test_bad_metadata_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^metadata"):
        Codec().encode(WorkflowEvent("x", metadata=metadata))


@pytest.mark.parametrize("error", [1, ValueError("x"), "\0", "\ud800"])
def test_bad_errors_are_refused(error: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^error: "):
        Codec().encode(WorkflowEvent("x", error=error))


def test_limits_can_be_set() -> None:
    codec = Codec(Limits(data_bytes=10, depth=1))
    codec.encode(WorkflowEvent("x", ["12345"]))
    for data in ("x" * 9, [[]]):
        with pytest.raises(ValueTooLargeError):
            codec.encode(WorkflowEvent("x", data))


@pytest.mark.parametrize("thing", ["x", {}, 1, None, Model, WorkflowEvent, object(), [Model()]])
def test_what_is_no_event_is_refused(thing: Any) -> None:
    with pytest.raises(EventTypeError, match="is not an event; use a WorkflowEvent"):
        Codec().encode(thing)


def test_envelope_comes_back() -> None:
    row = StoredEvent(7, 3, "id", "a", 1, '{"b":1}', '{"c":2}', "e", "cause", 1_500_000, None)
    event = Codec().event(row, "run")
    assert event == WorkflowEvent("a", {"b": 1}, {"c": 2}, "e")
    assert (event.id, event.correlation_id, event.causation_id, event.position) == (
        "id",
        "run",
        "cause",
        3,
    )
    assert event.created_at == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_same_content() -> None:
    assert same_content(None, None)
    assert same_content('{"a":1,"b":2}', '{"b":2,"a":1}')
    assert not same_content("[1,2]", "[2,1]")
    assert not same_content(None, "1")
    assert same_content(None, "null")
    assert not same_content("1", "true")
    assert not same_content('{"a":[1]}', '{"a":[1.0]}')


# --- versions ------------------------------------------------------------------------------


def test_old_versions_are_brought_up_to_date() -> None:
    codec = Codec()
    codec.upcaster("x", 2, lambda data: {**data, "c": 3})
    codec.upcaster("x", 1, lambda data: {**data, "b": 2})
    assert codec.version_of("x") == 3
    assert codec.version_of("y") == 1
    assert codec.encode(WorkflowEvent("x", {})).version == 3
    assert codec.decode("x", 1, '{"a":1}') == {"a": 1, "b": 2, "c": 3}
    assert codec.decode("x", 2, '{"a":1}') == {"a": 1, "c": 3}
    assert codec.decode("x", 3, '{"a":1}') == {"a": 1}


def test_versions_that_cannot_be_read() -> None:
    codec = Codec()
    codec.upcaster("x", 2, lambda data: data["no"])
    with pytest.raises(EventVersionError, match="'x' has version 4 and this code knows 3"):
        codec.decode("x", 4, "{}")
    with pytest.raises(EventVersionError, match="no upcaster from version 1 to 2"):
        codec.decode("x", 1, "{}")
    with pytest.raises(EventVersionError, match="'x' from version 2 to 3 failed: KeyError") as info:
        codec.decode("x", 2, "{}")
    assert isinstance(info.value.__cause__, KeyError)


def test_bad_upcasters_are_refused() -> None:
    codec = Codec()
    codec.upcaster("x", 1, dict)
    with pytest.raises(ConfigurationError, match="there already"):
        codec.upcaster("x", 1, dict)
    for version in (0, -1, 1.5, True):
        with pytest.raises(ConfigurationError, match="versions count from 1"):
            codec.upcaster("y", version, dict)  # type: ignore[arg-type]
    assert codec.version_of("y") == 1


# --- results -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, None),
        ({"a": [1, None]}, dict[str, list[Any]]),
        (1, float),
        (Inner(tags={"b", "a"}), Inner),
        ([Point(1), Point(2)], list[Point]),
        (None, Inner | None),
        (NOON, datetime),
        ({"a": (1, "x")}, dict[str, tuple[int, str]]),
        ({3, 1}, Annotated[set[int], []]),
        ("x", asyncio.Lock),
    ],
)
def test_results_come_back(value: Any, annotation: Any) -> None:
    """G10."""
    codec = Codec()
    for _ in range(2):
        text = codec.encode_value(value, "result", annotation=annotation)
        again = codec.decode_value(text, annotation)
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (Inner(), None, "result: .*annotate the function's return type"),
        (Point(), Any, "result: .*annotate the function's return type"),
        ((1,), None, "result: tuple is not JSON"),
        ({"tags": []}, Inner, "result: is dict and would come back as Inner"),
        ([Point(1), Point("x")], list[Point], r"result\[1\]\.x"),  # type: ignore[arg-type]
        (asyncio.Lock, asyncio.Lock, "result: is the class"),
        ("x" * 100, None, "result: is 102 bytes"),
        ({"x" * 100}, set[str], "result: is 104 bytes"),
    ],
    ids=str,
)
def test_results_that_cannot_come_back_are_refused(
    value: Any, annotation: Any, message: str
) -> None:
    with pytest.raises(InvalidValueError, match=f"^{message}"):
        Codec().encode_value(value, "result", 100, annotation)


def test_results_have_a_limit_of_their_own() -> None:
    codec = Codec(Limits(result_bytes=10))
    with pytest.raises(ValueTooLargeError, match="limit is 10"):
        codec.encode_value("x" * 9, "result")
    assert codec.decode_value(None, Inner) is None
    with pytest.raises(InvalidValueError, match=r"^result\.tags"):
        codec.decode_value('{"tags":5}', Inner)
