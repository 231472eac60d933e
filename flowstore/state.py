"""The state of a run, saved as changes with a snapshot now and then. No I/O.

What changed is found by comparing the JSON of each top-level key with that of the last
save. Nobody has to report changes, and nothing is wrapped: the state is a plain dict, or
an object of the user's own class.

Beside the live value a `State` keeps what was last saved, as a document of its own (the
strings in both are the same objects). The JSON tells 1 from 1.0 and sees the order of
keys; the document tells a tuple from a list, and NaN from None. Together they are exact.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.change import STRICT, Operation, copied, differ, perform, reorder, replay
from flowstore.door import explain, is_plain, refuse_nul
from flowstore.errors import InvalidStateError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flowstore.kind import FormerState, StateKind

_LARGE: Final = 1024  # bytes of JSON from which on a changed value is searched for the change
_LIST_OF_STR: Final = 2048  # bytes of JSON from which on such a list is compared unencoded
_LONG: Final = 32  # characters from which on a str is extended instead of set
_PER_CHANGE: Final = 64  # bytes that a change costs beside its own length
_MOST_IDLE: Final = 1024  # times that nothing changed before which no snapshot is due
_PER_IDLE: Final = 16  # bytes of a snapshot that one of these times may cost
_LEAST_SNAPSHOT: Final = 16 * 1024  # bytes of changes below which no snapshot is due
_COMMA: Final = 44
_SHORT: Final = 19  # characters of JSON below which an int is one of 64 bits
_ATOMS: Final = frozenset({str, bool, type(None)})
_SCALARS: Final = _ATOMS | {int}

_dumps = orjson.dumps


class State:
    """The state of one run: the live value, and what was last saved of it.

    Args:
        kind: what the value is.
        snapshot: the last snapshot, a JSON text; None if there is none.
        changes: the changes saved after the snapshot, in order.

    Raises:
        InvalidStateError: what was saved cannot be read.
    """

    __slots__ = (
        "_idle",
        "_keys",
        "_kind",
        "_packed",
        "_saved",
        "_since",
        "_sizes",
        "_texts",
        "_total",
        "value",
    )

    value: Any
    """The live value, for handlers to change or to replace."""

    def __init__(
        self, kind: StateKind, snapshot: str | None = None, changes: Sequence[str] = ()
    ) -> None:
        self._kind = kind
        self._since = sum(len(change.encode()) + _PER_CHANGE for change in changes)
        self._idle = 0
        self._packed: str | None = None
        self._begin(replay(snapshot, changes))

    def _begin(self, saved: dict[str, Any]) -> None:
        self._saved = saved
        self._texts: dict[str, bytes | None] = {}
        self._sizes: dict[str, int] = {}
        self._keys = list(saved)
        fresh: dict[str, bytes | int] = {key: _dumps(item) for key, item in saved.items()}
        self._note(fresh)
        self._total = sum(_cost(key) + size for key, size in self._sizes.items())
        self.restore()

    def pack(self) -> None:
        """Keep nothing but one JSON text, which takes less memory, until `unpack`."""
        if self._packed is None:
            self._packed = self.document()
            self._saved, self._texts, self._sizes, self._keys = {}, {}, {}, []
            self.value = None

    def unpack(self) -> None:
        """Make the state again what it was before `pack`, out of fresh objects.

        Raises:
            InvalidStateError: the class does not accept what it once made.
        """
        if self._packed is not None:
            packed, self._packed = self._packed, None
            self._begin(replay(packed, ()))

    def former(self, moments: Iterable[tuple[str | None, Sequence[str]]]) -> FormerState:
        """Return what the value once was, as an object of its own; see `FormerState`."""
        return self._kind.former(moments)

    def adopt(self, former: Any) -> None:
        """Make an object that someone holds the live value: it gets what that has."""
        self.value = self._kind.fill(former, self.value)

    def restore(self) -> None:
        """Make the value again what was last saved, out of fresh objects."""
        self.value = self._kind.restore(copied(self._saved))

    def change(self) -> str | None:
        """Save the value; return what changed since the last time, None if nothing did.

        Raises:
            InvalidStateError: the value cannot be stored; what was last saved is untouched.
        """
        kind, alike = self._kind, type(self.value) is dict
        # The call is spared for a dict: this runs for every event.
        document: dict[str, Any] = (
            self.value if alike and kind.form is None else kind.dump(self.value)
        )
        texts, saved = self._texts, self._saved
        changed: dict[str, list[Operation]] = {}
        fresh: dict[str, bytes | int] = {}
        is_short = True
        for key, item in document.items():
            old = texts.get(key, b"")
            if old is None and self._compare_strings(key, item, changed, fresh):
                is_short = is_short and key not in changed
                continue
            try:
                text = _dumps(item, None, STRICT)
            except TypeError:
                raise self._refusal(document) from None
            if text == old:
                was = saved[key]
                if type(item) is type(was) and item == was:
                    continue
            fresh[key] = text
            if len(text) < _SHORT and type(item) in _SCALARS:
                changed[key] = [["=", [key], item]]
            else:
                is_short = False
                changed[key] = self._compare(key, item, text)
        keys = [*document]
        if keys != self._keys:
            return self._save(document, keys, changed, fresh)
        if not changed:
            self._idle += 1
            return None
        short = self._save_short(changed, fresh) if is_short else None
        return short or self._save(document, keys, changed, fresh)

    def document(self) -> str:
        """Return what was last saved as one JSON text, for a snapshot."""
        return _dumps(self._saved).decode()

    @property
    def saved_bytes(self) -> int:
        """How many bytes of JSON `document` has."""
        return self._total + 1 if self._total else 2

    def snapshot_due(self) -> bool:
        """Tell whether reading the changes since the last snapshot costs more than a new one."""
        if self._since >= _LEAST_SNAPSHOT and self._since >= self.saved_bytes:
            return True
        # Transitions without a change are passed over one by one when a state is read.
        return self._idle >= _MOST_IDLE and self._idle * _PER_IDLE >= self.saved_bytes

    def snapshot_taken(self) -> None:
        """Note that `document` has been handed to the store as a snapshot."""
        self._since = self._idle = 0

    # --- finding what changed ---

    def _compare_strings(
        self,
        key: str,
        item: Any,
        changed: dict[str, list[Operation]],
        fresh: dict[str, bytes | int],
    ) -> bool:
        """Compare a long list of str without encoding it; False if that is not enough."""
        was = self._saved[key]
        count = len(was)
        if type(item) is not list:
            return False
        more = cast("list[object]", item[count:])
        # Equal lengths are compared pointer by pointer, without touching the strings.
        was.extend(more)
        try:
            if was != item:
                return False
        finally:
            del was[count:]
        if not more:
            return True
        if set(map(type, more)) != {str}:
            return False
        try:
            fresh[key] = self._sizes[key] + len(_dumps(more)) - 1
        except TypeError:
            return False
        changed[key] = [["+", [key], more]]
        return True

    def _compare(self, key: str, item: Any, text: bytes) -> list[Operation]:
        """Return the operations for a value that is not the same as it was."""
        was = self._saved.get(key)
        given: object = item
        kind = type(given)
        alike = kind is type(was)
        if alike and was:
            old = self._texts[key] or _dumps(was)
            if kind is str:
                if len(was) >= _LONG and item.startswith(was):
                    return [["+", [key], item[len(was) :]]]
            elif kind is list or kind is dict:
                end = len(old) - 1
                if len(text) > end and text[end] == _COMMA and text.startswith(old[:end]):
                    more = _appended(was, item)
                    if more is not None:
                        return [["+", [key], more]]
                if len(text) >= _LARGE:
                    operations: list[Operation] = []
                    differ(was, item, [key], operations)
                    if len(_dumps(operations)) < len(text):
                        return operations
        return [["=", [key], item]]

    # --- saving it ---

    def _save_short(
        self, changed: dict[str, list[Operation]], fresh: dict[str, bytes | int]
    ) -> str | None:
        """Save short values under keys that were there: the usual case, without its checks.

        Returns:
            the change; None if it needs a closer look, and nothing has been saved.
        """
        sizes, total, texts = self._sizes, self._total, cast("dict[str, bytes]", fresh)
        for key, item in texts.items():
            if type(key) is not str:  # equal to a key that was there, as an enum's member can be
                return None
            total += len(item) - sizes[key]
        operations = [operation for (operation,) in changed.values()]
        text = _dumps(operations)
        change = text.decode()
        if total >= self._kind.limits.state_bytes or "\\u0000" in change:
            return None
        for _, (key,), value in operations:
            self._saved[key] = value
            item = texts[key]
            sizes[key] = len(item)
            self._texts[key] = bytes(memoryview(item))
        self._total = total
        self._since += len(text) + _PER_CHANGE
        return change

    def _save(
        self,
        document: dict[str, Any],
        keys: list[str],
        changed: dict[str, list[Operation]],
        fresh: dict[str, bytes | int],
    ) -> str:
        gone: list[str] = []
        if keys == self._keys:
            operations = list(chain.from_iterable(changed.values()))
        else:
            gone, operations = self._arrange(document, changed)
        self._check(document, operations)
        try:
            text = _dumps(operations)
        except TypeError:  # a lone surrogate in a key
            raise self._refusal(document) from None
        change = text.decode()
        if "\\u0000" in change:
            self._check_nul(document, operations)
        total = self._sum(gone, fresh)
        perform(self._saved, operations)
        for key in gone:
            del self._sizes[key], self._texts[key]
        self._note(fresh)
        self._total = total
        self._keys = keys
        self._since += len(text) + _PER_CHANGE
        return change

    def _arrange(
        self, document: dict[str, Any], changed: dict[str, list[Operation]]
    ) -> tuple[list[str], list[Operation]]:
        """Put operations in an order that gives the keys theirs."""
        gone, stays = reorder(self._saved, document)
        operations: list[Operation] = [["-", [key]] for key in gone]
        for key in document:
            if key in self._saved and key not in stays:
                operations.append([">", [key]])
            operations.extend(changed.get(key, ()))
        return gone, operations

    def _check(self, document: dict[str, Any], operations: list[Operation]) -> None:
        """Pass what is new through the door, and make it our own copy."""
        depth = self._kind.limits.depth
        for operation in operations:
            path = operation[1]
            if type(path[0]) is not str:
                raise self._refusal(document)
            value = operation[-1]
            if value is path or type(value) in _ATOMS:
                continue
            if not is_plain(value, depth - len(path)):
                raise self._refusal(document)
            operation[-1] = copied(value)

    def _check_nul(self, document: dict[str, Any], operations: list[Operation]) -> None:
        try:
            refuse_nul(operations, "", self._kind.limits.depth + 3)
        except InvalidValueError:
            raise self._refusal(document) from None

    def _sum(self, gone: list[str], fresh: dict[str, bytes | int]) -> int:
        """Return the size that the state is going to have, if it is within the limit."""
        sizes, total = self._sizes, self._total
        for key in gone:
            total -= _cost(key) + sizes[key]
        for key, item in fresh.items():
            size = item if isinstance(item, int) else len(item)
            old = sizes.get(key)
            total += _cost(key) + size if old is None else size - old
        if total >= self._kind.limits.state_bytes:
            problem = (
                f"is {total + 1} bytes of JSON and the limit is {self._kind.limits.state_bytes}; "
                "keep large things elsewhere, or raise the limit (limits=Limits(state_bytes=…))"
            )
            raise InvalidStateError("state", problem)
        return total

    def _refusal(self, document: dict[str, Any]) -> InvalidStateError:
        error = explain(document, "state", self._kind.limits.depth)
        return InvalidStateError(error.path, error.problem)

    # --- what is known of each key ---

    def _note(self, fresh: dict[str, bytes | int]) -> None:
        """Remember the JSON of what was saved; of a list of str that grew, only its size."""
        for key, item in fresh.items():
            if isinstance(item, int):
                self._sizes[key] = item
                continue
            size = self._sizes[key] = len(item)
            strings = size >= _LIST_OF_STR and _is_list_of_str(self._saved[key])
            # A copy: orjson's own bytes take 4 KB at least, however short the text is.
            self._texts[key] = None if strings else bytes(memoryview(item))


def _cost(key: str) -> int:
    return len(_dumps(key)) + 2  # the colon and a comma


def _appended(was: Any, item: Any) -> Any:
    """Return what was appended to a list or dict, None if the rest is not the same."""
    count = len(was)
    given: object = item
    if type(given) is list:
        return item[count:] if item[:count] == was else None
    if dict(islice(item.items(), count)) != was:
        return None
    return dict(islice(item.items(), count, None))


def _is_list_of_str(value: Any) -> bool:
    if type(value) is not list:
        return False
    items = cast("list[object]", value)
    return type(items[0]) is str and type(items[-1]) is str and set(map(type, items)) == {str}
