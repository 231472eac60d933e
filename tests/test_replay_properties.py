"""Random runs, interrupted at random moments, executed again (G12)."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from replaying import Subject

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import FlowstoreError, RunNotFoundError
from flowstore.replay import rerun
from flowstore.testing import crash

RUN = "r"
PAST = datetime(2000, 1, 1, tzinfo=UTC)

small = st.integers(1, 2)
name = st.sampled_from(["more", "note", "nothing"])
operation = st.one_of(
    st.tuples(st.just("emit"), st.sampled_from(["more", "nothing"]), small),
    st.tuples(st.just("chosen"), small),
    st.tuples(st.just("progress")),
    st.tuples(st.just("stream"), st.integers(0, 2)),
    st.tuples(st.just("step"), small),
    st.tuples(st.just("failing_step")),
    st.tuples(st.just("flaky"), st.integers(1, 3)),
    st.tuples(st.just("look")),
    st.tuples(st.just("schedule"), st.sampled_from(["more", "nothing"])),
    st.tuples(st.just("cancel"), st.sampled_from(["more", "nothing"])),
    st.tuples(st.just("submit"), small),
    st.tuples(st.just("external")),
    st.tuples(st.just("wait"), st.sampled_from(["more", "nothing"]), st.none()),
    st.tuples(st.just("wait"), st.sampled_from(["more", "nothing"]), st.just(0.001)),
    st.tuples(st.just("ask"), st.sampled_from(["more", "nothing"]), small),
    st.tuples(st.just("collect"), st.just(2)),
    st.tuples(st.just("raise")),
    st.tuples(st.just("drop")),
    st.tuples(st.just("deadline"), st.sampled_from([3600, 0.001])),
    st.tuples(st.just("postpone"), st.just("more")),
    st.tuples(st.sampled_from(["look"] * 5 + ["complete"])),
).map(list)
work = st.tuples(st.just("do"), st.lists(operation, min_size=1, max_size=5))
sent = st.one_of(
    work,
    work,
    work,
    st.tuples(st.just("more"), small),
    st.tuples(st.just("nothing"), small),
    st.tuples(st.just("expired"), small),
    st.tuples(st.just("retry"), st.none()),
    st.tuples(st.just("answer"), small),
    st.tuples(st.sampled_from(["nothing"] * 4 + ["cancel"]), small),
)
# After how many turns of the loop the process crashes; None for not at all.
moment = st.none() | st.none() | st.integers(0, 60)


@given(st.lists(st.tuples(sent, moment), min_size=3, max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_random_run_is_identical_when_it_is_executed_again(actions):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_execute_again(Path(folder) / "runs.db", actions))


async def _execute_again(path: Path, actions: list[Any]) -> None:
    archive = await _make(path, actions)
    if archive is None:
        return
    again = Subject()
    report = await rerun(again.open(), archive)
    assert report.divergence is None
    assert report.is_identical
    assert again.outside == []
    places = [
        row.position
        for row in archive.transitions
        if row.handler == "work" and row.outcome == "handled" and row.position <= report.until
    ]
    event(f"crashes: {any(turns is not None for _, turns in actions)}")
    event(f"outcomes: {sorted({row.outcome for row in archive.transitions})}")
    event(f"waited: {any('@' in row.handler for row in archive.transitions)}")
    if places:  # the control: handlers that do something else there
        place = places[len(places) // 2]
        changed = await rerun(Subject(odd=place).open(), archive)
        assert changed.divergence is not None
        assert (changed.divergence.position, changed.divergence.handler) == (place, "work")
        assert changed.divergence.kind == "state"
        before = await rerun(Subject(odd=place).open(), archive, to=place - 1)
        assert before.is_identical
        # Accepted, it hides nothing and spoils nothing behind it.
        accepting = Subject(odd=place).open()
        behind = await rerun(accepting, archive, accept=lambda found: found.position == place)
        assert behind.divergence is None
        assert {each.position for each in behind.accepted} == {place}


async def _act(workflow: WorkflowManager, kind: str, data: Any) -> None:
    run = workflow.run(RUN)
    if kind == "expired":
        await workflow.send(WorkflowEvent("more", data), correlation_id=RUN, expires_at=PAST)
    elif kind not in {"retry", "answer", "cancel"}:
        await workflow.send(WorkflowEvent(kind, data), correlation_id=RUN)
    elif not any(each.correlation_id == RUN for each in await workflow.runs()):
        return
    elif kind == "cancel":
        await run.cancel("enough")
    elif kind == "answer":
        token = (await run.state()).get("token")
        if token is not None:
            await workflow.complete_task(token, data)
    else:
        reader = await workflow.program.reader()
        for row in await reader.list_dead(RUN):
            with contextlib.suppress(FlowstoreError):  # closed otherwise
                await run.retry_dead(row.position, row.handler)


async def _make(path: Path, actions: list[Any]) -> Any:
    subject = Subject()
    workflow = await subject.open(path).__aenter__()
    for (kind, data), turns in actions:
        await _act(workflow, kind, data)
        if turns is not None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await crash(workflow)
            with contextlib.suppress(FlowstoreError):
                await workflow.close()
            workflow = await subject.open(path).__aenter__()
        with contextlib.suppress(RunNotFoundError):  # what came first was expired
            await workflow.run(RUN).wait(timeout=20)
    await workflow.close()
    archives = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    return archives[0] if archives else None
