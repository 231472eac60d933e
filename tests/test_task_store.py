"""Tasks in the store: who has them, how they end, and what that does to their run."""

from __future__ import annotations

import asyncio

import pytest

from flowstore.errors import ConfigurationError, RunNotFoundError
from flowstore.store.base import (
    EXTERNAL,
    INTERNAL,
    PENDING,
    Append,
    Claim,
    Close,
    Commit,
    EndTask,
    NewEvent,
    Outstanding,
    RetryTask,
    Survey,
    TakeTasks,
    TaskRow,
)
from flowstore.store.sqlite import SQLiteStore
from flowstore.store.url import parse

NOW = 1_893_456_000_000_000


@pytest.fixture
async def stores(path):
    """Two workers of one file."""
    made = [SQLiteStore(parse(path)) for _ in range(2)]
    for store in made:
        await store.become_worker()
    yield made
    for store in made:
        await store.close()


def event(event_id, name="go", **changes):
    new = NewEvent(event_id, name, 1, "1", None, None, None, NOW, None)
    return new._replace(**changes)


def ended(number=1, run="r", owner=None, **changes):
    new = event(f"1/go/t{number}/end", "task.completed", **changes)
    return EndTask(run, "orders", f"1/go/t{number}", new, owner, NOW + 10)


async def submit(store, run="r", names=("work",), kind=INTERNAL):
    """Have a run submit tasks with its first event, and give it back."""
    await store.perform(Append(run, "orders", event(f"first-{run}"), True, NOW))  # noqa: FBT003
    [grant] = await store.perform(Claim("orders", store.worker_id, NOW, 10, [run]))
    row = grant.run
    tasks = [
        TaskRow(
            row.id,
            f"1/go/t{number}",
            name,
            kind,
            "{}",
            PENDING,
            0,
            store.worker_id if kind == INTERNAL else None,
            None,
            None,
            NOW + number,
            None,
            f"first-{run}",
        )
        for number, name in enumerate(names, 1)
    ]
    return await store.perform(
        Commit(
            row.id,
            run,
            row.epoch,
            0,
            1,
            1,
            NOW,
            drained=True,
            outstanding=Outstanding(tasks=tasks),
        )
    )


def taking(store, *names, runs=None, limit=10):
    return TakeTasks("orders", store.worker_id, names or ("work",), limit, runs)


async def test_only_its_owner_ends_a_task(stores):
    """G8: and whoever else tries is told why, and recorded."""
    one, two = stores
    await submit(one)
    stale = await two.perform(ended(owner=two.worker_id))
    assert (stale.status, stale.position) == ("stale", None)
    assert f"taken over by worker {one.worker_id}" in stale.reason
    assert (await one.perform(ended(owner=one.worker_id))).status == "accepted"
    again = await one.perform(ended(owner=one.worker_id))
    assert (again.status, again.position) == ("duplicate", 2)
    other = await one.perform(ended(owner=one.worker_id, data="2"))
    assert other.status == "stale"
    assert len(await one.reader.list_drops("r")) == 3


async def test_two_ends_in_one_transaction_count_once(stores):
    one, _ = stores
    await submit(one)
    outcomes = await asyncio.gather(
        *(one.perform(ended(owner=one.worker_id)) for _ in range(3)),
        one.perform(ended(owner=one.worker_id, data="2")),
    )
    assert [each.status for each in outcomes] == ["accepted", "duplicate", "duplicate", "stale"]


async def test_who_submitted_a_task_is_known_without_being_told(stores):
    one, two = stores
    await submit(one, kind=EXTERNAL)
    accepted = await two.perform(ended())
    assert accepted.event.causation_id == "first-r"
    early = await two.perform(ended(7))
    assert early.event.causation_id == "first-r"
    odd = await two.perform(EndTask("r", "orders", "x", event("y", "task.completed"), None, NOW))
    assert odd.event.causation_id is None


async def test_an_end_needs_its_run(stores):
    one, _ = stores
    with pytest.raises(RunNotFoundError):
        await one.perform(ended(run="none"))
    await submit(one)
    operation = ended()
    operation.workflow = "other"
    with pytest.raises(ConfigurationError):
        await one.perform(operation)


async def test_tasks_of_the_living_are_left_to_them_and_those_of_the_dead_are_taken(stores):
    one, two = stores
    for run in ("r", "s"):
        await submit(one, run, ["work", "odd", "work", "work"])
    assert not (await two.perform(Survey("orders", two.worker_id, NOW, {}))).tasks
    assert (await two.perform(taking(two))).tasks == []
    await one.close()
    assert (await two.perform(Survey("orders", two.worker_id, NOW, {}))).tasks

    taken = await two.perform(taking(two, runs=["s", "none"], limit=2))
    assert [(each.correlation_id, each.task.id) for each in taken.tasks] == [
        ("s", "1/go/t1"),
        ("s", "1/go/t3"),
    ]
    assert taken.has_more
    assert taken.unknown == {"odd"}
    assert {each.task.owner for each in taken.tasks} == {two.worker_id}
    taken = await two.perform(taking(two, limit=4))
    assert [(each.correlation_id, each.task.id) for each in taken.tasks] == [
        ("r", "1/go/t1"),
        ("r", "1/go/t3"),
        ("r", "1/go/t4"),
        ("s", "1/go/t4"),
    ]
    assert not taken.has_more
    assert (await two.perform(taking(two))).tasks == []
    other = TakeTasks("elsewhere", two.worker_id, ("odd",), 10)
    assert (await two.perform(other)).tasks == []
    assert (await two.perform(ended(owner=two.worker_id))).status == "accepted"


async def test_a_retry_is_its_owners(stores):
    one, two = stores
    await submit(one)
    run_id = 1
    for store, is_ours in ((one, True), (two, False)):
        operation = RetryTask(run_id, "1/go/t1", store.worker_id, 1, "no", NOW + 60)
        assert await store.perform(operation) is is_ours
    await one.perform(Close("r", "cancelled", None, NOW))
    assert not await one.perform(RetryTask(run_id, "1/go/t1", one.worker_id, 2, "no", NOW + 60))


async def test_a_quiet_event_leaves_a_run_that_has_nothing_to_do_as_it_is(stores):
    one, _ = stores

    async def quiet(event_id, run="r"):
        new = event(event_id, "progress")
        return await one.perform(Append(run, "orders", new, False, NOW, is_quiet=True))  # noqa: FBT003

    assert (await submit(one)).status == "working"
    appended = await quiet("p1")
    assert (appended.position, appended.run_status, appended.owner) == (2, "working", None)
    run = await one.reader.get_run("r")
    assert (run.head, run.cursor, run.status) == (2, 2, "running")
    assert await one.perform(Claim("orders", one.worker_id, NOW, 10, ["r"])) == []

    await one.perform(Append("r", "orders", event("e"), True, NOW))  # noqa: FBT003
    assert (await quiet("p2")).run_status == "running"
    [grant] = await one.perform(Claim("orders", one.worker_id, NOW, 10, ["r"]))
    assert [row.id for row in grant.loaded.events] == ["e", "p2"]


async def test_a_survey_tells_which_runs_have_been_closed(stores):
    one, two = stores
    ids = []
    for run in ("r", "s"):
        await submit(one, run)
        ids.append((await one.perform(ended(owner="?", run=run))).run_id)
    await two.perform(Close("s", "cancelled", None, NOW))
    seen = await one.perform(Survey("orders", one.worker_id, NOW, {}, [*ids, 99]))
    assert seen.closed == [ids[1], 99]


async def test_the_secret_is_one_for_all_workers_of_a_file(stores):
    one, two = stores
    assert len(one.secret) == 32
    assert one.secret == two.secret == await two.read_secret()
