"""The thread that owns a file's write connection, and its queue.

While one commit is syncing the next batch gathers, so commits share their syncs under load
and a lone commit waits for nothing.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from flowstore.errors import StoreClosedError, StoreUnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from flowstore.store.base import Operation
    from flowstore.store.session import Outcome, Session

    Deliver = Callable[[Any, BaseException | None], None]

logger = logging.getLogger("flowstore")

NOTICE_SECONDS = 0.02
"""How often other processes' commits are looked for while someone listens (bar: 50 ms)."""

_MOST_OPERATIONS = 4096
"""Operations in one transaction at most, so that no one waits long for the first sync."""

_JOIN_SECONDS = 10.0


class Parcel:
    """Operations of one turn of an event loop, and the callbacks that wait for their results.

    Two lists and no pairs: an object for each event is one more for the collector.
    """

    __slots__ = ("delivers", "loop", "operations")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.operations: list[Operation] = []
        self.delivers: list[Deliver] = []

    def refuse(self, error: BaseException) -> None:
        """Deliver an error in the place of every result."""
        _deliver(self.delivers, [(None, error)] * len(self.delivers))


class Call(NamedTuple):
    """Something else to be done on the writer's thread, between batches."""

    action: Callable[[Session], Any]
    deliver: Deliver
    loop: asyncio.AbstractEventLoop

    def refuse(self, error: BaseException) -> None:
        """Deliver an error in the place of its result."""
        _deliver([self.deliver], [(None, error)])


class Listener(NamedTuple):
    """Someone to be told when another process has written."""

    heard: Callable[[], None]
    loop: asyncio.AbstractEventLoop


class Writer:
    """A queue and the daemon thread that empties it."""

    def __init__(self, open_session: Callable[[], Session], renew_seconds: float) -> None:
        self._open_session = open_session
        self._queue: queue.SimpleQueue[list[Parcel | Call] | None] = queue.SimpleQueue()
        self._at_hand: list[Parcel | Call] = []
        self._session: Session | None = None
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._closed = False
        self.worker_id: str | None = None
        self.renew_seconds = renew_seconds

    def put(self, orders: list[Parcel | Call]) -> None:
        """Queue orders, which are the writer's from now on; the thread is started by the first."""
        if self._closed:
            message = "the store has been closed; make a new WorkflowManager"
            raise StoreClosedError(message)
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="flowstore-writer", daemon=True
                    )
                    self._thread.start()
        self._queue.put(orders)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Add a listener and return how to remove it."""
        self._listeners.append(listener)
        if self._thread is not None:
            self._queue.put([])  # so that the thread waits with a timeout from now on

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def stop(self) -> None:
        """Finish what is queued, close the connection and end the thread."""
        self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._queue.put(None)
            self._thread.join(_JOIN_SECONDS)

    # --- on the thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            logger.exception("the store's own thread failed, so nothing is written any more")
            self._refuse_all(error)
        if self._session is not None:
            _attempt(partial(self._session.close, self.worker_id))

    def _serve(self) -> None:
        renew_at = 0.0
        while (orders := self._gather()) is not None:
            self._at_hand = orders
            if self._session is None and orders:
                self._session = self._open(orders)
            session = self._session
            if session is None:
                continue
            if orders:
                _work(session, orders)
                self._at_hand = []  # they have been answered
            else:
                _attempt(session.look_around)
            if session.unheard:
                session.unheard = False
                self._tell()
            renew_at = self._renew(session, renew_at)

    def _refuse_all(self, error: BaseException) -> None:
        """Refuse what is asked for until the end: whoever waits must not wait for ever."""
        problem = StoreUnavailableError(
            f"the store's own thread failed ({type(error).__name__}: {error}), so nothing is "
            "written any more; this is a bug of flowstore: start the process again, and report it "
            "with what the log says"
        )
        problem.__cause__ = error
        orders: list[Parcel | Call] | None = self._at_hand
        while orders is not None:
            for order in orders:
                _call(order.loop, order.refuse, problem)
            orders = self._queue.get()

    def _renew(self, session: Session, renew_at: float) -> float:
        """Say that the worker lives when it is time; return when it is time again."""
        now = time.monotonic()
        if self.worker_id is None or now < renew_at:
            return renew_at
        if renew_at:
            _attempt(partial(session.leases.renew, self.worker_id))
        return now + self.renew_seconds

    def _gather(self) -> list[Parcel | Call] | None:
        """Wait for orders and take all there are; [] after a pause, None at the end."""
        timeout: float | None = None
        if self._session is not None and self._listeners:
            timeout = NOTICE_SECONDS
        elif self.worker_id is not None:
            timeout = self.renew_seconds
        try:
            orders = self._queue.get(timeout=timeout)
        except queue.Empty:
            return []
        size = _size(orders or ())
        while orders is not None and size < _MOST_OPERATIONS and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            orders += more
            size += _size(more)
        return orders

    def _open(self, orders: list[Parcel | Call]) -> Session | None:
        try:
            return self._open_session()
        except BaseException as error:  # noqa: BLE001 - it is delivered to everyone who waits
            for order in orders:
                _call(order.loop, order.refuse, error)
            return None

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            _call(listener.loop, listener.heard)


def _attempt(action: Callable[[], object]) -> None:
    """Do what no one waits for; if it fails the thread must live on for those who do."""
    try:
        action()
    except (sqlite3.Error, OSError) as error:
        logger.warning("the store could not be kept up: %s", error)


def _size(orders: Sequence[Parcel | Call]) -> int:
    return sum(len(order.operations) for order in orders if isinstance(order, Parcel))


def _work(session: Session, orders: list[Parcel | Call]) -> None:
    """Carry out orders: neighbouring operations as one transaction, calls by themselves."""
    parcels: list[Parcel] = []
    for order in orders:
        if isinstance(order, Parcel):
            parcels.append(order)
            continue
        _carry_out(session, parcels)
        parcels = []
        outcome: Outcome
        try:
            outcome = (order.action(session), None)
        except BaseException as error:  # noqa: BLE001 - it is delivered to the one who waits
            outcome = (None, error)
        _call(order.loop, _deliver, [order.deliver], [outcome])
    _carry_out(session, parcels)


def _carry_out(session: Session, parcels: Sequence[Parcel]) -> None:
    """Carry out parcels together; hand the results over with one wake-up for each event loop."""
    operations = [operation for parcel in parcels for operation in parcel.operations]
    if not operations:
        return
    outcomes: list[Outcome]
    try:
        outcomes = session.carry_out(operations)
    except BaseException as error:  # noqa: BLE001 - it is delivered to everyone who waits
        outcomes = [(None, error)] * len(operations)
    left = iter(outcomes)
    shares: dict[asyncio.AbstractEventLoop, tuple[list[Deliver], list[Outcome]]] = {}
    for parcel in parcels:
        delivers, results = shares.setdefault(parcel.loop, ([], []))
        delivers += parcel.delivers
        results += islice(left, len(parcel.delivers))
    for loop, share in shares.items():
        _call(loop, _deliver, *share)


def _deliver(delivers: Sequence[Deliver], outcomes: Sequence[Outcome]) -> None:
    for deliver, (result, error) in zip(delivers, outcomes, strict=True):
        try:
            deliver(result, error)
        except Exception:
            # The results behind this one belong to others, who would wait for ever.
            logger.exception("a result of the store could not be taken")


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        # The loop has been closed: no one waits for this result any more.
        return
