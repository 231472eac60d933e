"""Bad input of every kind is refused in flowstore's own words, and nothing is lost for it."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
import uuid
from dataclasses import dataclass
from enum import StrEnum

import pytest
from pydantic import BaseModel
from watching import collect, log, query

from flowstore import Limits, WorkflowEvent, WorkflowManager
from flowstore.errors import (
    ConfigurationError,
    DuplicateHandlerError,
    EventTypeError,
    FlowstoreError,
    InvalidValueError,
    StoreUrlError,
    ValueTooLargeError,
)


class Colour(StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


@dataclass
class Part:
    number: int


class Whole(BaseModel):
    part: object


def _deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def _own_part():
    value = {"inner": []}
    value["inner"].append(value)
    return value


async def _generator():
    yield 1


@pytest.fixture
async def kept(workflow, path):
    """A store with one acknowledged event, which is there and alone when the test is over."""
    await workflow.send(WorkflowEvent("first", {"n": 1}), correlation_id="kept", id="first")
    before = query(path, "SELECT id, name, data FROM event")
    yield workflow
    assert query(path, "SELECT id, name, data FROM event") == before
    assert query(path, "SELECT correlation_id FROM run") == [("kept",)]
    # Nothing is jammed either.
    assert (await workflow.send(WorkflowEvent("next"), correlation_id="kept")).position == 2


# --- values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "where", "remedy"),
    [
        (object(), "data.docs[3].client", "ctx={…}"),
        ({1, 2}, "data.docs[3].client", "sorted"),
        ((1, 2), "data.docs[3].client", "list"),
        (b"bytes", "data.docs[3].client", "base64"),
        (dt.datetime(2030, 1, 1, tzinfo=dt.UTC), "data.docs[3].client", "isoformat"),
        (decimal.Decimal(1), "data.docs[3].client", "str("),
        (uuid.UUID(int=1), "data.docs[3].client", "str("),
        (Colour.RED, "data.docs[3].client", ".value"),
        (Text("a"), "data.docs[3].client", "str"),
        (Part(1), "data.docs[3].client", "asdict"),
        (len, "data.docs[3].client", "name"),
        (Part, "data.docs[3].client", "name"),
        (iter([1]), "data.docs[3].client", "list("),
        (math.nan, "data.docs[3].client", "None or a str"),
        (math.inf, "data.docs[3].client", "None or a str"),
        (-math.inf, "data.docs[3].client", "None or a str"),
        (2**63, "data.docs[3].client", "str(value)"),
        (-(2**63) - 1, "data.docs[3].client", "str(value)"),
        (10**400, "data.docs[3].client", "str(value)"),
        ("a\0b", "data.docs[3].client", "NUL"),
        ("\ud800", "data.docs[3].client", "surrogate"),
        ({7: "seven"}, "data.docs[3].client", "str(key)"),
        ({None: "none"}, "data.docs[3].client", "str(key)"),
        ({"a\0b": 1}, "data.docs[3].client['a\\x00b']", "NUL"),
        ({"\udfff": 1}, "data.docs[3].client['\\udfff']", "surrogate"),
    ],
    ids=lambda value: re.sub("0x[0-9a-f]+", "", ascii(value))[:30].replace("\\", "/"),
)
async def test_a_value_that_would_not_come_back_the_same(kept, value, where, remedy):
    """G10: named with its path, and refused before anything is written."""
    data = {"docs": [1, 2, 3, {"client": value}]}
    for event in (WorkflowEvent("go", data), WorkflowEvent("go", None, data)):
        with pytest.raises(InvalidValueError) as caught:
            await kept.send(event, correlation_id="new")
        place = where if event.data else where.replace("data", "metadata", 1)
        assert str(caught.value).startswith(f"{place}: ")
        assert remedy in str(caught.value)
        with pytest.raises(InvalidValueError):
            await collect(kept.process(event, correlation_id="new"))


@pytest.mark.parametrize(
    "value",
    [0, -0.0, 1e308, 5e-324, 2**63 - 1, -(2**63), "", "\U0010ffff", "\\u0000", [], {}, {"": ""}],
    ids=lambda value: re.sub("0x[0-9a-f]+", "", ascii(value))[:30].replace("\\", "/"),
)
async def test_a_value_at_the_edge_comes_back_the_same(workflow, value):
    """The control to the one above."""
    await workflow.send(WorkflowEvent("go", {"value": value}, {"value": value}), correlation_id="r")
    (event,) = await collect(workflow.run("r").events())
    assert repr(event.data) == repr(event.metadata) == repr({"value": value})


@pytest.mark.parametrize("data", [_deep(65), _deep(5000), _own_part()], ids=["65", "5000", "self"])
async def test_data_that_is_too_deep(kept, data):
    with pytest.raises(ValueTooLargeError, match=r"data.*depth="):
        await kept.send(WorkflowEvent("go", data))


async def test_data_that_is_just_deep_enough(workflow):
    await workflow.send(WorkflowEvent("go", _deep(64)), correlation_id="r")
    (event,) = await collect(workflow.run("r").events())
    assert event.data == _deep(64)


async def test_data_that_is_too_large(kept):
    with pytest.raises(ValueTooLargeError, match=r"data.*1048576.*limits=Limits"):
        await kept.send(WorkflowEvent("go", "x" * 2**20))
    with pytest.raises(ValueTooLargeError, match=r"metadata.*65536.*limits=Limits"):
        await kept.send(WorkflowEvent("go", None, {"text": "x" * 2**16}))


async def test_limits_can_be_raised_and_lowered(make):
    large = make(limits=Limits(data_bytes=3 * 2**20, depth=100))
    await large.send(WorkflowEvent("go", "x" * 2**21), correlation_id="r")
    await large.send(WorkflowEvent("go", _deep(100)), correlation_id="r")
    small = make(limits=Limits(data_bytes=10))
    with pytest.raises(ValueTooLargeError, match="10"):
        await small.send(WorkflowEvent("go", "x" * 20), correlation_id="r")
    # What is in the log stays readable when a limit is lowered.
    assert len(await collect(small.run("r").events())) == 2


@pytest.mark.parametrize("limits", [{"depth": 201}, {"depth": 0}, {"data_bytes": -1}])
def test_limits_that_make_no_sense(limits):
    with pytest.raises(ConfigurationError, match="Limits"):
        Limits(**limits)


async def test_a_typed_event_with_a_value_that_cannot_be_stored(kept):
    with pytest.raises(InvalidValueError, match=r"data\.part"):
        await kept.send(Whole(part=object()))
    with pytest.raises(InvalidValueError, match=r"data\.part"):
        await kept.send(Whole(part=math.nan))
    with pytest.raises(InvalidValueError, match=r"data\.number"):
        await kept.send(Part(2**64))


# --- events, names and ids ---------------------------------------------------------------


@pytest.mark.parametrize("event", [7, "go", None, {"name": "go"}, WorkflowEvent, Part, ("go", {})])
async def test_what_is_no_event(kept, event):
    with pytest.raises(EventTypeError, match=r"is not an event.*WorkflowEvent"):
        await kept.send(event)
    with pytest.raises(EventTypeError, match="is not an event"):
        await collect(kept.process(event))
    with pytest.raises(EventTypeError, match="is not an event"):
        await kept.send_many([event])


_TEXTS = ["", 7, "x" * 256, "a\0b", "\ud800", b"go", Text("go")]


@pytest.mark.parametrize("name", [*_TEXTS, None])
async def test_a_name_that_is_none(kept, name):
    with pytest.raises(InvalidValueError, match=r"^name: "):
        await kept.send(WorkflowEvent(name))


@pytest.mark.parametrize("text", _TEXTS)
async def test_an_id_that_is_none(kept, text):
    event = WorkflowEvent("go")
    with pytest.raises(InvalidValueError, match=r"^correlation_id: "):
        await kept.send(event, correlation_id=text)
    with pytest.raises(InvalidValueError, match=r"^id: "):
        await kept.send(event, id=text)
    with pytest.raises(InvalidValueError, match=r"^correlation_id: "):
        await kept.send(WorkflowEvent("go", correlation_id=text))
    with pytest.raises(InvalidValueError, match=r"^id: "):
        await kept.send_many([WorkflowEvent("go", id=text)])


@pytest.mark.parametrize("metadata", [[], "text", 7, [("a", 1)]])
async def test_metadata_that_is_no_dict(kept, metadata):
    with pytest.raises(InvalidValueError, match=r"^metadata: .*dict"):
        await kept.send(WorkflowEvent("go", None, metadata))


@pytest.mark.parametrize("error", [ValueError("broken"), 7, "a\0b", "\ud800"])
async def test_an_error_that_is_no_text(kept, error):
    with pytest.raises(InvalidValueError, match=r"^error: "):
        await kept.send(WorkflowEvent("go", error=error))


async def test_an_id_may_be_any_proper_text(workflow):
    for name in ("<7@mail>", "a/b c", "größe €", "'; DROP TABLE run; --", "x" * 255):
        receipt = await workflow.send(WorkflowEvent(name), correlation_id=name, id=name)
        assert (receipt.status, receipt.id, receipt.correlation_id) == ("accepted", name, name)
        assert await log(workflow, name) == [(1, name)]


async def test_an_event_whose_type_no_one_knows_is_kept_and_passed_on(workflow):
    """It is no error: it may be of a newer program. G7: it can be asked for."""
    await workflow.send(WorkflowEvent("from.the.future", {"a": 1}), correlation_id="r")
    assert await workflow.resume() == ["r"]
    (found,) = await (await workflow._runtime.reader()).list_unhandled()
    assert found[1].name == "from.the.future"


# --- handlers and options ------------------------------------------------------------------


def test_two_handlers_of_one_name(workflow):
    async def handle(event): ...

    async def other(event): ...

    workflow.register("go", handle, name="one").register("*", other, name="two")
    workflow.register(Part, handle, name="three")
    for event, name in (("go", "one"), ("*", "one"), ("go", "two"), ("*", "three"), (Part, "two")):
        with pytest.raises(DuplicateHandlerError, match=rf"{name!r}.*name="):
            workflow.register(event, other, name=name)
    workflow.register("other", other, name="one")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/runs.db",
        "mysql://localhost/runs",
        "sqlite:runs.db",
        "sqlite:///runs.db?colour=red",
        "sqlite:///runs.db?synchronous=MAYBE",
        "",
        "a\0b",
    ],
)
def test_a_wrong_url(make, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not url:
        # Nothing is taken as nothing given: the default store.
        assert "flowstore.db" in repr(make(url))
        return
    with pytest.raises(StoreUrlError) as caught:
        make(url)
    assert isinstance(caught.value, FlowstoreError)
    assert len(str(caught.value)) > len(url)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_url_in_the_environment(make, monkeypatch):
    monkeypatch.setenv("FLOWSTORE_URL", "http://example.org/runs.db")
    with pytest.raises(StoreUrlError):
        WorkflowManager()
