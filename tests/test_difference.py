"""Where two JSON values differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.replay import ABSENT, Difference
from flowstore.replay.difference import covers, differences


def found(expected: Any, actual: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    return [(each.path, each.expected, each.actual) for each in differences(expected, actual, path)]


def test_what_is_in_one_only_and_what_is_other():
    one = {"total": 3, "gone": None, "same": [1], "deep": {"a b": {"x": 1}}}
    other = {"same": [1], "total": 4, "deep": {"a b": {"x": 2}}, "new": []}
    assert found(one, other, "state") == [
        ("state.total", 3, 4),
        ("state.gone", None, ABSENT),
        ("state.deep['a b'].x", 1, 2),
        ("state.new", ABSENT, []),
    ]
    assert found({"total": 3}, {"total": 4}) == [("total", 3, 4)]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), (None, 0), ("1", 1), ([], {}), (None, [])],
)
def test_values_that_python_or_people_take_for_the_same(one: Any, other: Any):
    assert found(one, other) == [("", one, other)]
    assert found({"v": [one]}, {"v": [other]}, "data") == [("data.v[0]", one, other)]


def test_the_order_of_keys_does_not_count():
    assert found({"a": 1, "b": 2}, {"b": 2, "a": 1}) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2], [1, 2, 3], [("[2]", ABSENT, 3)]),
        ([1, 2, 3], [1, 2], [("[2]", 3, ABSENT)]),
        ([1, 2, 3], [9, 1, 2, 3], [("[0]", ABSENT, 9)]),
        ([1, 2, 3, 4], [1, 4], [("[1]", 2, ABSENT), ("[2]", 3, ABSENT)]),
        ([1, 2, 3], [1, 5, 3], [("[1]", 2, 5)]),
        ([1, 1], [1, 1, 1], [("[2]", ABSENT, 1)]),
        ([{"a": 1}, 7], [{"a": 2}, 8, 7], [("[0].a", 1, 2), ("[1]", ABSENT, 8)]),
        ([], [0], [("[0]", ABSENT, 0)]),
    ],
)
def test_lists(one: list[Any], other: list[Any], expected: list[tuple[str, Any, Any]]):
    assert found(one, other) == expected


def test_a_difference_as_json_and_as_text():
    assert Difference("a", None, ABSENT).to_json() == {"path": "a", "expected": None}
    assert Difference("a", ABSENT, [1]).to_json() == {"path": "a", "actual": [1]}
    assert str(Difference("a", ABSENT, "ü")) == 'a: (nothing) -> "ü"'


def test_lists_in_lists_take_no_longer_the_deeper_they_are():
    one: list[Any] = [1]
    other: list[Any] = [2]
    for _ in range(60):
        one, other = [one], [other, 0]
    places = found(one, other)
    assert places[0] == ("[0]" * 61, 1, 2)
    assert len(places) == 61


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("state.updated", "state.updated", True),
        ("state.updated", "state.updated.at[3]", True),
        ("state.updated", "state.updated_at", False),
        ("state.updated.at", "state.updated", False),
        ("emitted.*.data.at", "emitted[12].data.at", True),
        ("emitted[1].data", "emitted[12].data", False),
        ("emitted.1.data", "emitted[1].data", True),
        ("state.*", "state['two words'].x", True),
        ("state['two words']", "state['two words'].x", True),
        ("state.two", "state['two.words']", False),
    ],
)
def test_paths_that_a_pattern_covers(pattern: str, path: str, *, expected: bool):
    assert covers(pattern, path) is expected


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "", "a"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=12,
)


@given(values, values)
def test_only_the_same_has_no_differences(one: Any, other: Any):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (found(one, other) == []) is same
    assert found(one, json.loads(json.dumps(one))) == []
    backward = [(path, right, left) for path, left, right in found(other, one)]
    assert sorted(map(repr, found(one, other))) == sorted(map(repr, backward))
