"""The graph of a workflow: which handlers get which events, and what they emit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.events import (
    DEAD_RETRIED,
    DEADLINE,
    ERROR,
    QUIET,
    TASK_COMPLETED,
    TASK_FAILED,
    WAIT_EXPIRED,
)
from flowstore.graph.mention import EMITS, SUBMITS, WAITS, Mention
from flowstore.graph.reading import Reader
from flowstore.routing import EVERYTHING
from flowstore.store.flow import WOKEN, Flow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowstore.engine.program import Program
    from flowstore.routing import Handler

Key = tuple[str, str | None]
"""An event: its name, and for the end of a task the task."""

ENGINE: Final = frozenset({ERROR, WAIT_EXPIRED, DEADLINE, DEAD_RETRIED})
"""Events that the engine itself appends."""

_ENDS: Final = (TASK_COMPLETED, TASK_FAILED)


def key_text(key: Key) -> str:
    """Return an event as people read it: ``paid``, ``task.completed of encode``."""
    name, task = key
    return name if task is None else f"{name} of {task}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """Something that a handler does with an event or a task.

    Attributes:
        how: ``emits``, ``schedules``, ``submits`` or ``waits for``.
        event: which event; None if only running the code would tell. Of a task that is submitted,
            the event of its result.
        is_in_code: whether its code says so; else it is known from recorded runs alone.
        recorded: how often recorded runs have it; None if none were looked at.
    """

    how: str
    event: Key | None
    is_in_code: bool = True
    recorded: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A handler.

    Attributes:
        name: as the record has it.
        number: its place in the order of registration, from 1.
        listens: what it is registered for: ``paid``, ``class Paid``, ``*``,
            ``task.completed of x``.
        place: where its function is defined.
        does: what it does, in the order in which its code says so.
        gets: the events that are known to reach it.
        is_fed: whether anything in here is known to give it an event.
        recorded: how many events it came to an end with in recorded runs; None if none were
            looked at.
    """

    name: str
    number: int
    listens: str
    place: str
    does: tuple[Does, ...]
    gets: tuple[Key, ...]
    is_fed: bool
    recorded: int | None = None


@dataclass(slots=True, kw_only=True)
class Event:
    """An event, with who makes it and who gets it.

    Attributes:
        key: which it is.
        makers: the numbers of the handlers that emit, schedule or submit it.
        listeners: the numbers of the handlers that get it.
        waiters: the numbers of the handlers that wait for it.
        crons: the crons that send it.
        is_only_logged: whether only handlers get it that are registered for everything, or for a
            class above.
        has_subclasses: whether it is a class, and events of other classes count as it too.
        sent: how often it came from outside in recorded runs; None if none were looked at.
    """

    key: Key
    makers: list[int] = field(default_factory=list[int])
    listeners: list[int] = field(default_factory=list[int])
    waiters: list[int] = field(default_factory=list[int])
    crons: list[str] = field(default_factory=list[str])
    is_only_logged: bool = False
    has_subclasses: bool = False
    sent: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether anything in the workflow, or the engine, makes it."""
        return bool(self.makers or self.crons) or self.key[0] in ENGINE

    @property
    def is_unheard(self) -> bool:
        """Whether it comes and no one listens, nor waits for it."""
        comes = self.is_made or bool(self.sent)
        heard = self.listeners or self.waiters or self.key[0] in QUIET or self.key[0] == DEADLINE
        return comes and not heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Which handlers of a workflow get which events, and what they emit.

    Attributes:
        workflow: its name.
        handlers: in the order of registration.
        events: all that are known, those of handlers first.
        is_complete: whether the code of every handler tells what it emits.
    """

    workflow: str
    handlers: tuple[Node, ...]
    events: dict[Key, Event]
    is_complete: bool

    def is_unfed(self, event: Event) -> bool:
        """Tell whether nothing makes an event that someone is registered for."""
        return not event.is_made and not all(
            self.handlers[number - 1].is_fed for number in event.listeners
        )

    @property
    def unheard(self) -> list[Event]:
        """The events that come and that nobody listens to."""
        return [event for event in self.events.values() if event.is_unheard]

    @property
    def unfed(self) -> list[Node]:
        """The handlers that nothing in here gives an event: it comes from outside, or never."""
        return [node for node in self.handlers if not node.is_fed]


def build(program: Program, flow: Flow | None = None) -> Graph:
    """Read the code of a workflow's handlers; none of it is run.

    Args:
        program: the workflow.
        flow: what its recorded runs show.
    """
    return _Builder(program, flow).build()


class _Builder:
    def __init__(self, program: Program, flow: Flow | None) -> None:
        self._program = program
        self._flow = flow
        self._reader = Reader(program.codec.types)
        self._handlers = list(program.routes)
        self._does = [self._all_of(handler) for handler in self._handlers]
        self._events: dict[Key, Event] = {}

    def build(self) -> Graph:
        self._add_what_is_registered()
        self._add_what_is_done()
        self._add_crons()
        self._add_what_was_sent()
        for event in self._events.values():
            event.listeners = [
                number
                for number, handler in enumerate(self._handlers, 1)
                if self._gets(handler, event)
            ]
            event.is_only_logged = bool(event.listeners) and not (
                event.waiters or any(self._is_own(number, event) for number in event.listeners)
            )
        return Graph(
            workflow=self._program.name,
            handlers=tuple(
                self._node(number, handler) for number, handler in enumerate(self._handlers, 1)
            ),
            events=self._events,
            is_complete=all(
                each.event is not None for does in self._does for each in does if each.how != WAITS
            ),
        )

    # --- handlers --------------------------------------------------------------------

    def _all_of(self, handler: Handler) -> list[Does]:
        """Return what a handler does by its code, and what runs show beyond that."""
        done = [self._count(handler, mention) for mention in self._reader.read(handler)]
        if self._flow is None:
            return done
        said = {each.event[0] for each in done if each.event is not None}
        names = [each.name for each in self._handlers]
        for (name, event), count in sorted(self._flow.emitted.items()):
            if name != handler.name or event in said or event in (*_ENDS, *ENGINE):
                continue
            if names.count(name) > 1 and not self._flow.handled.get((name, self._key(handler)[0])):
                continue  # of two handlers of this name it was the other
            done.append(Does(how=EMITS, event=(event, None), is_in_code=False, recorded=count))
        return done

    def _count(self, handler: Handler, mention: Mention) -> Does:
        how, name, task = mention
        if how == SUBMITS:
            event: Key | None = None if task is None else (TASK_COMPLETED, task)
            counts = {} if self._flow is None else self._flow.submitted
            of_whom = (handler.name, task or "")
        else:
            event = None if name is None else (name, task)
            counts = {} if self._flow is None else self._flow.emitted
            of_whom = (handler.name, name or "")
        counted = self._flow is not None and event is not None and how != WAITS
        return Does(how=how, event=event, recorded=counts.get(of_whom, 0) if counted else None)

    def _node(self, number: int, handler: Handler) -> Node:
        gets = [event for event in self._events.values() if number in event.listeners]
        recorded: int | None = None
        if self._flow is not None:
            names = {event.key[0] for event in gets} | {WOKEN}
            counts = self._flow.handled.items()
            recorded = sum(n for (who, name), n in counts if who == handler.name and name in names)
        return Node(
            name=handler.name,
            number=number,
            listens=self._listens(handler),
            place=_place(handler.function),
            does=tuple(self._does[number - 1]),
            gets=tuple(event.key for event in gets if event.key[0] != EVERYTHING),
            is_fed=any(event.is_made or event.sent for event in gets),
            recorded=recorded,
        )

    def _listens(self, handler: Handler) -> str:
        if isinstance(handler.key, type):
            return f"class {self._reader.name_of(handler.key)}"
        return key_text((handler.key, handler.task))

    def _key(self, handler: Handler) -> Key:
        key = handler.key
        return (self._reader.name_of(key) if isinstance(key, type) else key, handler.task)

    def _gets(self, handler: Handler, event: Event) -> bool:
        name, task = event.key
        if name == EVERYTHING:
            return handler.key == EVERYTHING
        if handler not in self._program.routes.handlers(name):
            return False
        return handler.task is None or handler.task == task

    def _is_own(self, number: int, event: Event) -> bool:
        """Tell whether a handler is registered for this very event."""
        return self._key(self._handlers[number - 1])[0] == event.key[0]

    # --- events ----------------------------------------------------------------------------

    def _event(self, key: Key) -> Event:
        if key not in self._events:
            sent = None if self._flow is None else 0
            self._events[key] = Event(key=key, sent=sent)
        return self._events[key]

    def _add_what_is_registered(self) -> None:
        for handler in self._handlers:
            event = self._event(self._key(handler))
            if isinstance(handler.key, type):
                event.has_subclasses = bool(type.__subclasses__(handler.key))

    def _add_what_is_done(self) -> None:
        for number, does in enumerate(self._does, 1):
            for each in does:
                for key in _keys(each):
                    event = self._event(key)
                    known = event.waiters if each.how == WAITS else event.makers
                    if number not in known:
                        known.append(number)

    def _add_crons(self) -> None:
        for cron in self._program.crons.by_name.values():
            self._event((cron.event.name, None)).crons.append(cron.name)

    def _add_what_was_sent(self) -> None:
        sent = {} if self._flow is None else self._flow.sent
        for name, count in sorted(sent.items()):
            if name not in (*_ENDS, *ENGINE):
                self._event((name, None)).sent = count


def _keys(does: Does) -> Iterable[Key]:
    if does.event is None:
        return ()
    if does.how == SUBMITS:
        return [(end, does.event[1]) for end in _ENDS]
    return [does.event]


def _place(function: Any) -> str:
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func  # a partial
    kind = function if hasattr(function, "__qualname__") else cast("Any", type(function))
    return f"{kind.__module__}.{kind.__qualname__}"
