"""A task as a record of a function: names, options, arguments and results as JSON."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel

from flowstore import Limits, Retry, WorkflowEvent
from flowstore.codec import Codec
from flowstore.errors import (
    ConfigurationError,
    DuplicateHandlerError,
    DuplicateTaskError,
    EventTypeError,
    InvalidValueError,
    TaskArgumentsError,
    UnknownTaskError,
    ValueTooLargeError,
)
from flowstore.rate import Rate
from flowstore.routing import Outcome, Routes
from flowstore.task import ExternalTask, Task, Tasks


class Film(BaseModel):
    title: str
    made: datetime


@dataclass
class Size:
    width: int


def transcode(path: Path, *, quality: int = 3, film: Film | None = None) -> Film: ...
def any_number(first: int, *sizes: Size, **films: Film): ...
def handle(event): ...
def keyed(path, idempotency_key, progress): ...
async def fetch(url: str) -> bytes: ...


FILM = Film(title="Nosferatu", made=datetime(1922, 3, 4, tzinfo=UTC))
named = Task(transcode, Codec(), name="by name")
transcode = Task(transcode, Codec())


def both_ways(task, *args, **kwargs):
    return task.decode_arguments(task.encode_arguments(args, kwargs))


def test_arguments_come_back_with_the_types_of_their_annotations():
    assert both_ways(transcode, Path("a.mp4"), quality=2, film=FILM) == (
        [Path("a.mp4")],
        {"quality": 2, "film": FILM},
    )


def test_the_rest_of_the_arguments_is_typed_too():
    task = Task(any_number, Codec())
    given = ([1, Size(2), Size(3)], {"a": FILM})
    assert both_ways(task, *given[0], **given[1]) == given


def test_arguments_are_one_json_text():
    assert Task(any_number, Codec()).encode_arguments((1, Size(2)), {}) == (
        '{"args":[1,{"width":2}],"kwargs":{}}'
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "'path'"),
        ((Path("a"), 2), {}, "too many positional"),
        ((Path("a"),), {"speed": 2}, "'speed'"),
        ((Path("a"),), {"path": Path("b")}, "'path'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(args, kwargs, words):
    with pytest.raises(TaskArgumentsError, match=words):
        transcode.encode_arguments(args, kwargs)


def test_what_cannot_be_stored_is_refused_with_the_parameter():
    with pytest.raises(InvalidValueError, match=r"any_number\(first\)"):
        Task(any_number, Codec()).encode_arguments((object(),), {})


def test_all_arguments_together_have_a_limit():
    task = Task(keyed, Codec(Limits(data_bytes=100)))
    with pytest.raises(ValueTooLargeError, match="limit is 100"):
        task.encode_arguments(({"a": "x" * 60, "b": "x" * 60},), {})


def test_what_the_engine_fills_in_need_not_be_given():
    assert both_ways(Task(keyed, Codec()), "a") == (["a"], {})
    assert Task(keyed, Codec()).takes("progress")
    assert not transcode.takes("progress")


def test_arguments_that_the_function_no_longer_takes_are_refused_when_they_are_read():
    with pytest.raises(TaskArgumentsError, match="speed"):
        transcode.decode_arguments('{"args":["a"],"kwargs":{"speed":1}}')


def test_the_result_is_typed():
    text = transcode.encode_result(FILM)
    data = {"task_id": "1/h/t1", "task": "transcode", "result": Codec().decode_value(text)}
    assert transcode.result(WorkflowEvent("task.completed", data)) == FILM


@pytest.mark.parametrize("event", [("task.failed", "transcode"), ("task.completed", "other")])
def test_only_its_own_completion_has_a_result(event):
    with pytest.raises(EventTypeError, match=r"transcode\.completed"):
        transcode.result(WorkflowEvent(event[0], {"task": event[1], "result": 1}))


def test_calling_a_task_calls_the_function():
    assert Task(lambda x: x + 1, Codec(), name="add")(2) == 3
    assert transcode.__name__ == "transcode"


def test_a_task_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(transcode)) is transcode  # noqa: S301 - made right here
    with pytest.raises(ConfigurationError, match="top level"):
        pickle.dumps(Task(lambda: 1, Codec(), name="add"))


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 3},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"max_concurrency": 1.5},
        {"rate": "60"},
        {"rate": "0/s"},
        {"rate": "6/day"},
        {"rate": 60},
        {"executor": "cloud"},
        {"executor": object()},
        {"name": ""},
        {"name": "a\0b"},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises((ConfigurationError, InvalidValueError)):
        Task(keyed, Codec(), **options)


def test_options_are_kept():
    task = Task(keyed, Codec(), retry=Retry(), timeout=2, max_concurrency=4, rate="60/min")
    assert (task.timeout, task.max_concurrency, task.rate) == (2, 4, Rate(60, 60.0))
    assert task.executor == "threads"
    assert Task(fetch, Codec()).executor == "asyncio"


def test_a_coroutine_function_runs_on_the_loop_only():
    with pytest.raises(ConfigurationError, match="event loop"):
        Task(fetch, Codec(), executor="processes")


def test_what_runs_in_processes_has_a_name_to_import_it_by():
    def local(): ...

    with pytest.raises(ConfigurationError, match="top level"):
        Task(local, Codec(), executor="processes")


def test_generators_and_classes_are_no_tasks():
    def generator():
        yield 1

    for each in (generator, Size, transcode, 7):
        with pytest.raises(ConfigurationError):
            Task(each, Codec(), name="x")


# --- the registry and the routes ------------------------------------------------------------------


def test_two_tasks_of_one_name_are_refused():
    tasks = Tasks()
    tasks.add(transcode)
    with pytest.raises(DuplicateTaskError, match="transcode"):
        tasks.add(Task(keyed, Codec(), name="transcode"))
    with pytest.raises(DuplicateTaskError):
        tasks.external("transcode")


def test_a_name_that_is_unknown_is_said_so():
    tasks = Tasks()
    with pytest.raises(UnknownTaskError, match=r"os\.system"):
        tasks.get("os.system")
    with pytest.raises(UnknownTaskError, match="not a task of this workflow"):
        tasks.owner_of(transcode)
    tasks.add(transcode)
    assert tasks.get("transcode") is tasks.owner_of(transcode) is transcode


def test_handlers_of_an_outcome_get_only_that_tasks_events():
    routes = Routes(Codec())
    routes.add(transcode.completed, handle, name="one")
    routes.add(ExternalTask("approval").completed, handle, name="two")
    routes.add("task.completed", handle, name="all")
    routes.add(transcode.failed, handle, name="failed")
    found = routes.handlers("task.completed")
    assert [each.name for each in found] == ["one", "two", "all"]
    for data, names in (
        ({"task": "transcode"}, ["one", "all"]),
        ({"task": "approval"}, ["two", "all"]),
        ({"task": 7}, ["all"]),
        (None, ["all"]),
        ("transcode", ["all"]),
    ):
        assert [each.name for each in found if each.accepts(data)] == names


def test_one_name_may_serve_two_tasks_and_not_one_twice():
    routes = Routes(Codec())
    routes.add(Outcome("task.completed", "a"), handle, name="done")
    routes.add(Outcome("task.completed", "b"), handle, name="done")
    for key in (Outcome("task.completed", "a"), "task.completed", "*"):
        with pytest.raises(DuplicateHandlerError):
            routes.add(key, handle, name="done")
