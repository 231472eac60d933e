"""Runs that cannot go on here keep none of the others from it, and all of them are named."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.errors import InvalidStateError, ResumeError, StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Till(BaseModel):
    """A state that not every run has."""

    total: int = 0


@pytest.fixture
async def tills(make: Callable[..., WorkflowManager], path: Path) -> WorkflowManager:
    """A manager whose runs b and d have a state of another class; all five have an event."""
    before = make()

    @before.on("begin")
    async def begin(event: WorkflowEvent, ctx: Context) -> None:
        ctx["total"] = event.data

    for name, total in {"a": 1, "b": "much", "c": 1, "d": "more", "e": 1}.items():
        await before.send(WorkflowEvent("begin", total), correlation_id=name)
    await before.resume()
    for name in "abcde":
        await before.send(WorkflowEvent("add", 2), correlation_id=name)
    await before.close()
    tills = make(path, state=Till)

    @tills.on("add")
    async def add(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state.total += event.data

    return tills


async def test_every_run_that_cannot_go_on_is_named_and_the_others_have_settled(
    tills: WorkflowManager,
) -> None:
    """G7."""
    with pytest.raises(ResumeError) as caught:
        await tills.resume()
    error = caught.value
    assert list(error.failures) == ["b", "d"]
    assert all(isinstance(each, InvalidStateError) for each in error.failures.values())
    assert error.__cause__ is error.failures["b"]
    assert error.resumed == ["a", "c", "e"]
    assert str(error).startswith("2 runs cannot go on here: 'b': state.total: ")
    assert "; 'd': state.total: " in str(error)
    for name in error.resumed:
        assert await tills.run(name).status() == "idle"
        assert (await tills.run(name).state()).total == 3
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - ours
    assert (str(again), again.resumed) == (str(error), error.resumed)


async def test_what_is_wrong_with_one_run_that_is_named_is_raised_itself(
    tills: WorkflowManager,
) -> None:
    with pytest.raises(InvalidStateError, match=r"^state.total: "):
        await tills.resume("d")
    assert await tills.resume("a") == ["a"]


async def test_what_is_wrong_with_the_store_is_raised_itself(workflow: WorkflowManager) -> None:
    is_called, never = asyncio.Event(), asyncio.Event()

    @workflow.on("hang")
    async def hang(_event: WorkflowEvent) -> None:
        is_called.set()
        await never.wait()

    for name in "ab":
        await workflow.send(WorkflowEvent("hang"), correlation_id=name)
    resuming = asyncio.create_task(workflow.resume())
    await is_called.wait()
    await workflow.close()
    with pytest.raises(StoreClosedError):
        await resuming


def test_the_message_does_not_grow_with_the_number_of_runs() -> None:
    error = ResumeError({f"r{number}": ValueError("no") for number in range(2000)})
    assert str(error).startswith("2,000 runs cannot go on here: 'r0': no; ")
    assert str(error).endswith("'r9': no; and 1,990 more, see failures")
    assert str(ResumeError({"r": ValueError("no")})) == "1 run cannot go on here: 'r': no"
