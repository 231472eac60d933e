"""Events change their form; rows of older forms stay readable."""

# ruff: noqa: ARG001, ARG005 - handlers have the parameters that users would write

from __future__ import annotations

import pytest
from pydantic import BaseModel
from watching import collect, query

from flowstore import WorkflowEvent
from flowstore.errors import ConfigurationError, EventVersionError, FlowstoreError


class Order(BaseModel):
    cents: int
    currency: str = "EUR"


async def _write_old_ones(make):
    """Version 1 has ``amount``, version 2 has ``cents``, version 3 a ``currency``."""
    old = make()
    await old.send(WorkflowEvent("Order", {"amount": 1.5}), correlation_id="r", id="e1")
    await old.close()
    newer = make()
    newer.upcaster("Order", 1)(_to_cents)
    await newer.send(WorkflowEvent("Order", {"cents": 250}), correlation_id="r", id="e2")
    await newer.close()


def _to_cents(data):
    return {"cents": round(data["amount"] * 100)}


def _with_currency(data):
    return {**data, "currency": "CHF"}


async def test_old_rows_reach_the_handler_in_the_form_of_today(make, path):
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster(Order, 1)(_to_cents)
    workflow.upcaster(Order, 2)(_with_currency)
    seen = []

    async def handle(order: Order, ctx):
        seen.append(order)

    workflow.register(Order, handle)
    await workflow.send(Order(cents=3), correlation_id="r")
    await workflow.resume()
    assert seen == [
        Order(cents=150, currency="CHF"),
        Order(cents=250, currency="CHF"),
        Order(cents=3, currency="EUR"),
    ]
    assert query(path, "SELECT version FROM event ORDER BY position") == [(1,), (2,), (3,)]


async def test_old_rows_are_read_in_the_form_of_today_and_stay_as_they_are(make, path):
    """G12."""
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster("Order", 1)(_to_cents)
    workflow.upcaster("Order", 2)(_with_currency)
    events = await collect(workflow.run("r").events())
    assert [event.data for event in events] == [
        {"cents": 150, "currency": "CHF"},
        {"cents": 250, "currency": "CHF"},
    ]
    assert query(path, "SELECT data FROM event WHERE position = 1") == [('{"amount":1.5}',)]


async def test_upcasters_can_be_given_in_any_order(make):
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster("Order", 2)(_with_currency)
    workflow.upcaster("Order", 1)(_to_cents)
    (first, _) = await collect(workflow.run("r").events())
    assert first.data == {"cents": 150, "currency": "CHF"}


async def test_a_repeat_of_an_event_of_an_older_form_is_still_a_repeat(make):
    """G5: the sender sends it as it is sent today."""
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster("Order", 1)(_to_cents)
    again = await workflow.send(WorkflowEvent("Order", {"cents": 150}), correlation_id="r", id="e1")
    assert (again.status, again.position) == ("duplicate", 1)


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ([], "has version 2 and this code knows 1"),
        ([2], "no upcaster from version 1 to 2"),
    ],
)
async def test_a_row_that_this_code_cannot_read_names_event_and_remedy(make, versions, words):
    await _write_old_ones(make)
    workflow = make()
    for version in versions:
        workflow.upcaster("Order", version)(_with_currency)
    with pytest.raises(EventVersionError, match=f"'Order'.*{words}"):
        await collect(workflow.run("r").events())


async def test_an_upcaster_that_fails_is_named_and_makes_a_dead_letter(make, caplog):
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster("Order", 1)(lambda data: data["missing"])
    calls = []

    async def handle(event):
        calls.append(event.id)

    workflow.register("Order", handle)
    assert await workflow.resume() == ["r"]
    assert calls == ["e2"]
    (dead,) = await (await workflow._runtime.reader()).list_dead("r")
    assert dead.event_id == "e1"
    assert "upcaster of event 'Order' from version 1 to 2 failed: KeyError" in dead.error
    assert await workflow.run("r").status() == "failed"


async def test_what_an_upcaster_makes_must_fit_the_class(make, caplog):
    await _write_old_ones(make)
    workflow = make()
    workflow.upcaster(Order, 1)(lambda data: {"cents": "many"})
    seen = []

    async def handle(order: Order):
        seen.append(order)

    workflow.register(Order, handle)
    await workflow.resume()
    assert seen == [Order(cents=250)]
    (dead,) = await (await workflow._runtime.reader()).list_dead("r")
    assert "cents" in dead.error


async def test_upcasters_that_make_no_sense_are_refused(workflow):
    workflow.upcaster("Order", 1)(_to_cents)
    with pytest.raises(ConfigurationError, match=r"from version 1 is there already.*_to_cents"):
        workflow.upcaster("Order", 1)(_with_currency)
    for version in (0, -1, 1.5, "1"):
        with pytest.raises(ConfigurationError, match="versions count from 1"):
            workflow.upcaster("Order", version)(_to_cents)
    with pytest.raises(FlowstoreError):
        workflow.upcaster(7, 1)
