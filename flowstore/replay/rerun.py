"""Executing a run again: its handlers are called over the record, and compared with it.

What an attempt of a handler does is the engine's own `handle_event`, over other surroundings
(ADR 13). Nothing is written, and no database is opened but to read the run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from flowstore.engine.active import ActiveRun
from flowstore.engine.handle import handle_event
from flowstore.errors import (
    ConfigurationError,
    FlowstoreError,
    InvalidValueError,
    RunNotFoundError,
)
from flowstore.events import PROGRESS
from flowstore.outside import refusal
from flowstore.replay.difference import Ignored, ignorable
from flowstore.replay.guard import install
from flowstore.replay.handlers import Handlers
from flowstore.replay.judge import Judge
from flowstore.replay.order import overtaken
from flowstore.replay.record import EDITED, Record, is_repeatable
from flowstore.replay.report import Divergence, Report
from flowstore.replay.scene import Halt, Scene
from flowstore.replay.standing import Waits, reopened_at
from flowstore.state import State
from flowstore.store import arranged
from flowstore.store.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from flowstore.engine.decide import Done
    from flowstore.engine.program import Program
    from flowstore.replay.scene import Before
    from flowstore.store.base import StoredEvent, TransitionRow

    Accept = Callable[[Divergence], bool]

_TURN: Final = 256
"""After so many events, others on the loop get their turn."""


class Workflow(Protocol):
    """What is needed of a `WorkflowManager`."""

    @property
    def program(self) -> Program:
        """Return what its handlers do."""
        ...


class Named(Protocol):
    """What is needed of a `Run`."""

    correlation_id: str


async def rerun(
    workflow: Workflow,
    run: Named | str | Archive,
    *,
    to: int | None = None,
    live: Collection[str] = (),
    ignore: Sequence[str] = (),
    guard: bool = True,
    before: Before | None = None,
    accept: Accept | None = None,
) -> Report:
    """Call the handlers of a run again over its record, and compare what they do with it.

    Events, time, randomness, ids, the results of steps and tasks, and the chunks of streams come
    from the record; statements of ``ctx.execute`` are left out. Of several attempts at an event
    the last is made again. An event that has not been through all its handlers is left out. What
    a handler takes from elsewhere, such as the clock of the machine, shows as a divergence.

    Args:
        workflow: the code: a `WorkflowManager` with its handlers.
        run: which run: a `Run`, or a correlation_id, of the workflow's own store, or all there is
            of a run, from anywhere.
        to: the last position to look at; None for all that have been handled.
        live: names of steps that really run if the record has no result of them, and of events
            whose streams are really made.
        ignore: paths that do not count, as differences have them: ``state.updated``,
            ``emitted.*.data.at``, ``event.data.at`` (of any event that is emitted), ``result``,
            ``handler.audit``. ``*`` stands for any one key.
        guard: end the replay where a handler reaches for something outside the process: the
            network, other programs, files to write. Steps that are ``live`` may.
        before: called in the handler's context just before each attempt. Plain functions are
            then called in the event loop's thread, and timeouts do not count. An event whose
            handlers are to be tried again is looked at, too, if ``to`` goes so far.
        accept: asked about each divergence; where it says yes the replay goes on behind that
            event with what is recorded, so that one divergence hides no other.

    Returns:
        what came of it, with the first divergence if there is one.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigurationError: the run is one of another workflow.
        InvalidValueError: ``to`` is no position, ``live`` a text, or a path none that can differ.
        StoreError: the run could not be read.
    """
    if to is not None and (type(to) is not int or to < 0):
        raise InvalidValueError("to", f"is {to!r}; it is a position, from 0")
    program = workflow.program
    archive = run if isinstance(run, Archive) else await _read(program, run)
    if archive.run.workflow != program.name:
        raise ConfigurationError(
            f"run {archive.run.correlation_id!r} belongs to workflow {archive.run.workflow!r}, "
            f"not to {program.name!r}; execute it again with that one"
        )
    scene = Scene(program, Record(archive), live=live, before=before)
    rerunning = _Rerun(program, scene, ignorable(ignore), accept)
    guarded = refusal.set(scene.refuse if guard else None)
    if guard:
        install()
    try:
        return await rerunning.go(to)
    finally:
        refusal.reset(guarded)


async def _read(program: Program, run: Named | str) -> Archive:
    name = run if isinstance(run, str) else run.correlation_id
    found = await (await program.reader()).read_archives([name])
    if not found:
        raise RunNotFoundError(
            f"there is no run {name!r} in {program.place}; `flowstore runs` lists those there are"
        )
    return found[0]


class _Rerun:
    """One run that is executed again."""

    def __init__(
        self, program: Program, scene: Scene, ignore: Sequence[str], accept: Accept | None
    ) -> None:
        self._program = program
        self._scene = scene
        self._record = scene.record
        archive = scene.record.archive
        self._waits = Waits(archive.transitions, reopened_at(archive.events))
        ignored = Ignored(ignore)
        self._judge = Judge(scene.record, program.codec, ignored)
        self._handlers = Handlers(scene.record, scene.routes, program.codec, ignored)
        self._accept = accept
        self._accepted: list[Divergence] = []
        self._events = 0
        self._until = 0

    async def go(self, to: int | None) -> Report:
        """Go through the events, to the last one or the first divergence."""
        record = self._record
        last = record.last if to is None else min(to, record.last)
        if to is not None and self._scene.is_debugged and 0 < record.pending <= to:
            last = record.pending
        divergence: Divergence | None
        try:
            run = self._scene.run = self._start()
        except FlowstoreError as error:
            divergence = self._refused(1, error)
        else:
            divergence = await self._go_through(run, last)
        row = record.archive.run
        return Report(
            correlation_id=row.correlation_id,
            workflow=row.workflow,
            status=row.status,
            events=self._events,
            until=self._until,
            divergence=divergence,
            accepted=tuple(self._accepted),
        )

    async def _go_through(self, run: ActiveRun, last: int) -> Divergence | None:
        for position in range(1, last + 1):
            self._until = position
            for found in await self._handle(run, position):
                divergence = self._scene.explained(found)
                if self._accept is None or not self._accept(divergence):
                    return divergence
                self._accepted.append(divergence)
                self._judge.is_adrift = True
            if self._judge.is_adrift:
                self._adopt(run, position)
            if position % _TURN == 0:
                await asyncio.sleep(0)
        return None

    def _start(self) -> ActiveRun:
        row = self._record.archive.run
        run = ActiveRun(
            id=row.id,
            correlation_id=row.correlation_id,
            epoch=0,
            cursor=0,
            head=row.head,
            loaded=0,
            number=0,
            state=State(self._program.kind),
            pending=deque(),
        )
        run.steps = self._record.steps
        run.ancestors = self._record.ancestors
        return run

    def _adopt(self, run: ActiveRun, position: int) -> None:
        """Go on with what is recorded behind an event."""
        scene, standing = self._scene, self._waits
        standing.move_to(position)
        document = self._judge.recorded(standing.number)
        text = orjson.dumps(document).decode()
        run.number = standing.number
        run.state = State(self._program.kind, text)
        run.parked = dict(standing.pending.parked)
        run.collected = standing.kept(self._record.archive.events)
        scene.past.begin(run.number, text)
        scene.halted = run.error = None
        self._judge.adopt(scene, document)

    # --- one event -----------------------------------------------------------------------

    async def _handle(self, run: ActiveRun, position: int) -> Iterable[Divergence]:
        """Call the handlers of an event; return what differs, which is found as it is asked for."""
        record, scene = self._record, self._scene
        stored = record.at(position)
        rows = record.rows(position)
        handlers = scene.routes.handlers(stored.name)
        if not rows and (not (handlers or run.parked) or stored.id in record.refused):
            return ()
        if position in self._waits.reopened:  # nothing outlived its end
            run.parked.clear()
            run.collected.clear()
        scene.event = stored
        run.correlation_id = record.name_at(position)
        gone = self._handlers.gone(stored, rows, handlers)
        if gone is not None:
            return (gone,)
        try:
            news = [each.name for each in handlers if self._handlers.is_new(stored, rows, each)]
            called = self._prime(run, position, rows, news)
            done = await handle_event(scene, run, stored._replace(expires_at=None))
        except Halt:
            if scene.halted is None:
                raise
        except FlowstoreError as error:
            return (scene.halted or self._refused(position, error),)
        else:
            if scene.halted is None:
                return self._take(run, stored, done, called, news)
        return (scene.halted,)

    def _prime(
        self,
        run: ActiveRun,
        position: int,
        rows: Mapping[str, TransitionRow],
        news: list[str],
    ) -> dict[str, TransitionRow]:
        """Have the last attempts made again, and no others; return them."""
        called: dict[str, TransitionRow] = {}
        if run.finished:
            run.finished.clear()
        if run.tries:
            run.tries.clear()
        for name in news:
            run.finished.add((position, name))
        for name, row in rows.items():
            if row.outcome == EDITED:
                self._judge.is_adrift = True
                if not called and len(rows) > 1:
                    self._edit(run, row)
            elif is_repeatable(row) or position == self._record.pending:
                called[name] = row
                if row.attempt > 1:
                    run.tries[position, name] = row.attempt - 1
            else:
                run.finished.add((position, name))
        if self._scene.announced:
            self._scene.announced.clear()
        self._scene.entered.clear()
        return called

    def _edit(self, run: ActiveRun, row: TransitionRow) -> None:
        """Take over an edit of the state that came before the handlers of its event."""
        document = self._judge.recorded(row.number)
        text = orjson.dumps(document).decode()
        run.number = row.number
        run.state = State(self._program.kind, text)
        self._scene.past.begin(row.number, text)
        self._judge.adopt(self._scene, document)

    def _take(
        self,
        run: ActiveRun,
        stored: StoredEvent,
        done: Done,
        called: dict[str, TransitionRow],
        news: list[str],
    ) -> Iterator[Divergence]:
        """Take in what the handlers did, and yield what they did not do so then."""
        scene, rows = self._scene, self._record.rows(stored.position)
        # The record's numbers count attempts that are not made again, too.
        changes = [
            (rows[row.handler].number if row.handler in rows else row.number, row.change)
            for row in done.transitions
            if row.change is not None
        ]
        if overtaken(called, done.transitions) is None:
            scene.past.changes += sorted(changes)
        if called:
            self._events += 1
        yield from self._judge.compare(scene, stored, done, called)
        for name, row in rows.items():
            run.number = max(run.number, row.number)
            if name not in called and row.arranged is not None:
                run.arrange(arranged.read(row.arranged, run.id))
        scene.past.look(run.state, run.number)
        if not (done.completed or done.ready_at is not None):
            for name in news:
                added = self._handlers.added(stored, name)
                if added is not None:
                    yield added

    def _refused(self, position: int, error: FlowstoreError) -> Divergence:
        """Return that an event, or the state, does not fit the code."""
        name = self._record.at(position).name if self._record.archive.events else PROGRESS
        return Divergence(
            position=position,
            event=name,
            handler=None,
            kind="error",
            message=f"position {position}, {name!r}: {error}",
            actual={"error": str(error), "exception": type(error).__name__},
        )
