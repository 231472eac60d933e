"""External tasks: a token that ends one of them, once, from wherever."""

# ruff: noqa: ARG001 - handlers have the parameters that users would write

from __future__ import annotations

import asyncio
import base64
import hashlib
import re

import pytest
from command_line import Called
from hypothesis import given
from hypothesis import strategies as st
from watching import collect, drops, log, query

from flowstore import Retry, WorkflowEvent, WorkflowManager
from flowstore import token as tokens
from flowstore.errors import ConfigurationError, InvalidTokenError, InvalidValueError

GO = WorkflowEvent("go")


def asking(workflow, **options):
    """Have the handler of "go" ask for an approval; keep the token and what came of it."""

    @workflow.on("go")
    async def go(event, ctx):
        ctx.state["token"] = ctx.submit_external("approval", **options)

    approval = workflow.external_task("approval")

    @workflow.on(approval.completed)
    async def approved(event, ctx):
        ctx.state.setdefault("results", []).append(event.data["result"])

    @workflow.on(approval.failed)
    async def refused(event, ctx):
        ctx.state.setdefault("errors", []).append([event.data["exception"], event.error])

    return workflow


async def asked(workflow, run="r"):
    await collect(workflow.process(GO, correlation_id=run))
    return (await workflow.run(run).state())["token"]


async def settled(workflow, run="r"):
    await workflow.resume(run)
    return await workflow.run(run).state()


# --- completing -----------------------------------------------------------------------------------


async def test_a_token_ends_the_task_from_wherever(make):
    first = asking(make())
    token = await asked(first)
    assert await first.run("r").status() == "waiting"
    await first.close()

    second = asking(make())
    receipt = await second.complete_task(token, {"by": "alex"})
    assert (receipt.status, receipt.position, receipt.id) == ("accepted", 2, "1/go/t1/end")
    state = await settled(second)
    assert state["results"] == [{"by": "alex"}]
    events = [event async for event in second.run("r").events()]
    assert events[1].data == {"task_id": "1/go/t1", "task": "approval", "result": {"by": "alex"}}
    assert events[1].causation_id == events[0].id
    assert await second.run("r").status() == "idle"


async def test_a_run_that_is_served_goes_on_at_once(workflow):
    asking(workflow)
    async with workflow:
        token = await asked(workflow)
        await workflow.complete_task(token, 1)
        assert (await workflow.run("r").wait()).status == "idle"
        assert (await workflow.run("r").state())["results"] == [1]


async def test_it_can_fail(workflow):
    asking(workflow)
    token = await asked(workflow)
    receipt = await workflow.fail_task(token, PermissionError("not by me"))
    assert receipt.status == "accepted"
    assert (await settled(workflow))["errors"] == [["PermissionError", "not by me"]]
    other = await asked(workflow, "other")
    for nothing in (None, 5, PermissionError):
        with pytest.raises(InvalidValueError, match="a str or an exception"):
            await workflow.fail_task(other, nothing)
    await workflow.fail_task(other, "in words")
    assert (await settled(workflow, "other"))["errors"] == [[None, "in words"]]


async def test_a_second_completion_is_a_duplicate_or_stale(workflow):
    """G5, G6, G7."""
    asking(workflow)
    token = await asked(workflow)
    first = await workflow.complete_task(token, {"a": 1, "b": 2})
    again = await workflow.complete_task(token, {"b": 2, "a": 1})
    assert (again.status, again.position) == ("duplicate", first.position)
    for other in (
        await workflow.complete_task(token, {"a": 1}),
        await workflow.fail_task(token, "no"),
    ):
        assert (other.status, other.position) == ("stale", None)
        assert "has ended otherwise, at position 2" in other.reason
    assert (await settled(workflow))["results"] == [{"a": 1, "b": 2}]
    end = "1/go/t1/end"
    assert await drops(workflow, "r") == [(end, "duplicate"), (end, "stale"), (end, "stale")]


async def test_after_the_run_was_closed_it_is_stale(workflow):
    asking(workflow, timeout=60)
    token = await asked(workflow)
    await workflow.run("r").cancel()
    receipt = await workflow.complete_task(token, 1)
    assert (receipt.status, receipt.reason) == ("stale", "the run is cancelled")
    assert await drops(workflow, "r") == [("1/go/t1/end", "stale")]


async def test_one_that_comes_before_its_task_is_kept_and_counts(patient):
    """G6: the token went out in a step, and the handler had to begin anew."""
    receipts = []

    async def hand_on(token):
        receipts.append(await patient.complete_task(token, "early"))

    async def go(event, ctx):
        token = ctx.submit_external("approval", timeout=3600)
        await ctx.step("hand on", hand_on, token)
        if len(receipts) < 3:
            receipts.append(None)
            raise ConnectionError("after the token went out")

    async def keep(event, ctx):
        ctx.state["result"] = [event.data["result"], event.causation_id]

    patient.register("go", go, retry=Retry(attempts=3))
    patient.register(patient.external_task("approval").completed, keep)
    events = await collect(patient.process(GO, correlation_id="r"))
    assert receipts[0].status == "accepted"
    assert await patient.run("r").state() == {"result": ["early", events[0].id]}
    assert await patient.run("r").status() == "idle"  # the timeout went with it
    assert query(patient._runtime.url.path, "SELECT key FROM timer") == []
    assert query(patient._runtime.url.path, "SELECT status FROM task") == [("ended",)]


async def test_the_token_is_the_same_when_the_handler_runs_again(patient):
    seen = []

    async def go(event, ctx):
        seen.append([ctx.submit_external("a"), ctx.submit_external("b")])
        if len(seen) < 3:
            raise ConnectionError

    patient.register("go", go, retry=Retry(attempts=3))
    await collect(patient.process(GO))
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 2


async def test_what_cannot_be_stored_is_refused(workflow):
    """G10: and the token is still good."""
    asking(workflow)
    token = await asked(workflow)
    with pytest.raises(InvalidValueError) as caught:
        await workflow.complete_task(token, {"films": [object()]})
    assert caught.value.path == "data.result.films[0]"
    assert (await workflow.complete_task(token, 1)).status == "accepted"


async def test_another_workflow_does_not_take_it(make):
    token = await asked(asking(make()))
    with pytest.raises(ConfigurationError, match="belongs to workflow 'workflow'"):
        await make(name="other").complete_task(token, 1)


# --- time --------------------------------------------------------------------------------------


async def test_when_the_time_is_over_it_has_failed(make, clock):
    workflow = asking(make(clock=clock), timeout=3600)
    async with workflow:
        token = await asked(workflow)
        await clock.until_asleep()
        await clock.advance(3600)
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
        await workflow.run("r").wait()
        [[kind, text]] = (await workflow.run("r").state())["errors"]
        assert kind == "TaskTimeoutError"
        assert "not completed within 3600 s" in text
        receipt = await workflow.complete_task(token, "late")
        assert receipt.status == "stale"
        [event] = [e async for e in workflow.run("r").events() if e.name == "task.failed"]
        assert (event.id, event.causation_id) == ("1/go/t1/end", "id-1")


async def test_what_was_completed_in_time_does_not_fail_later(make, clock):
    workflow = asking(make(clock=clock), timeout=3600)
    async with workflow:
        token = await asked(workflow)
        await workflow.complete_task(token, "in time")
        assert (await workflow.run("r").wait()).status == "idle"
        await clock.advance(7200)
        await workflow.send(WorkflowEvent("flush"), correlation_id="flush")
        assert "errors" not in await workflow.run("r").state()
    assert query(workflow._runtime.url.path, "SELECT key FROM timer") == []


# --- tokens ------------------------------------------------------------------------------------


async def test_only_tokens_that_this_store_gave_out_are_good(make, tmp_path):
    workflow = asking(make())
    token = await asked(workflow)
    other = asking(make(tmp_path / "other.db"))
    foreign = await asked(other)
    task = tokens.read(await workflow._runtime.store().read_secret(), token)
    body, _, signature = token.partition(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    wrong = [
        foreign,
        tokens.make(b"", task),
        tokens.make(b"guess", task),
        f"{body}.{flipped}",
        f"{tokens.make(b'', task._replace(task_id='1/go/t2')).partition('.')[0]}.{signature}",
        base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).decode(),
        *(token[:end] for end in range(len(token))),
        token + "A",
        token + "=",
        f" {token}",
        token.upper(),
        "",
        "é",
        "a" * 100_000,
        None,
        7,
        b"bytes",
    ]
    for each in wrong:
        with pytest.raises(InvalidTokenError, match="not one that this store has given out"):
            await workflow.complete_task(each, 1)
    assert await log(workflow, "r") == [(1, "go")]
    assert await drops(workflow, "r") == []
    assert (await workflow.complete_task(token, 1)).status == "accepted"


async def test_without_a_secret_no_token_is_good_and_none_is_made_by_looking(make, path):
    workflow = make()
    forged = tokens.make(b"", tokens.Claimed("r", "1/go/t1", "approval"))
    with pytest.raises(InvalidTokenError):
        await workflow.complete_task(forged, 1)
    assert query(path, "SELECT * FROM setting") == []


async def test_the_secret_is_the_stores_and_is_not_told(make, caplog, path):
    caplog.set_level(0)
    first, second = asking(make()), asking(make())
    token = await asked(first)
    secret = await first._runtime.store().read_secret()
    assert len(secret) == 32
    assert await second._runtime.store().read_secret() == secret
    assert (await second.complete_task(token, 1)).status == "accepted"
    assert secret.hex() not in caplog.text
    assert repr(secret) not in repr(vars(first)) + repr(first)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.binary(min_size=1))
def test_a_token_says_what_it_was_made_of(run, task_id, name, secret):
    task = tokens.Claimed(run, task_id, name)
    made = tokens.make(secret, task)
    assert re.fullmatch(r"[\w-]+\.[\w-]{43}", made, re.ASCII)
    assert tokens.read(secret, made) == tokens.peek(made) == task


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_is_taken_for_a_token(text):
    with pytest.raises(InvalidTokenError):
        tokens.read(b"secret", text)
    try:
        tokens.peek(text)
    except InvalidTokenError:
        return


# --- the command line -----------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_complete_at_the_command_line(capfd):
    async def begin(run):
        workflow = asking(WorkflowManager(name="letters"))
        try:
            return await asked(workflow, run)
        finally:
            await workflow.close()

    token = asyncio.run(begin("r"))
    receipt = Called(capfd, "complete", token, '{"by": "alex"}', "--json").json
    assert receipt == {
        "status": "accepted",
        "id": "1/go/t1/end",
        "correlation_id": "r",
        "position": 2,
        "reason": None,
    }
    again = Called(capfd, "complete", token, '{"by": "alex"}')
    assert again.code == 0
    assert re.search(r"^status +duplicate$", again.out, re.MULTILINE)
    other = Called(capfd, "complete", token, "--error", "no")
    assert other.code == 1
    assert re.search(r"^status +stale$", other.out, re.MULTILINE)
    failed = Called(capfd, "complete", asyncio.run(begin("s")), "--error", "no", "--json").json
    assert failed["status"] == "accepted"
    [_, event] = Called(capfd, "log", "s", "--json").json
    assert (event["name"], event["error"]) == ("task.failed", "no")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nonsense", "1"], 1, "the token is not one"),
        (["WyJyIiwiMS9nby90MSIsImEiXQ.AAAA", "1"], 1, "has no run"),
        (["token"], 2, "one of them"),
        (["token", "1", "--error", "x"], 2, "one of them"),
        (["token", "{"], 2, "JSON"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_complete_says_what_is_wrong(words, code, told, tmp_path, capfd):
    called = Called(capfd, "complete", *words)
    assert (called.code, called.out) == (code, "")
    assert told in called.err
    assert not (tmp_path / "flowstore.db").exists()
