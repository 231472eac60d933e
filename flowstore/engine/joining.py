"""Which of the events that are kept make a collection complete. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from flowstore.engine.trigger import Trigger
from flowstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.codec import Codec
    from flowstore.routing import Outcome
    from flowstore.store.base import StoredEvent

    Event = str | type | Outcome

_MOST = 1_000_000
"""As many events as one collection may take: more is a mistake, and would fill the memory."""


def wanted(events: Sequence[Event] | Event, count: int | None, codec: Codec) -> list[Trigger]:
    """Return one trigger for each event that is needed.

    Raises:
        ConfigurationError: the arguments make no sense.
    """
    if not isinstance(events, (list, tuple)):
        if type(count) is not int or not 1 <= count <= _MOST:
            raise ConfigurationError(
                f"ctx.collect: count={count!r}: how many of the one event, from 1 to {_MOST:,}; "
                "or give a list"
            )
        # Not a sequence: it has no brackets.
        return [Trigger.of(events, codec)] * count
    if count is not None or not events:
        raise ConfigurationError(
            "ctx.collect: give a list with an entry for each event, or one event and count="
        )
    return [Trigger.of(event, codec) for event in events]


def join(
    triggers: Sequence[Trigger], events: Sequence[StoredEvent], codec: Codec
) -> list[StoredEvent] | None:
    """Return an event for each trigger; None if some are missing.

    Of more events than are needed the earliest count. How those that count are given to the
    triggers does not depend on the order in which they came.
    """
    groups = list(dict.fromkeys(map(_key, triggers)))
    by_key = {_key(each): each for each in triggers}
    needed = Counter(map(_key, triggers))
    fits: dict[str, list[str]] = {}
    for each in events:
        data = codec.decode(each.name, each.version, each.data)
        fits[each.id] = [key for key in groups if by_key[key].fits(each.name, data, codec)]
    places = _Places(needed, fits)
    chosen = [
        each
        for each in sorted(events, key=lambda each: each.position)
        if len(places) < len(triggers) and places.seat(each.id)
    ]
    if len(chosen) < len(triggers):
        return None
    chosen.sort(key=lambda each: _natural(each.id))
    seated = _Places(needed, fits)
    given: dict[str, list[StoredEvent]] = {key: [] for key in groups}
    rest = [each.id for each in chosen]
    for each in chosen:
        rest.remove(each.id)
        for key in fits[each.id]:
            if seated.can_seat(each.id, key, rest):
                given[key].append(each)
                break
    return [given[_key(each)].pop(0) for each in triggers]


class _Places:
    """The places that are to be filled, and who has them; who has one may be moved to another."""

    def __init__(self, needed: Counter[str], fits: dict[str, list[str]]) -> None:
        self._needed = needed
        self._fits = fits
        self._taken: dict[str, list[str]] = {key: [] for key in needed}

    def __len__(self) -> int:
        return sum(map(len, self._taken.values()))

    def seat(self, event_id: str) -> bool:
        """Find a place, moving others if need be; False if there is none."""
        return self._seat(event_id, set())

    def _seat(self, event_id: str, tried: set[str]) -> bool:
        for key in self._fits[event_id]:
            if key in tried:
                continue
            tried.add(key)
            taken = self._taken[key]
            if len(taken) < self._needed[key]:
                taken.append(event_id)
                return True
            for index, other in enumerate(taken):
                if len(self._fits[other]) > 1 and self._seat(other, tried):
                    taken[index] = event_id
                    return True
        return False

    def can_seat(self, event_id: str, key: str, rest: Sequence[str]) -> bool:
        """Give it this place for good, if all of the rest can have places then."""
        if not self._needed[key]:
            return False
        left = self._needed.copy()
        left[key] -= 1
        if len(self._fits[event_id]) > 1:
            trial = _Places(left, self._fits)
            if not all(trial.seat(each) for each in rest):
                return False
        self._needed = left
        return True


def _key(trigger: Trigger) -> str:
    return f"{trigger.name}\n{trigger.condition}"


def _natural(event_id: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key by which 1/h/t2 comes before 1/h/t10."""
    parts = re.split(r"(\d+)", event_id)
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return key, event_id  # 1 and 01 are two ids
