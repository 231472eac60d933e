"""Times that recur: what a cron expression in a timezone stands for, and what fires then. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import TYPE_CHECKING, Final, Literal, get_args

from flowstore.clock import to_datetime, to_microseconds
from flowstore.errors import ConfigurationError
from flowstore.registry import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flowstore.codec import Encoded

Missed = Literal["last", "skip", "all"]

MOST_MISSED: Final = 1_000
"""Firings that ``missed="all"`` makes up for at most: the last so many."""

ON_TIME_MICROSECONDS: Final = 60_000_000
"""A firing that is later than this, or as late, has been missed."""

_FIELDS: Final = 5
_LONGEST: Final = 200
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
ID_LENGTH: Final = len("cron//2030-01-01T09:00:00Z")
"""Characters of the id of a firing beside the cron's name."""

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_FIRST_WINDOW: Final = 3_600_000_000
_WINDOW_FACTOR: Final = 8


class Schedule:
    """The moments of a cron expression; all in microseconds since 1970, UTC.

    Args:
        expression: five fields, as in Debian's cron.
        timezone: an IANA name.

    Raises:
        ConfigurationError: one of them cannot be understood, or no moment ever fits.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        if type(expression) is not str or len(expression) > _LONGEST:
            raise ConfigurationError(
                f'cron: an expression is a text of five fields, such as "0 9 * * 1-5"; this is '
                f"{shown(expression)}"
            )
        self.expression = " ".join(expression.split())
        if len(expression.split()) != _FIELDS:
            raise ConfigurationError(
                f"cron {self.expression!r}: five fields are needed: minute, hour, day of the "
                'month, month and day of the week, as in "0 9 * * 1-5"'
            )
        from cronsim import CronSim  # noqa: PLC0415 - who has no cron need not wait for it

        self._simulate = CronSim
        self._zone = _zone(timezone)
        minutes, hours, *_ = expression.split()
        self._follows_the_wall = minutes.startswith("*") or hours.startswith("*")
        try:
            first = next(self._simulate(self.expression, _ANY_TIME), None)
        except Exception as error:  # its parser has assertions, and int() has limits
            raise ConfigurationError(f"cron {self.expression!r}: {error}") from error
        if first is None:
            raise ConfigurationError(f"cron {self.expression!r}: no day ever fits this")

    def after(self, moment: int) -> int | None:
        """Return the next moment, None if there is none in the next 50 years."""
        return next(self._from(moment), None)

    def last(self, after: int, until: int, most: int) -> list[int]:
        """Return the last moments with ``after < moment <= until``, ``most`` at most, in order."""
        span = _FIRST_WINDOW
        # From the end, in growing windows: a year of minutes need not be counted through.
        while True:
            begin = max(after, until - span)
            found = deque(takewhile(lambda at: at <= until, self._from(begin)), maxlen=most)
            if begin == after or len(found) == most:
                return list(found)
            span *= _WINDOW_FACTOR

    def _from(self, moment: int) -> Iterator[int]:
        last = moment
        for found in self._found(to_datetime(moment)):
            at = to_microseconds(found)
            # Begun in an hour that comes twice, it may name a time of the first.
            if at > last:
                yield at
                last = at

    def _found(self, moment: datetime) -> Iterator[datetime]:
        if self._zone is UTC or not self._follows_the_wall:
            return self._simulate(self.expression, moment.astimezone(self._zone))
        return self._on_the_wall(moment)

    def _on_the_wall(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments at which the clock on the wall fits, as long as there are any.

        cronsim walks from change to change of the zone without one: with it, it goes by whole
        hours, and misses moments where the clock changes by half an hour or at midnight.
        """
        offset = self._offset(moment)
        start = moment + offset
        while True:
            change: datetime | None = None
            for found in self._simulate(self.expression, start.replace(tzinfo=None)):
                at = found.replace(tzinfo=UTC) - offset
                change = self._change(moment, at)
                if change is not None:
                    break
                yield at
                moment = at
            if change is None:
                return
            moment, offset = change, self._offset(change)
            start = change + offset - _SECOND  # what fits at the change itself counts

    def _change(self, after: datetime, until: datetime) -> datetime | None:
        """Return the first moment with ``after < moment <= until`` and another offset."""
        offset = self._offset(after)
        while after < until:
            following = min(after + _DAY, until)
            if self._offset(following) != offset:
                while following - after > _SECOND:
                    middle = after + (following - after) // 2
                    if self._offset(middle) == offset:
                        after = middle
                    else:
                        following = middle
                return following.replace(microsecond=0)
            after = following
        return None

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """An event that recurs.

    Attributes:
        event: as it passed the door when it was declared.
        correlation_id: the run that all firings go to; None for one run each.
    """

    name: str
    schedule: Schedule
    event: Encoded
    correlation_id: str | None
    missed: Missed

    def due(self, last: int, now: int) -> list[int]:
        """Return the moments after ``last`` that are to be fired now, in order."""
        found = self.schedule.last(last, now, MOST_MISSED if self.missed == "all" else 1)
        if self.missed == "skip":
            return [at for at in found if now - at < ON_TIME_MICROSECONDS]
        return found

    def event_id(self, at: int) -> str:
        """Return the id of the event that stands for a moment."""
        return f"cron/{self.name}/{to_datetime(at):%Y-%m-%dT%H:%M:%SZ}"


class Crons:
    """The crons of a workflow, by name.

    Attributes:
        is_served: they fire now, so no other can be added.
    """

    def __init__(self) -> None:
        self._crons: dict[str, Cron] = {}
        self.is_served = False

    @property
    def by_name(self) -> Mapping[str, Cron]:
        """All of them."""
        return self._crons

    def add(self, cron: Cron) -> None:
        """Add one.

        Raises:
            ConfigurationError: there is one of this name, or they are being served.
        """
        if self.is_served:
            raise ConfigurationError(
                f"cron {cron.name!r}: the workflow is being served; declare crons before that"
            )
        if cron.name in self._crons:
            raise ConfigurationError(
                f"there are two crons of the name {cron.name!r}; give one another name="
            )
        self._crons[cron.name] = cron


def check_missed(missed: object) -> None:
    """Refuse what is no rule for firings that were missed.

    Raises:
        ConfigurationError: it is none of them.
    """
    if missed not in get_args(Missed):
        raise ConfigurationError(f'missed={missed!r}: it is one of "last", "skip" and "all"')


def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC
    if not isinstance(name, str):
        raise ConfigurationError(f"timezone={name!r}: an IANA name, such as Europe/Berlin")
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - as cronsim

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"timezone={name!r}: there is no such timezone here; give an IANA name, such as "
            "Europe/Berlin, and install the package tzdata if this machine has none at all"
        ) from error
