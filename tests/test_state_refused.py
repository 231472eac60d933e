"""What a state cannot hold is refused, with place and remedy."""

from __future__ import annotations

import enum
import math
import uuid
from collections import OrderedDict
from typing import Any

import pytest
from values import Colour

from flowstore.door import Limits
from flowstore.errors import InvalidStateError, InvalidValueError
from flowstore.kind import StateKind
from flowstore.state import State


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (None, math.nan),
        ([1, None], [1, math.inf]),
        ([1, 2], (1, 2)),
        ({"a": [1]}, {"a": (1,)}),
        ("red", Colour.RED),
        (["red"], [Colour.RED]),
        ("00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        ({"a": 1}, OrderedDict(a=1)),
        ([["x"] * 2000], [("x",) * 2000]),
        ([{"n": None}] * 200, [{"n": math.nan}] * 200),
    ],
)
def test_what_has_the_same_json_and_is_not_the_same_is_refused(good: Any, bad: Any) -> None:
    state = State(StateKind())
    state.value["key"] = good
    assert state.change() is not None
    state.value["key"] = bad
    with pytest.raises(InvalidStateError, match=r"^state\.key"):
        state.change()


def test_path_and_remedy_of_a_bad_value() -> None:
    state = State(StateKind())
    state.value["docs"] = [{"name": "a"}, {"client": {1, 2}}]
    with pytest.raises(InvalidValueError, match=r"^state\.docs\[1\]\.client: set is not JSON; "):
        state.change()
    assert state.document() == "{}"


@pytest.mark.parametrize("key", [1, None, "\0", "\ud800", Colour.RED])
def test_bad_keys_are_refused(key: Any) -> None:
    state = State(StateKind())
    state.value[key] = 1
    with pytest.raises(InvalidStateError):
        state.change()
    assert state.document() == "{}"


@pytest.mark.parametrize("value", [1, "x", None, 1.5, [1]])
def test_a_key_that_only_equals_the_one_that_was_there_is_refused(value: Any) -> None:
    """G10: the next handler would find another key, or not, as the state is in memory or not."""

    class Key(enum.StrEnum):
        A = "a"

    state = State(StateKind(), '{"a":0}')
    state.value = {Key.A: value}
    with pytest.raises(InvalidStateError, match="key of type Key"):
        state.change()
    assert state.document() == '{"a":0}'


def test_cyclic_and_deep_states_are_refused() -> None:
    state = State(StateKind(dict, Limits(depth=3)))
    state.value["a"] = [[1]]
    assert state.change() == '[["=",["a"],[[1]]]]'
    state.value["a"] = [[[1]]]
    with pytest.raises(InvalidStateError, match="nested too deeply"):
        state.change()
    state.value["a"] = state.value
    with pytest.raises(InvalidStateError, match="contains itself"):
        state.change()


def test_depth_counts_from_the_state_wherever_the_change_is() -> None:
    state = State(StateKind(dict, Limits(depth=3)))
    state.value["a"] = [["x" * 50] for _ in range(100)]
    state.change()
    state.value["a"][50].append([])
    with pytest.raises(InvalidStateError, match=r"^state\.a\[50\]\[1\]"):
        state.change()
