"""Random events, failures and crashes, compared with a plain model (G1, G3-G7, G12).

The model knows nothing of databases: it is a log, a fold and a ledger of drops.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from broken import CrashError, Faults, break_connections
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore.clock import to_datetime
from flowstore.errors import EventConflictError, StoreError
from flowstore.testing import VirtualClock, crash

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = ("a", "b", "c")
ATTEMPTS = 3
AUDITED = ("add", "fail")
LATER = timedelta(hours=1)
ENDS = (StoreError, CrashError, asyncio.CancelledError)

# --- what can happen -----------------------------------------------------------------------

runs = st.sampled_from(RUNS)
ids = st.integers(0, 7).map("e{}".format)
kinds = st.one_of(
    st.just(("add", 0)),
    st.tuples(st.just("emit"), st.integers(1, 2)),
    st.tuples(st.just("fail"), st.integers(1, ATTEMPTS)),
    st.just(("unheard", 0)),
    st.just(("drop", 0)),
    st.just(("complete", 0)),
)


@dataclass(frozen=True)
class Send:
    run: str
    id: str
    kind: str
    number: int
    has_expired: bool = False


@dataclass(frozen=True)
class Cancel:
    run: str


@dataclass(frozen=True)
class Settle:
    """Let whatever is pending be handled, perhaps with a crash on the way.

    Attributes:
        crash_at: statement of the writer at which the process ends; None for never.
        during: the process ends while these are being sent.
    """

    crash_at: int | None
    during: tuple[Send, ...] = ()


sends = st.builds(
    lambda run, event_id, kind, expired: Send(run, event_id, *kind, expired),
    runs,
    ids,
    kinds,
    st.sampled_from([False] * 7 + [True]),
)
crash_points = st.one_of(st.none(), st.integers(0, 60))
actions = st.one_of(
    sends,
    sends,
    sends,
    st.builds(Cancel, runs),
    st.builds(Settle, crash_points, st.lists(sends, max_size=4).map(tuple)),
)


# --- the model -----------------------------------------------------------------------------


@dataclass
class Entry:
    id: str
    kind: str
    number: int
    is_emitted: bool = False


@dataclass
class ModelRun:
    log: list[Entry] = field(default_factory=list)
    status: str = "idle"
    cursor: int = 0
    state: list[str] = field(default_factory=list)
    states: list[list[str]] = field(default_factory=lambda: [[]])
    drops: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    failure: bool = False

    @property
    def is_closed(self) -> bool:
        return self.status in {"completed", "failed", "cancelled"}

    def send(self, action: Send) -> str:
        same = [entry for entry in self.log if entry.id == action.id and not entry.is_emitted]
        if same:
            is_repeat = (same[0].kind, same[0].number) == (action.kind, action.number)
            verdict = "duplicate" if is_repeat else "conflict"
        elif action.has_expired:
            verdict = "expired"
        elif self.is_closed:
            verdict = "stale"
        else:
            self.log.append(Entry(action.id, action.kind, action.number))
            self.status = "running"
            return "accepted"
        self.drops[verdict, action.id] += 1
        return verdict

    def cancel(self) -> None:
        if self.log and not self.is_closed:
            self._close("cancelled")

    def _close(self, status: str) -> None:
        for entry in self.log[self.cursor :]:
            self.drops["stale", entry.id] += 1
        self.cursor = len(self.log)
        self.states += [self.state] * (len(self.log) + 1 - len(self.states))
        self.status = status

    def settle(self) -> None:
        while self.status == "running":
            if self.cursor == len(self.log):
                self.status = "failed" if self.failure else "idle"
                return
            entry = self.log[self.cursor]
            self.cursor += 1
            self._handle(entry)
            self.states.append(self.state)
            if entry.kind == "complete":
                self._close("completed")

    def _handle(self, entry: Entry) -> None:
        position = self.cursor
        if entry.kind in {"unheard", "error"}:
            return
        if entry.kind in AUDITED:
            self.state = [*self.state, f"audit of {entry.id}"]
        if entry.kind == "fail" and entry.number >= ATTEMPTS:
            self.failure = True
            self.log.append(Entry(f"{position}/handle/error", "error", 0, is_emitted=True))
            return
        if entry.kind == "drop":
            self.drops["stale", entry.id] += 1
        self.state = [*self.state, entry.id]
        if entry.kind == "emit":
            for number in range(1, entry.number + 1):
                self.log.append(Entry(f"{position}/handle/{number}", "add", 0, is_emitted=True))


# --- the real thing ------------------------------------------------------------------------


class World:
    """One store with the processes on it, one after another, and the model beside it."""

    def __init__(self, path: Path, faults: Faults) -> None:
        self.path = path
        self.faults = faults
        self.clock = VirtualClock(is_automatic=True)
        self.model = {name: ModelRun() for name in RUNS}
        self.paid: Counter[tuple[str, int]] = Counter()
        self.settled: set[tuple[str, int]] = set()
        self.wrong: list[str] = []
        self.unanswered: Send | None = None
        self.workflow = self.open()

    def open(self) -> WorkflowManager:
        workflow = WorkflowManager(self.path, clock=self.clock)
        retry = Retry(attempts=ATTEMPTS, delay=60, jitter=0)
        for kind in AUDITED:
            workflow.register(kind, self.audit, name="audit")
        for kind in ("add", "emit", "fail", "drop", "complete"):
            workflow.register(kind, self.handle, name="handle", retry=retry)
        return workflow

    def audit(self, given: WorkflowEvent, state: dict[str, Any]) -> dict[str, Any]:
        """Come first; done once, also where the next handler has to be tried again."""
        state.setdefault("seen", []).append(f"audit of {given.id}")
        return state

    async def handle(self, given: WorkflowEvent, ctx: Any) -> Any:
        seen = ctx.state.setdefault("seen", [])
        seen.append(given.id)
        key = (ctx.correlation_id, given.position)

        async def pay() -> str:
            if key in self.settled:
                self.wrong.append(f"the finished step of {key} was run again")
            self.paid[key] += 1
            return f"paid {key}"

        if await ctx.step("pay", pay) != f"paid {key}":
            self.wrong.append(f"{key} was given the result of another step")
        self.settled.add(key)
        number = given.data["number"]
        if given.name == "fail" and ctx.attempt <= number:
            raise ConnectionError
        if given.name == "drop":
            ctx.drop("it does not apply")
        if given.name == "complete":
            ctx.complete(given.id)
        if given.name == "emit":
            for _ in range(number):
                yield WorkflowEvent("add", {"number": 0})

    async def do(self, action: Send | Cancel | Settle) -> None:
        if isinstance(action, Send):
            assert await self.send(action) == self.model[action.run].send(action)
        elif isinstance(action, Cancel):
            if self.model[action.run].log:
                await self.workflow.run(action.run).cancel("enough")
            self.model[action.run].cancel()
        else:
            await self.settle(action)

    async def send(self, action: Send) -> str:
        moment = to_datetime(self.clock.now())
        given = WorkflowEvent(action.kind, {"number": action.number})
        try:
            receipt = await self.workflow.run(action.run).send(
                given, id=action.id, expires_at=moment - LATER if action.has_expired else None
            )
        except EventConflictError:
            return "conflict"
        if receipt.reason == "the event had expired when sent":
            return "expired"
        return receipt.status

    async def settle(self, action: Settle) -> None:
        if action.crash_at is not None:
            await self.crash(action.crash_at, action.during)
        else:
            for each in action.during:
                await self.do(each)
        await self.workflow.resume()
        for run in self.model.values():
            run.settle()

    async def crash(self, point: int, during: tuple[Send, ...]) -> None:
        """End the process at a statement; what was sent meanwhile may have arrived or not."""
        died = asyncio.Event()
        self.faults.when_dead = partial(asyncio.get_running_loop().call_soon_threadsafe, died.set)
        self.faults.crash_at(point)
        tasks = [asyncio.ensure_future(self._live(during)), asyncio.ensure_future(died.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        event(f"crashed: {self.faults.is_dead}")
        await crash(self.workflow)
        self.faults.revive()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                assert isinstance(result, ENDS), repr(result)
        self.workflow = self.open()
        # The last one sent was not answered: sending it again tells, and is safe (G5).
        if self.unanswered is not None:
            await self.learn(self.unanswered)

    async def _live(self, during: tuple[Send, ...]) -> None:
        self.unanswered = None
        for each in during:
            self.unanswered = each
            verdict = await self.send(each)
            self.unanswered = None
            assert verdict == self.model[each.run].send(each)
        await self.workflow.resume()

    async def learn(self, unanswered: Send) -> None:
        """Find out what became of an event whose sender got no answer."""
        run = self.model[unanswered.run]
        before = len(await self.drops(unanswered.run))
        is_there = any([found.id == unanswered.id async for found in self.events(unanswered.run)])
        was_there = any(entry.id == unanswered.id for entry in run.log)
        has_dropped = before > run.drops.total()
        if (is_there and not was_there) or has_dropped:
            run.send(unanswered)

    async def events(self, name: str) -> Any:
        if any(record.correlation_id == name for record in await self.workflow.runs()):
            async for found in self.workflow.run(name).events():
                yield found

    async def drops(self, name: str) -> list[Any]:
        store = self.workflow._runtime.store()
        await store.open()
        return await store.reader.list_drops(name)

    # --- comparing -------------------------------------------------------------------------

    async def compare(self) -> None:
        assert self.wrong == []
        for name, model in self.model.items():
            log = [found async for found in self.events(name)]
            assert [found.position for found in log] == list(range(1, len(log) + 1))
            assert [(found.id, found.name) for found in log] == [
                (entry.id, entry.kind) for entry in model.log
            ]
            found = Counter((drop.reason, drop.event_id) for drop in await self.drops(name))
            assert found == model.drops
            if log:
                await self.compare_run(name, model)

    async def compare_run(self, name: str, model: ModelRun) -> None:
        run = self.workflow.run(name)
        record = await run.info()
        assert (record.status, record.head) == (model.status, len(model.log))
        assert record.cursor == model.cursor
        assert (await run.state()).get("seen", []) == model.state
        if model.status != "running":
            for position, state in enumerate(model.states):
                at = await run.state(at=position)
                assert at.get("seen", []) == state, f"at {position}"


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        yield break_connections(patch)


@given(actions=st.lists(actions, min_size=1, max_size=14))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_the_store_is_as_the_model(faults: Faults, actions: list[Any]):
    async def live(folder: str) -> None:
        world = World(Path(folder) / "runs.db", faults)
        try:
            for action in [*actions, Settle(None)]:
                await world.do(action)
            await world.compare()
        finally:
            faults.revive()
            await world.workflow.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(folder))
