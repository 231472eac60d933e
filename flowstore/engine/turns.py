"""Whose turn it is: the tasks that wait for a place, and how many of each may run and start."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flowstore.executors import runner_for
from flowstore.rate import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from flowstore.clock import Clock
    from flowstore.engine.progress import Progress
    from flowstore.executors import Runner
    from flowstore.store.base import TaskRow
    from flowstore.task import Task

    At = Callable[[int, Callable[[], None]], str]

MOST_STARTED: Final = 1_024
"""Tasks started in one turn of the event loop, so that the others on it get theirs."""


class Work:
    """A task that this process is at.

    Attributes:
        lane: where it waits or runs; None while it waits for a time.
        job: the attempt under way, if there is one.
        alarm: the key of what happens to it at a time: its timeout.
        is_over: it needs no further attempt.
    """

    __slots__ = ("alarm", "correlation_id", "is_over", "job", "lane", "progress", "row", "task")

    def __init__(self, correlation_id: str, row: TaskRow, task: Task[Any, Any]) -> None:
        self.correlation_id = correlation_id
        self.row = row
        self.task = task
        self.lane: Lane | None = None
        self.job: asyncio.Task[Any] | None = None
        self.alarm: str | None = None
        self.progress: Progress | None = None
        self.is_over = False


class Place:
    """What runs the tasks of one executor.

    Attributes:
        lanes: those in which something waits and nothing else is known to be in the way.
    """

    __slots__ = ("lanes", "runner", "running")

    def __init__(self, executor: str | Executor) -> None:
        self.runner: Runner = runner_for(executor)
        self.running = 0
        self.lanes: dict[Lane, None] = {}

    @property
    def has_room(self) -> bool:
        """Whether one more can start."""
        return self.runner.places is None or self.running < self.runner.places


class Lane:
    """The tasks of one name."""

    __slots__ = ("is_delayed", "limiter", "place", "running", "task", "waiting")

    def __init__(self, task: Task[Any, Any], place: Place) -> None:
        self.task = task
        self.place = place
        self.waiting: deque[Work] = deque()
        self.running = 0
        self.limiter = None if task.rate is None else Limiter(task.rate)
        self.is_delayed = False

    @property
    def is_full(self) -> bool:
        """Whether as many run as may."""
        most = self.task.max_concurrency
        return most is not None and self.running >= most

    def first(self) -> Work | None:
        """Return the first that still waits."""
        while self.waiting and self.waiting[0].is_over:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


class Turns:
    """Starts tasks when it is their turn; one that waits is an entry in a list and no more.

    Args:
        start: called with each whose turn has come; it has a place from then on.
        at: has something done at a moment.
    """

    def __init__(self, clock: Clock, start: Callable[[Work], None], at: At) -> None:
        self._clock = clock
        self._start = start
        self._at = at
        self._places: dict[str | Executor, Place] = {}
        self._lanes: dict[str, Lane] = {}
        self._is_planned = False
        self._is_closed = False

    def put(self, work: Work) -> None:
        """Let a task wait for its turn."""
        lane = self._lane(work.task)
        lane.waiting.append(work)
        self._offer(lane)

    def free(self, work: Work) -> None:
        """Take back the place of a task."""
        lane, work.lane = work.lane, None
        if lane is not None:
            lane.running -= 1
            lane.place.running -= 1
            self._offer(lane)

    def stop(self) -> None:
        """Start no more."""
        self._is_closed = True

    def close(self) -> None:
        """Give up what runs; wait for nothing."""
        self.stop()
        for place in self._places.values():
            place.runner.close()

    def _lane(self, task: Task[Any, Any]) -> Lane:
        lane = self._lanes.get(task.name)
        if lane is None:
            place = self._places.get(task.executor)
            if place is None:
                place = self._places[task.executor] = Place(task.executor)
            lane = self._lanes[task.name] = Lane(task, place)
        return lane

    def _offer(self, lane: Lane) -> None:
        if lane.waiting:
            lane.place.lanes[lane] = None
        if not (self._is_planned or self._is_closed):
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._is_planned = False
        started = 0
        for place in self._places.values():
            while place.lanes and place.has_room and not self._is_closed:
                if started == MOST_STARTED:
                    self._offer(next(iter(place.lanes)))
                    return
                lane = next(iter(place.lanes))
                del place.lanes[lane]
                started += self._serve(lane)

    def _serve(self, lane: Lane) -> bool:
        """Start the first of a lane, and put the lane behind the others; false if it may not."""
        work = lane.first()
        if work is None or lane.is_full or lane.is_delayed:
            return False
        if lane.limiter is not None:
            now = self._clock.now()
            wait = lane.limiter.wait(now)
            if wait:
                lane.is_delayed = True
                self._at(now + wait, partial(self._resume, lane))
                return False
            lane.limiter.start(now)
        lane.waiting.popleft()
        lane.running += 1
        lane.place.running += 1
        work.lane = lane
        if lane.waiting:
            lane.place.lanes[lane] = None
        self._start(work)
        return True

    def _resume(self, lane: Lane) -> None:
        lane.is_delayed = False
        self._offer(lane)
