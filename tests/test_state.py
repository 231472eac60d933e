"""The state of a run: what is saved is exact, small, and never half done."""

from __future__ import annotations

import copy
import json
import math
from collections import OrderedDict
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import exact

from flowstore.change import apply, replay
from flowstore.door import Limits
from flowstore.errors import InvalidStateError
from flowstore.kind import StateKind
from flowstore.state import State

KEYS = st.sampled_from(["a", "b", "c", "two words", 'quo"te', "ключ", "\\u0000"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, "", "x" * 40, "x" * 3000, "é\\u0000"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
COUNTS = st.integers(20, 60)
LONG_VALUES = st.one_of(
    VALUES,
    COUNTS.map(lambda count: ["x" * 100] * count),
    COUNTS.map(lambda count: [{"n": n, "text": "x" * n} for n in range(count)]),
    COUNTS.map(lambda count: {f"key {n}": [n, None] for n in range(count)}),
)


def containers(value: Any) -> list[Any]:
    found = []
    if isinstance(value, (list, dict)):
        found.append(value)
        for item in value.values() if isinstance(value, dict) else value:
            found.extend(containers(item))
    return found


def mutate(document: dict[str, Any], data: st.DataObject) -> None:
    """Do one thing, anywhere in the document, as handlers might."""
    target = data.draw(st.sampled_from(containers(document)))
    value = data.draw(LONG_VALUES)
    if isinstance(target, dict):
        mutate_dict(target, value, data)
    else:
        mutate_list(target, value, data)


def mutate_dict(target: dict[str, Any], value: Any, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(target)) if target else KEYS)
    match data.draw(st.sampled_from(["set", "new", "pop", "move", "clear", "twist"])):
        case "set":
            target[key] = value
        case "new":
            target[data.draw(KEYS)] = value
        case "pop":
            target.pop(key, None)
        case "move" if key in target:
            target[key] = target.pop(key)
        case "clear":
            target.clear()
        case "twist" if key in target:
            target[key] = twisted(target[key])


def mutate_list(target: list[Any], value: Any, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, max(0, len(target) - 1)))
    match data.draw(
        st.sampled_from(["append", "insert", "pop", "queue", "extend", "twist", "sort"])
    ):
        case "append":
            target.append(value)
        case "insert":
            target.insert(index, value)
        case "pop" if target:
            target.pop(index)
        case "queue" if target:
            target.pop(0)
            target.append(value)
        case "extend":
            target.extend(copy.deepcopy(target[:3]))
        case "twist" if target:
            target[index] = twisted(target[index])
        case "sort":
            target.sort(key=repr)


def twisted(value: Any) -> Any:
    """Something that ``==`` would take for the value, or that begins with it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and abs(value) < 2**53:
        return float(value)
    if isinstance(value, float):
        return -value
    if isinstance(value, str):
        return value + "more"
    if isinstance(value, dict):
        return dict(reversed(value.items()))
    return value


@settings(deadline=None)
@given(st.data())
def test_changes_reproduce_the_state_exactly(data: st.DataObject) -> None:
    """G3, G10: at every step, from the start, from a snapshot and after a restore."""
    state = State(StateKind())
    changes: list[str] = []
    snapshot: str | None = None
    later: list[str] = []
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 3))):
            mutate(state.value, data)
        live = copy.deepcopy(state.value)
        change = state.change()
        if change is not None:
            changes.append(change)
            later.append(change)
        assert exact(state.value) == exact(live), "saving changed the live value"
        assert exact(replay(None, changes)) == exact(live)
        assert exact(replay(snapshot, later)) == exact(live)
        assert exact(json.loads(state.document())) == exact(live)
        assert state.saved_bytes == len(state.document().encode())
        assert state.change() is None
        if data.draw(st.booleans()):
            snapshot, later = state.document(), []
            state.snapshot_taken()
        if data.draw(st.booleans()):
            state = State(StateKind(), snapshot, later)
            assert exact(state.value) == exact(live)
        if data.draw(st.booleans()):
            due, size = state.snapshot_due(), state.saved_bytes
            state.pack()
            assert state.saved_bytes == size
            state.unpack()
            assert exact(state.value) == exact(live)
            assert state.snapshot_due() == due
            assert state.change() is None
        if data.draw(st.booleans()):
            mutate(state.value, data)
            state.restore()
            assert exact(state.value) == exact(live)
            assert state.change() is None


@settings(deadline=None)
@given(
    st.data(), st.sampled_from([math.nan, (1,), {1}, b"x", object(), 2**63, "\0", "\ud800", UTC])
)
def test_refused_change_leaves_what_was_saved_alone(data: st.DataObject, bad: Any) -> None:
    """G10: nothing is written of a state of which a part cannot be stored."""
    state = State(StateKind())
    for _ in range(4):
        mutate(state.value, data)
    first = state.change()
    saved = exact(replay(None, [first] if first else []))
    mutate(state.value, data)
    target = data.draw(st.sampled_from(containers(state.value)))
    if isinstance(target, dict):
        target["bad"] = bad
    else:
        target.append(bad)
    with pytest.raises(InvalidStateError, match=r"^state"):
        state.change()
    assert exact(json.loads(state.document())) == saved
    assert state.saved_bytes == len(state.document().encode())
    state.restore()
    assert exact(state.value) == saved
    assert state.change() is None


def test_size_limit_is_on_the_whole_state() -> None:
    state = State(StateKind(dict, Limits(state_bytes=100)))
    state.value["a"] = "x" * 92
    state.change()
    assert state.saved_bytes == 100
    state.value["b"] = 1
    with pytest.raises(
        InvalidStateError, match=r"^state: is 106 bytes of JSON and the limit is 100"
    ):
        state.change()
    assert state.saved_bytes == 100
    del state.value["b"]
    assert state.change() is None


def test_appending_to_a_long_list_of_str_costs_what_was_appended() -> None:
    """G11."""
    state = State(StateKind())
    state.value["items"] = ["x" * 200 for _ in range(1000)]
    state.change()
    state.value["items"].append("new")
    assert state.change() == '[["+",["items"],["new"]]]'
    state = State(StateKind(), state.document())
    state.value["items"] += ["newer", "newest"]
    assert state.change() == '[["+",["items"],["newer","newest"]]]'
    state.value["items"].append({"not": "a str"})
    assert state.change() == '[["+",["items"],[{"not":"a str"}]]]'
    state.value["items"].append("and on")
    assert state.change() == '[["+",["items"],["and on"]]]'


def test_bad_str_in_a_long_list_is_refused() -> None:
    state = State(StateKind())
    state.value["items"] = ["x" * 200 for _ in range(20)]
    state.change()
    for bad in ("\0", "\ud800"):
        state.value["items"].append(bad)
        with pytest.raises(InvalidStateError, match=r"^state\.items\[20\]"):
            state.change()
        state.restore()


def messages() -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"{n}: {'x' * 80}"} for n in range(300)]


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda m: m.append({"n": 1}), '[["+",["chat","m"],[{"n":1}]]]'),
        (lambda m: m[100].update(role="bot"), '[["=",["chat","m",100,"role"],"bot"]]'),
        (lambda m: m[7].pop("role"), '[["-",["chat","m",7,"role"]]]'),
        (lambda m: m.pop(250), '[["~",["chat","m"],250,1,[]]]'),
        (lambda m: m.insert(3, 1), '[["~",["chat","m"],3,0,[1]]]'),
        (
            lambda m: (m.pop(0), m.append(1)),
            '[["~",["chat","m"],0,1,[]],["+",["chat","m"],[1]]]',
        ),
        (
            lambda m: m[9].update(role=m[9].pop("role")),
            '[[">",["chat","m",9,"role"]]]',
        ),
        (
            lambda m: m[9].update(content=m[9]["content"] + "!"),
            '[["+",["chat","m",9,"content"],"!"]]',
        ),
    ],
)
def test_small_changes_deep_inside_large_values_are_small(act: Any, expected: str) -> None:
    """G11."""
    state = State(StateKind())
    state.value["chat"] = {"m": messages(), "n": 1}
    state.change()
    act(state.value["chat"]["m"])
    assert state.change() == expected
    assert exact(json.loads(state.document())) == exact(state.value)


def test_equal_numbers_of_other_types_are_changes() -> None:
    state = State(StateKind())
    for value in (1, 1.0, True, 0.0, -0.0):
        state.value["n"] = value
        assert state.change() is not None
        assert exact(json.loads(state.document())) == exact({"n": value})


def test_saved_state_shares_nothing_with_the_live_one() -> None:
    state = State(StateKind())
    inner = [1]
    state.value.update(one=inner, two=inner)
    state.change()
    inner.append(2)
    assert state.document() == '{"one":[1],"two":[1]}'
    assert state.change() == '[["+",["one"],[2]],["+",["two"],[2]]]'


def test_value_can_be_replaced() -> None:
    state = State(StateKind(), '{"a":1,"b":2}')
    state.value = {"b": 2, "c": 3}
    assert state.change() == '[["-",["a"]],["=",["c"],3]]'


@pytest.mark.parametrize("value", [None, [], OrderedDict(), "x"])
def test_value_of_another_kind_is_refused(value: Any) -> None:
    state = State(StateKind())
    state.value = value
    with pytest.raises(InvalidStateError, match=r"^state: is .*; it must be dict"):
        state.change()


def test_snapshot_is_due_when_changes_outgrow_it() -> None:
    """G11: snapshots cost no more than the changes between them."""
    state = State(StateKind())
    taken = written = changed = 0
    for _ in range(2000):
        state.value.setdefault("items", []).append("x" * 200)
        changed += len(state.change() or "") + 64
        if state.snapshot_due():
            written += len(state.document())
            taken += 1
            state.snapshot_taken()
            assert not state.snapshot_due()
    assert taken < 12
    assert written <= 2 * changed


def test_a_snapshot_is_due_when_nothing_has_changed_for_long() -> None:
    """G11: reading a state passes over no more transitions than its size allows."""
    state = State(StateKind())
    state.value["text"] = "x" * 32_000
    state.change()
    state.snapshot_taken()
    waited = 0
    while not state.snapshot_due():
        assert state.change() is None
        waited += 1
    assert waited * 16 >= state.saved_bytes > (waited - 1) * 16
    state.snapshot_taken()
    assert not state.snapshot_due()


def test_replayed_changes_count_towards_the_next_snapshot() -> None:
    change = json.dumps([["=", ["a"], "x" * 5000]])
    assert not State(StateKind(), None, [change] * 3).snapshot_due()
    assert State(StateKind(), None, [change] * 4).snapshot_due()


@pytest.mark.parametrize(
    "change",
    [
        "",
        "{",
        "1",
        "[1]",
        '[["?",["a"]]]',
        '[["-",["b"]]]',
        '[["+",["a"],[1]]]',
        '[["=",["a","b"],1]]',
        '[["=",[],1]]',
        '[["~",["a"],0]]',
    ],
)
def test_damaged_changes_are_reported(change: str) -> None:
    with pytest.raises(InvalidStateError, match=r"stored state: .*changed the database"):
        apply({"a": 1}, change)


def test_damaged_snapshots_are_reported() -> None:
    with pytest.raises(InvalidStateError, match="snapshot"):
        replay("[]", [])
    with pytest.raises(InvalidStateError, match="not JSON"):
        replay("{", [])
