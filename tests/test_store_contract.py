"""What every store does, whichever database is behind it: one set of tests over all of them."""

from __future__ import annotations

import asyncio

import pytest

from flowstore.errors import (
    EventConflictError,
    LeaseLostError,
    RunNotFoundError,
    StoreClosedError,
)
from flowstore.store import base
from flowstore.store.base import (
    Append,
    Claim,
    Close,
    Commit,
    DropRow,
    Load,
    NewEvent,
    Release,
    SnapshotRow,
    StepRow,
    Survey,
    TransitionRow,
)
from flowstore.store.rows import MOST_RUNS
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

NOW = 1_893_456_000_000_000


@pytest.fixture(params=["file", "memory"])
async def store(request, tmp_path):
    store = SQLiteStore(parse(tmp_path / "runs.db" if request.param == "file" else ":memory:"))
    await store.become_worker()
    yield store
    await store.close()


def event(number=1, **changes):
    new = NewEvent(f"e{number}", "go", 1, '{"n":1}', None, None, None, NOW, None)
    return new._replace(**changes)


def append(number=1, run="r", **options):
    return Append(run, "orders", event(number), True, NOW + number, **options)  # noqa: FBT003


async def claim(store, *names, **options):
    return await store.perform(
        Claim("orders", store.worker_id, NOW + 100, 10, list(names) or None, **options)
    )


async def claimed(store, count=1):
    """Append some events to a new run and take it."""
    for number in range(1, count + 1):
        await store.perform(append(number))
    (grant,) = await claim(store, "r")
    return grant.run


def commit(run, **changes):
    plain = {
        "run_id": run.id,
        "correlation_id": run.correlation_id,
        "epoch": run.epoch,
        "cursor": run.cursor,
        "new_cursor": run.cursor + 1,
        "known_head": run.head,
        "now": NOW + 200,
    }
    return Commit(**{**plain, **changes})


def transition(run, number=1, outcome="handled", **changes):
    row = TransitionRow(
        run.id, run.cursor + 1, number, "handle", 1, outcome, None, None, None, NOW, 10
    )
    return row._replace(**changes)


async def test_events_get_gapless_positions_in_the_order_of_submission(store):
    results = await asyncio.gather(*(store.perform(append(n)) for n in range(1, 30)))
    assert [result.position for result in results] == list(range(1, 30))
    found = await store.reader.read_events("r")
    assert [(row.position, row.id) for row in found] == [(n, f"e{n}") for n in range(1, 30)]


async def test_results_are_delivered_in_the_order_of_submission(store):
    order, last = [], asyncio.Event()

    def deliver(number):
        def delivered(result, error):
            assert error is None
            order.append((number, result.position))
            if number == 20:
                last.set()

        return delivered

    for number in range(1, 21):
        store.submit(append(number), deliver(number))
    await last.wait()
    assert order == [(number, number) for number in range(1, 21)]


async def test_an_event_comes_back_as_it_was(store):
    given = event(7, data='{"a":[1.5,"é"]}', metadata='{"u":1}', error="no", causation_id="c")
    result = await store.perform(Append("r", "orders", given, True, NOW))  # noqa: FBT003
    (row,) = await store.reader.read_events("r")
    assert row == result.event == (result.run_id, 1, *given)


async def test_a_repeat_gets_the_original_position(store):
    await store.perform(append(1))
    again = await store.perform(append(1))
    assert (again.status, again.position, again.event) == ("duplicate", 1, None)
    (drop,) = await store.reader.list_drops("r")
    assert (drop.event_id, drop.reason) == ("e1", base.DUPLICATE)


async def test_a_conflict_fails_alone(store):
    await store.perform(append(1))
    other = Append("r", "orders", event(1, data='{"n":2}'), True, NOW)  # noqa: FBT003
    results = await asyncio.gather(
        store.perform(append(2)),
        store.perform(other),
        store.perform(append(3)),
        return_exceptions=True,
    )
    assert isinstance(results[1], EventConflictError)
    assert [results[0].position, results[2].position] == [2, 3]
    assert [drop.reason for drop in await store.reader.list_drops("r")] == [base.CONFLICT]


async def test_a_run_is_claimed_once_with_what_is_needed_to_go_on(store):
    await store.perform(append(1))
    await store.perform(append(2))
    (grant,) = await claim(store)
    assert (grant.run.correlation_id, grant.run.owner) == ("r", store.worker_id)
    assert (grant.run.epoch, grant.run.head, grant.run.cursor) == (1, 2, 0)
    assert [row.id for row in grant.loaded.events] == ["e1", "e2"]
    assert await claim(store) == []
    assert await claim(store, "r") == []


async def test_another_workflows_runs_are_not_claimed(store):
    await store.perform(append(1))
    others = Claim("mails", store.worker_id, NOW, 10, ["r"])
    assert await store.perform(others) == []
    assert await claim(store, "none") == []


async def test_a_commit_moves_the_cursor_and_records_everything_together(store):
    """G2."""
    run = await claimed(store)
    emitted = event(9, id="1/handle/1", causation_id="e1")
    result = await store.perform(
        commit(
            run,
            events=[emitted],
            transitions=[transition(run, change='[["=",["n"],1]]')],
            steps=[StepRow(run.id, 1, "handle", "ask", 1, "42", NOW, 5)],
            drops=[DropRow(run.id, "x", "go", 1, "handle", base.STALE, "late", NOW)],
            snapshot=SnapshotRow(run.id, 1, '{"n":1}'),
        )
    )
    assert (result.status, result.head, result.cursor) == ("running", 2, 1)
    assert [row.position for row in result.events] == [2]
    record = await store.reader.get_run("r")
    assert (record.status, record.head, record.cursor, record.state_version) == ("running", 2, 1, 1)
    assert [row.outcome for row in await store.reader.read_transitions("r")] == ["handled"]
    assert [row.reason for row in await store.reader.list_drops("r")] == [base.STALE]
    assert await store.reader.read_state("r") == ('{"n":1}', [])


async def test_a_commit_of_an_older_epoch_is_refused_whole_and_recorded(store):
    """G8, G7."""
    run = await claimed(store)
    stale = commit(run, epoch=run.epoch - 1, transitions=[transition(run)], events=[event(5)])
    with pytest.raises(LeaseLostError, match="'r'"):
        await store.perform(stale)
    assert await store.reader.read_transitions("r") == []
    assert (await store.reader.get_run("r")).head == 1
    assert [drop.reason for drop in await store.reader.list_drops("r")] == [base.LEASE_LOST]
    # The control: with its epoch, the same commit is taken.
    await store.perform(commit(run, transitions=[transition(run)]))
    assert len(await store.reader.read_transitions("r")) == 1


async def test_a_commit_at_another_cursor_is_refused(store):
    run = await claimed(store, 2)
    await store.perform(commit(run))
    with pytest.raises(LeaseLostError):
        await store.perform(commit(run))


async def test_a_run_is_given_back_when_nothing_is_pending(store):
    run = await claimed(store)
    result = await store.perform(commit(run, drained=True))
    record = await store.reader.get_run("r")
    assert (result.status, record.status, record.owner) == ("idle", "idle", None)
    # What comes next can be claimed again, with a higher fence.
    await store.perform(append(2))
    (grant,) = await claim(store, "r")
    assert grant.run.epoch > run.epoch


async def test_an_event_that_came_in_behind_the_worker_keeps_the_run_going(store):
    run = await claimed(store)
    await store.perform(append(2))
    result = await store.perform(commit(run, drained=True))
    assert (result.status, result.head, result.cursor) == ("running", 2, 1)


@pytest.mark.parametrize("announced", [False, True])
async def test_so_does_one_of_another_process(tmp_path, announced):
    """G4: also if the worker has sent off an event of its own since it last knew."""
    stores = [SQLiteStore(parse(tmp_path / "shared.db")) for _ in range(2)]
    try:
        store, other = stores
        await store.become_worker()
        run = await claimed(store)
        await other.perform(append(2))
        if announced:
            meanwhile = commit(run, new_cursor=0, events=[event(9)], announces=True)
            assert (await store.perform(meanwhile)).head == 3
        result = await store.perform(commit(run, drained=True))
        assert (result.status, result.head, result.cursor) == ("running", 2 + announced, 1)
    finally:
        for each in stores:
            await each.close()


async def test_repeated_events_of_a_commit_are_appended_once(store):
    run = await claimed(store)
    emitted = event(9, id="1/handle/1")
    await store.perform(commit(run, events=[emitted, emitted], repeats=True))
    assert [row.id for row in await store.reader.read_events("r")] == ["e1", "1/handle/1"]


async def test_closing_makes_the_rest_stale(store):
    """G6, G7."""
    run = await claimed(store, 3)
    result = await store.perform(
        commit(run, close=True, status="completed", result='{"a":1}', reason="done")
    )
    assert (result.status, result.cursor) == ("completed", 3)
    record = await store.reader.get_run("r")
    assert (record.status, record.result, record.owner) == ("completed", '{"a":1}', None)
    assert [row.event_id for row in await store.reader.list_drops("r")] == ["e3", "e2"]
    late = await store.perform(append(4))
    assert (late.status, late.position) == ("stale", None)


async def test_closing_from_outside_takes_the_lease_away(store):
    """G8."""
    run = await claimed(store)
    closed = await store.perform(Close("r", "cancelled", "enough", NOW + 150))
    assert (closed.status, closed.reason) == ("cancelled", "enough")
    with pytest.raises(LeaseLostError):
        await store.perform(commit(run))
    again = await store.perform(Close("r", "cancelled", "once more", NOW + 160))
    assert again.reason == "enough"
    with pytest.raises(RunNotFoundError, match="'none'"):
        await store.perform(Close("none", "cancelled", None, NOW))


async def test_a_run_in_back_off_is_left_alone_until_its_time(store):
    run = await claimed(store)
    later = NOW + 1_000_000
    await store.perform(
        commit(run, new_cursor=0, ready_at=later, transitions=[transition(run, outcome="retried")])
    )
    assert await claim(store, "r") == []
    survey = Survey("orders", store.worker_id, NOW + 300, {})
    seen = await store.perform(survey)
    assert (seen.pending, seen.due) == (False, later)
    (grant,) = await store.perform(Claim("orders", store.worker_id, later, 1))
    assert [row.outcome for row in grant.loaded.transitions] == ["retried"]


async def test_a_released_run_is_anyones(store):
    run = await claimed(store)
    await store.perform(Release(store.worker_id))
    assert (await store.reader.get_run("r")).owner is None
    with pytest.raises(LeaseLostError):
        await store.perform(commit(run))
    (grant,) = await claim(store)
    assert grant.run.epoch > run.epoch


async def test_a_survey_tells_what_is_lost_and_what_waits(store):
    run = await claimed(store)
    await store.perform(append(1, run="s"))
    seen = await store.perform(Survey("orders", store.worker_id, NOW, {run.id: run.epoch}))
    assert (seen.lost, seen.pending) == ([], True)
    await store.perform(Close("r", "cancelled", None, NOW))
    seen = await store.perform(Survey("orders", store.worker_id, NOW, {run.id: run.epoch}))
    assert seen.lost == [run.id]


async def test_a_lost_lease_is_recorded_once_however_many_runs_are_surveyed(store):
    """G7: also when the store can not keep all of them in memory."""
    run = await claimed(store)
    await store.perform(Close("r", "cancelled", None, NOW))
    await asyncio.gather(*(store.perform(append(run=f"r{n}")) for n in range(MOST_RUNS)))
    others = {run.id + n: 0 for n in range(1, MOST_RUNS + 1)}
    survey = Survey("orders", store.worker_id, NOW, {run.id: run.epoch, **others})
    assert (await store.perform(survey)).lost == [run.id]
    drops = await store.reader.list_drops("r")
    assert [drop.reason for drop in drops].count("lease_lost") == 1


async def test_a_worker_loads_the_next_events_in_pages(store):
    run = await claimed(store, 5)
    page = await store.perform(Load(run.id, 1, 2))
    assert [row.position for row in page] == [2, 3]
    assert await store.perform(Load(run.id, 5, 2)) == []


async def test_steps_are_loaded_with_the_run(store):
    run = await claimed(store)
    step = StepRow(run.id, 1, "handle", "ask", 1, '"yes"', NOW, 5)
    await store.perform(commit(run, new_cursor=0, steps=[step]))
    await store.perform(Release(store.worker_id))
    (grant,) = await claim(store, "r")
    assert list(grant.loaded.steps) == [step]


async def test_reading_in_pages_in_both_directions(store):
    for number in range(1, 8):
        await store.perform(append(number))
    read = store.reader.read_events
    assert [row.position for row in await read("r", after=2, until=5)] == [3, 4, 5]
    assert [row.position for row in await read("r", limit=2)] == [1, 2]
    assert [row.position for row in await read("r", limit=2, descending=True)] == [7, 6]
    assert await read("none") == []
    assert await store.reader.get_run("none") is None


async def test_runs_are_listed_by_workflow_and_status(store):
    for run in ("a", "b", "c"):
        await store.perform(append(1, run=run))
    await store.perform(Close("b", "cancelled", None, NOW))
    found = await store.reader.list_runs(workflow="orders")
    assert [record.correlation_id for record in found] == ["c", "b", "a"]
    found = await store.reader.list_runs(statuses=["cancelled"])
    assert [record.correlation_id for record in found] == ["b"]
    assert await store.reader.list_runs(workflow="mails") == []


async def test_a_closed_store_says_so(store):
    await store.perform(append(1))
    await store.close()
    with pytest.raises(StoreClosedError):
        await store.perform(append(2))
