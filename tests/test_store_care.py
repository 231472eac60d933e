"""What every store does for who looks after it: dead letters, and runs to be removed."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from test_store_contract import NOW, append, claimed, commit, event, store, transition  # noqa: F401

from flowstore.errors import DeadLetterError, RunNotFoundError
from flowstore.store import base
from flowstore.store.base import Append, Claim, DiscardDead, Prune, RetryDead

FAILURE = "handler 'handle' on 'go' at 1 failed: broken"


async def dead_letter(store, status="failed"):  # noqa: F811
    """Have a run fail of its first event."""
    run = await claimed(store)
    row = transition(run, outcome=base.DEAD, error="broken", traceback="Traceback …")
    done = {"transitions": [row], "status": status, "drained": True}
    if status == "completed":
        done |= {"close": True}
    await store.perform(commit(run, reason=FAILURE if status == "failed" else None, **done))
    assert (await store.reader.get_run("r")).status == status
    return run


def retry(position=1, handler=None):
    return RetryDead("r", position, handler, NOW + 300)


def discard(position=1, handler=None):
    return DiscardDead("r", position, handler, "never mind", NOW + 300)


async def test_a_dead_letter_is_retried_once(store):  # noqa: F811
    await dead_letter(store)
    done = await store.perform(retry())
    assert (done.handler, done.error, done.appended.position) == ("handle", "broken", 2)
    (_, row) = await store.reader.read_events("r")
    assert (row.name, row.id, row.causation_id) == ("dead.retried", "1/handle/r1", "e1")
    said = orjson.loads(row.data)
    assert (said["position"], said["handler"], said["reopened"]) == (1, "handle", True)
    record = await store.reader.get_run("r")
    assert (record.status, record.reason, record.cursor) == ("running", None, 1)
    assert await store.reader.list_dead() == []
    with pytest.raises(DeadLetterError, match="retried already, at position 2"):
        await store.perform(retry())
    (grant,) = await store.perform(Claim("orders", store.worker_id, NOW + 400, 1))
    assert [each.id for each in grant.loaded.events] == ["1/handle/r1"]


async def test_a_dead_letter_is_discarded_once(store):  # noqa: F811
    await dead_letter(store)
    first, second = await asyncio.gather(
        store.perform(discard()), store.perform(discard()), return_exceptions=True
    )
    assert (first.handler, first.appended) == ("handle", None)
    assert isinstance(second, DeadLetterError)
    (drop,) = await store.reader.list_drops("r")
    assert (drop.reason, drop.handler, drop.position) == ("discarded", "handle", 1)
    assert drop.detail == "never mind"
    assert await store.reader.list_dead("r") == []
    assert await store.reader.list_unhandled("r") == []
    assert (await store.reader.get_run("r")).status == "failed"


@pytest.mark.parametrize("operation", [retry, discard])
async def test_what_is_no_dead_letter_is_refused(store, operation):  # noqa: F811
    with pytest.raises(RunNotFoundError):
        await store.perform(operation())
    await dead_letter(store)
    for arguments in ((2,), (1, "other")):
        with pytest.raises(DeadLetterError):
            await store.perform(operation(*arguments))
    assert len(await store.reader.list_dead()) == 1
    assert len(await store.reader.read_events("r")) == 1


async def test_a_completed_run_is_not_opened(store):  # noqa: F811
    await dead_letter(store, status="completed")
    with pytest.raises(DeadLetterError, match="is completed"):
        await store.perform(retry())
    assert (await store.reader.get_run("r")).status == "completed"


async def test_runs_are_removed_with_their_ids_kept(store):  # noqa: F811
    run = await dead_letter(store)
    await store.perform(append(1, run="newest"))
    wanted = Prune([run.id, 99], ("failed",), NOW + 10_000, NOW + 500)
    done = await store.perform(wanted)
    assert (done.runs, done.events, done.left) == (1, 1, 1)
    assert await store.reader.get_run("r") is None
    assert await store.reader.read_events("r") == []
    again = await store.perform(append(1))
    assert (again.status, again.position) == ("duplicate", 1)
    late = await store.perform(append(7))
    assert late.status == "stale"
    assert "the run was failed, and pruned on" in late.reason
    quiet = Append("r", "orders", event(8), False, NOW, is_quiet=True)  # noqa: FBT003
    assert (await store.perform(quiet)).status == "stale"
    reasons = [drop.reason for drop in await store.reader.list_drops("r")]
    assert reasons == ["stale", "stale", "duplicate"]


@pytest.mark.parametrize(
    "changes", [{"statuses": ("completed",)}, {"before": NOW + 200}, {"runs": []}]
)
async def test_other_runs_stay(store, changes):  # noqa: F811
    run = await dead_letter(store)
    await store.perform(append(1, run="newest"))
    plain = {"runs": [run.id], "statuses": ("failed",), "before": NOW + 201, "now": NOW + 500}
    assert (await store.perform(Prune(**{**plain, **changes}))).runs == 0
    assert (await store.reader.get_run("r")).head == 1
    # The control.
    assert (await store.perform(Prune(**plain))).runs == 1


async def test_a_run_with_a_worker_and_the_newest_one_stay(store):  # noqa: F811
    run = await claimed(store)
    await store.perform(append(1, run="newest"))
    newest = await store.perform(append(2, run="newest"))
    every = ("idle", "running", "waiting", "completed", "failed", "cancelled")
    done = await store.perform(Prune([run.id, newest.run_id], every, NOW * 2, NOW))
    assert (done.runs, done.left) == (0, 2)
