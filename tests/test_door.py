"""The door: what is accepted comes back exactly; the rest is refused with place and remedy."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from values import Colour, Items, Model, Named, Number, Pair, Point, Text, Whole, exact, stream

from flowstore.codec import decode_json, encode_json
from flowstore.door import Limits
from flowstore.errors import ConfigurationError, InvalidValueError, ValueTooLargeError
from flowstore.events import WorkflowEvent

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.just("\\u0000"),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


BAD = [
    ((1,), "tuple is not JSON; use a list"),
    (Pair(1), "Pair is not JSON; use a list"),
    ({1}, "sorted"),
    (frozenset(), "sorted"),
    (b"x", "base64"),
    (bytearray(), "base64"),
    (datetime(2024, 1, 1, tzinfo=UTC), "isoformat"),
    (date(2024, 1, 1), "isoformat"),
    (time(1), "isoformat"),
    (timedelta(1), "total_seconds"),
    (Decimal(1), "str"),
    (uuid.UUID(int=1), "str"),
    (Colour.RED, ".value"),
    (Named.RED, ".value"),
    (Number.ONE, ".value"),
    (Text("x"), "plain types"),
    (Whole(1), "plain types"),
    (Items(), "plain types"),
    (OrderedDict(), "plain types"),
    (defaultdict(list), "plain types"),
    (Point(), "make it the event itself"),
    (Model(), "make it the event itself"),
    (WorkflowEvent("x"), "make it the event itself"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "inf"),
    (2**63, "64-bit"),
    (-(2**63) - 1, "64-bit"),
    (10**400, "64-bit"),
    ("a\0b", "NUL"),
    ("a\ud800b", "surrogate at character 1"),
    (object(), "ctx"),
    (1j, "ctx"),
    (Point, "class Point"),
    (len, "functions"),
    (iter([1]), "collect it first"),
    (stream(), "async for"),
    ({1: 2}, "keys of JSON are str"),
    ({None: 2}, "keys of JSON are str"),
    ({Named.RED: 2}, "keys of JSON are str"),
    ({"a\0": 2}, "NUL"),
    ({"\ud800": 2}, "surrogate"),
]
ODD = st.sampled_from([value for value, _ in BAD])


def encode(value: Any, *, size: int = 2**20, depth: int = 64) -> str:
    return encode_json(value, "data", max_bytes=size, max_depth=depth)


@given(JSON)
def test_accepted_values_come_back_exactly(value: Any) -> None:
    """G10."""
    assert exact(decode_json(encode(value))) == exact(value)


@given(JSON, ODD, st.data())
def test_other_values_are_refused_wherever_they_are(value: Any, odd: Any, data: Any) -> None:
    """G10."""
    for _ in range(data.draw(st.integers(0, 4))):
        odd = {"in": odd, "by": value} if data.draw(st.booleans()) else [value, odd]
    with pytest.raises(InvalidValueError, match=r"^data"):
        encode(odd)


@pytest.mark.parametrize(("value", "remedy"), BAD, ids=lambda item: type(item).__name__)
def test_remedies(value: Any, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        encode({"docs": [0, {"client": value}]})
    assert caught.value.path.startswith("data.docs[1].client")
    assert remedy in caught.value.problem


def test_coroutines_are_to_be_awaited() -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(InvalidValueError, match="await it first"):
        encode(coroutine)
    coroutine.close()


def test_paths_show_odd_keys_safely() -> None:
    with pytest.raises(InvalidValueError, match=r"^data\['two words'\]\['\\ud800"):
        encode({"two words": {"\ud800" * 100: 1}})


def test_depth() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert exact(decode_json(encode(value, depth=200))) == exact(value)
    with pytest.raises(ValueTooLargeError, match="nested too deeply"):
        encode(value, depth=199)
    assert encode(1, depth=1) == "1"


def test_cyclic_values_are_refused() -> None:
    cycle: dict[str, Any] = {}
    cycle["again"] = [cycle]
    with pytest.raises(ValueTooLargeError, match="contains itself"):
        encode(cycle)


def test_size_is_in_bytes() -> None:
    assert encode("é" * 4, size=10) == '"éééé"'
    with pytest.raises(ValueTooLargeError, match="11 bytes of JSON and the limit is 10"):
        encode("é" * 4 + "x", size=10)


def test_none_is_none_and_damage_is_reported() -> None:
    assert decode_json(None) is None
    with pytest.raises(InvalidValueError, match="is not JSON"):
        decode_json("{")


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "1", None])
def test_limits_are_whole_numbers(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Limits.data_bytes"):
        Limits(data_bytes=wrong)


def test_depth_limit_is_what_can_be_read_back() -> None:
    with pytest.raises(ConfigurationError, match="200"):
        Limits(depth=201)
