"""The graph of a workflow: read from its code, of which nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import graph_shop
import pytest

from flowstore import Context, WorkflowEvent, WorkflowManager
from flowstore.graph import build, mermaid, tree
from flowstore.graph.mention import Mention
from flowstore.graph.reading import Reader
from flowstore.printable import mermaid_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.graph import Graph


@pytest.fixture
def graph() -> Graph:
    return build(graph_shop.build().program)


def said(workflow: WorkflowManager, name: str) -> list[tuple[str, str | None, str | None]]:
    reader = Reader(workflow.program.codec.types)
    (handler,) = (each for each in workflow.program.routes if each.name == name)
    return [tuple(mention) for mention in reader.read(handler)]


def emitted(name: str) -> list[str | None]:
    return [event for how, event, _ in said(graph_shop.build(), name) if how == "emits"]


# --- what the code says ----------------------------------------------------------------


def test_a_method_is_followed_into_what_it_calls():
    assert emitted("Desk.sell") == ["told", "priced", "thanked"]


def test_yields_tasks_timers_waits_and_the_deadline():
    assert said(graph_shop.build(), "price") == [
        ("submits", None, "pack"),
        ("submits", None, "courier"),
        ("schedules", "remind", None),
        ("schedules", "deadline", None),
        ("waits for", "approved", None),
        ("emits", "approved", None),
        ("emits", "free", None),
        ("emits", "greeting", None),
        ("emits", "paid", None),
        ("emits", "progress", None),
    ]


def test_a_list_that_is_filled_on_the_way():
    assert emitted("packed") == ["Shipped", "task.completed"]


def test_a_lambda_and_a_partial():
    assert emitted("sent") == ["Shipped"]
    assert emitted("partial") == ["given"]


def test_a_reducer_emits_what_comes_behind_the_state():
    assert emitted("fold") == ["counted"]


def test_names_that_are_chosen_or_gone_through(workflow: WorkflowManager):
    both = ("three", "four")

    @workflow.on("start")
    async def start(event: WorkflowEvent, ctx: Context) -> Any:
        name = "one" if event.data else "two"
        ctx.emit(WorkflowEvent(name))
        for each in both:
            ctx.emit(WorkflowEvent(each))
        ctx.emit(WorkflowEvent("five" + event.data))
        name = event.data
        return [WorkflowEvent(each) for each in ["six", "seven", name]]

    found = [event for _, event, _ in said(workflow, start.__qualname__.rpartition(".")[2])]
    assert sorted(filter(None, found)) == ["four", "one", "seven", "six", "three", "two"]
    assert None in found


def test_what_only_running_it_would_tell_is_unknown():
    assert emitted("odd") == [None]
    assert emitted("lend") == [None]  # its context goes where no one can follow
    assert emitted("Desk.fall") == [None]


def test_an_annotation_tells_what_the_code_does_not():
    assert emitted("declared") == ["Kept", "Shipped"]


def test_nothing_of_the_code_is_run():
    graph_shop.loaded.clear()
    build(graph_shop.build().program)
    assert graph_shop.loaded == []
    assert graph_shop.Desk().trap.name == "trapped"  # it would have told
    assert graph_shop.loaded == ["trap"]


def test_code_without_source_is_unknown(workflow: WorkflowManager):
    names: dict[str, Any] = {}
    exec("async def made(event, ctx):\n    yield 1\n", names)  # noqa: S102 - it has no file
    workflow.register("a", names["made"])
    assert said(workflow, "made") == [("emits", None, None)]


def test_recursion_ends(workflow: WorkflowManager):
    def more(number: int) -> Any:
        return [WorkflowEvent("more"), *more(number - 1)] if number else []

    async def start(_event: WorkflowEvent, ctx: Context) -> Any:
        help_out(ctx)
        found = more(3)
        found += found
        return found or []

    def help_out(ctx: Context) -> None:
        ctx.emit(WorkflowEvent("helped"))
        help_out(ctx)

    workflow.register("start", start)
    assert [event for _, event, _ in said(workflow, "start")] == ["helped", "more"]


def test_a_helper_within_the_handler(workflow: WorkflowManager):
    async def start(_event: WorkflowEvent, ctx: Context) -> Any:
        def make(name: str) -> WorkflowEvent:
            return WorkflowEvent("made", name)

        async def note(context: Context) -> None:
            context.emit(WorkflowEvent("noted"))

        await note(ctx)
        return make("x")

    workflow.register("start", start)
    assert said(workflow, "start") == [Mention("emits", "noted"), Mention("emits", "made")]


# --- who gets what ---------------------------------------------------------------------


def test_who_gets_what_and_who_emits_it(graph: Graph):
    handlers = [node.name for node in graph.handlers]
    shipped = graph.events["Shipped", None]
    assert [handlers[number - 1] for number in shipped.makers] == ["packed", "sent", "declared"]
    assert [handlers[number - 1] for number in shipped.listeners] == ["log"]
    ends = graph.events["task.completed", "courier"]
    assert [handlers[number - 1] for number in ends.listeners] == ["sent"]
    assert [handlers[number - 1] for number in graph.events["approved", None].waiters] == ["price"]
    assert graph.events["morning", None].crons == ["morning 0 9 * * *"]


def test_events_that_nobody_listens_to_are_marked(graph: Graph):
    unheard = {event.key[0] for event in graph.unheard}
    assert {"told", "thanked", "paid", "morning", "remind"} <= unheard
    # These are listened to, waited for, made by the engine, or no news.
    assert not {"priced", "approved", "deadline", "progress", "Order"} & unheard
    assert ("task.failed", "pack") in [event.key for event in graph.unheard]


def test_handlers_that_nobody_feeds_are_marked(graph: Graph):
    unfed = [node.name for node in graph.unfed]
    assert unfed == ["Desk.sell", "Desk.fall", "fold", "odd", "lend", "declared", "partial"]


def test_events_that_only_a_logger_gets_are_told_apart(graph: Graph):
    assert graph.events["Shipped", None].is_only_logged
    assert not graph.events["Order", None].is_only_logged
    assert "nobody but log listens" in text_of(graph)


def test_it_is_complete_when_the_code_of_every_handler_tells(make: Callable[..., WorkflowManager]):
    workflow = make()
    workflow.register("a", lambda _event: WorkflowEvent(str(_event.data)), name="unknown")
    workflow.register("a", lambda _event: WorkflowEvent("b"), name="knows")
    assert not build(workflow.program).is_complete
    other = make(":memory:").register("a", lambda _event: WorkflowEvent("b"), name="knows")
    assert build(other.program).is_complete


# --- drawn -----------------------------------------------------------------------------


def text_of(graph: Graph) -> str:
    return "\n".join(
        "  " * line.depth + "".join(text for text, _ in line.parts) for line in tree(graph)
    )


def test_the_tree(graph: Graph):
    text = text_of(graph)
    assert "\n  Desk.sell\n    told nobody listens\n    priced\n      price\n" in text
    assert "\n        task pack\n          task.completed of pack\n            packed\n" in text
    assert "\n        remind scheduled nobody listens\n" in text
    assert "\n        waits for approved\n" in text
    assert "odd from outside, or never\n  odd\n    ? only running the code would tell" in text
    assert "morning by cron 'morning 0 9 * * *' nobody listens" in text


def test_an_event_is_told_once(workflow: WorkflowManager):
    workflow.register("a", lambda _event: [WorkflowEvent("b"), WorkflowEvent("c")], name="first")
    workflow.register("b", lambda _event: WorkflowEvent("c"), name="second")
    workflow.register("c", lambda _event: WorkflowEvent("b"), name="third")
    assert text_of(build(workflow.program)) == (
        "a from outside, or never\n"
        "  first\n"
        "    b\n"
        "      second\n"
        "        c\n"
        "          third\n"
        "            b (see above)\n"
        "    c (see above)"
    )


def test_a_circle_that_nothing_from_outside_leads_to_is_shown(workflow: WorkflowManager):
    workflow.register("b", lambda _event: WorkflowEvent("c"), name="second")
    workflow.register("c", lambda _event: WorkflowEvent("b"), name="third")
    text = text_of(build(workflow.program))
    assert text == "b\n  second\n    c\n      third\n        b (see above)"


def test_mermaid(graph: Graph):
    lines = list(mermaid(graph))
    assert lines[0] == "flowchart LR"
    nodes = {line.split('"')[1]: line.split("(")[0].strip() for line in lines if '(["' in line}
    boxes = {
        line.split('"')[1]: line.split("[")[0].strip()
        for line in lines
        if line.startswith("    h") and '["' in line and "-->" not in line
    }
    assert f"    {nodes['Order']} --> {boxes['Desk.sell']}" in lines
    assert f"    {boxes['Desk.sell']} --> {nodes['told']}" in lines
    assert f'    {boxes["price"]} -.->|"scheduled"| {nodes["remind"]}' in lines
    assert f'    {nodes["approved"]} -.->|"waits for"| {boxes["price"]}' in lines
    assert f"    {boxes['odd']} -.-> unknown{{{{?}}}}" in lines


def test_a_label_cannot_leave_its_quotes():
    assert mermaid_label('a"]; click x "javascript:1') == ("a#34;]#59; click x #34;javascript:1")
    assert mermaid_label("<b>\x1b\n&#`") == "#60;b#62;#27;#10;#38;#35;#96;"
    assert mermaid_label("%%{init: {}}%%") == "#37;#37;{init: {}}#37;#37;"
    assert len(mermaid_label("x" * 500)) == 80


# --- with what runs show -----------------------------------------------------------------


async def test_what_recorded_runs_show(make: Callable[..., WorkflowManager]):
    workflow = make(name="shop")
    names = ["one", "two"]

    @workflow.task
    async def pack(number: int) -> int:
        return number

    @workflow.on("order")
    async def start(event: WorkflowEvent, ctx: Context) -> Any:
        ctx.submit(pack, event.data)
        return [WorkflowEvent(name) for name in reversed(names)]

    workflow.register("one", lambda _event: WorkflowEvent("last"), name="a/b")
    workflow.register("never", lambda _event: WorkflowEvent("last"), name="idle")
    other = make(name="other").register("order", lambda _event: WorkflowEvent("one"), name="start")
    for number in range(3):
        async for _ in workflow.process(WorkflowEvent("order", number)):
            pass
    async for _ in other.process(WorkflowEvent("order", 7)):
        pass

    reader = await workflow.program.reader()
    flow = await reader.count_flow("shop")  # type: ignore[attr-defined]
    assert flow.sent == {"order": 3}
    assert flow.submitted == {("start", "pack"): 3}
    assert flow.handled == {("start", "order"): 3, ("a/b", "one"): 3}
    graph = build(workflow.program, flow)
    start_node = graph.handlers[0]
    assert start_node.recorded == 3
    assert [(each.event, each.is_in_code, each.recorded) for each in start_node.does] == [
        (("task.completed", "pack"), True, 3),
        (None, True, None),
        (("one", None), False, 3),
        (("two", None), False, 3),
    ]
    text = text_of(graph)
    assert "order from outside (3x)\n  start (3x)\n    task pack (3x)\n" in text
    assert "\n    two (3x) (recorded; not found in the code) nobody listens" in text
    assert "never no recorded run has it\n  idle (0x)" in text
