"""The SQL of tasks, timers, parked handlers, collected events, streams and cron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, func, select, text, update

from flowstore.store import schema
from flowstore.store.base import (
    INTERNAL,
    PENDING,
    ChunkRow,
    CollectedRow,
    ParkedRow,
    StoredEvent,
    StreamRow,
    TaskRow,
    TimerRow,
)
from flowstore.store.statements import compile_text, insert_text

if TYPE_CHECKING:
    from sqlalchemy import Table


class WaitingStatements(NamedTuple):
    """SQL texts by what they do."""

    set_timer: str
    cancel_timer: str
    due_timers: str
    next_timer: str
    end_timer: str
    insert_task: str
    task: str
    end_task: str
    end_own_task: str
    retry_task: str
    next_owner: str
    tasks_of: str
    tasks_of_run: str
    own_task: str
    park: str
    wake: str
    parked: str
    collect: str
    spend: str
    collected: str
    has_collected: str
    insert_stream: str
    stream: str
    move_stream: str
    begin_stream: str
    insert_chunk: str
    clear_chunks: str
    last_cron: str
    clear_timers: str
    clear_tasks: str
    clear_parked: str
    clear_collected: str


def build() -> WaitingStatements:
    """Compile every statement."""
    pairs = _of_timers() | _of_tasks() | _of_waits() | _of_streams() | _of_clearing()
    return WaitingStatements(
        set_timer=insert_text(schema.timer, TimerRow._fields),
        insert_task=insert_text(schema.task, TaskRow._fields),
        park=insert_text(schema.parked, ParkedRow._fields),
        collect=insert_text(schema.collected, CollectedRow._fields),
        insert_stream=insert_text(schema.stream, StreamRow._fields),
        insert_chunk=insert_text(schema.chunk, ChunkRow._fields),
        **{name: compile_text(*pair) for name, pair in pairs.items()},
    )


def _key(name: str = "key") -> BindParameter[Any]:
    return bindparam(name)


def _of_timers() -> dict[str, Any]:
    timer = schema.timer
    whole = [timer.c[name] for name in TimerRow._fields]
    workflow = timer.c.workflow == _key()
    return {
        "cancel_timer": (
            delete(timer).where(timer.c.run_id == _key(), timer.c.key == _key("timer")),
            ("key", "timer"),
        ),
        "due_timers": (
            select(timer.c.seq, *whole)
            .where(workflow, timer.c.due_at <= _key("moment"))
            .order_by(timer.c.due_at, timer.c.seq)
            .limit(_key("most")),
            ("key", "moment", "most", "param_1"),
        ),
        "next_timer": (select(func.min(timer.c.due_at)).where(workflow), ("key",)),
        "end_timer": (delete(timer).where(timer.c.seq == _key()), ("key",)),
    }


def _of_tasks() -> dict[str, Any]:
    task, run = schema.task, schema.run
    # Written out, so that the partial index is seen to fit.
    is_pending = text(f"task.status = '{PENDING}' AND task.kind = '{INTERNAL}'")
    this = (task.c.run_id == _key(), task.c.id == _key("task"))
    return {
        "task": (select(*task.columns).where(*this), ("key", "task")),
        "end_task": (
            update(task).where(*this).values(status=_key("ended"), ended_at=_key("moment")),
            ("ended", "moment", "key", "task"),
        ),
        "end_own_task": (
            update(task)
            .where(
                *this,
                task.c.owner == _key("its_owner"),
                task.c.status == _key("its_status"),
            )
            .values(status=_key("ended"), ended_at=_key("moment")),
            ("ended", "moment", "key", "task", "its_owner", "its_status"),
        ),
        "retry_task": (
            update(task)
            .where(
                *this,
                task.c.owner == _key("its_owner"),
                task.c.status == _key("its_status"),
            )
            .values(attempt=_key("tried"), ready_at=_key("moment"), error=_key("problem")),
            ("tried", "moment", "problem", "key", "task", "its_owner", "its_status"),
        ),
        "next_owner": (
            select(func.min(task.c.owner)).where(is_pending, task.c.owner > _key()),
            ("key",),
        ),
        "tasks_of": (
            select(run.c.correlation_id, *task.columns)
            .join_from(task, run, run.c.id == task.c.run_id)
            .where(is_pending, task.c.owner == _key(), run.c.workflow == _key("served"))
            .order_by(task.c.run_id, task.c.submitted_at),
            ("key", "served"),
        ),
        "tasks_of_run": (
            select(*task.columns)
            .where(is_pending, task.c.owner == _key(), task.c.run_id == _key("run"))
            .order_by(task.c.submitted_at),
            ("key", "run"),
        ),
        "own_task": (
            update(task).where(*this).values(owner=_key("new_owner")),
            ("new_owner", "key", "task"),
        ),
    }


def _of_waits() -> dict[str, Any]:
    parked, collected, event = schema.parked, schema.collected, schema.event
    return {
        "wake": (
            delete(parked).where(
                parked.c.run_id == _key(),
                parked.c.position == _key("place"),
                parked.c.handler == _key("name"),
            ),
            ("key", "place", "name"),
        ),
        "parked": (
            select(*parked.columns)
            .where(parked.c.run_id == _key())
            .order_by(parked.c.position, parked.c.handler),
            ("key",),
        ),
        "spend": (
            delete(collected).where(
                collected.c.run_id == _key(),
                collected.c.key == _key("kept"),
                collected.c.event_id == _key("event"),
            ),
            ("key", "kept", "event"),
        ),
        "has_collected": (
            select(collected.c.event_id).where(collected.c.run_id == _key()).limit(1),
            ("key", "param_1", "param_2"),
        ),
        "collected": (
            select(collected.c.key, *(event.c[name] for name in StoredEvent._fields))
            .join_from(
                collected,
                event,
                (event.c.run_id == collected.c.run_id) & (event.c.position == collected.c.position),
            )
            .where(collected.c.run_id == _key())
            .order_by(collected.c.position),
            ("key",),
        ),
    }


def _of_streams() -> dict[str, Any]:
    stream, chunk, cron = schema.stream, schema.chunk, schema.cron
    this = (stream.c.run_id == _key(), stream.c.id == _key("stream"))
    return {
        "stream": (select(*stream.columns).where(*this), ("key", "stream")),
        "move_stream": (
            update(stream)
            .where(*this)
            .values(status=_key("standing"), chunks=_key("count"), error=_key("problem")),
            ("standing", "count", "problem", "key", "stream"),
        ),
        "begin_stream": (
            update(stream)
            .where(*this)
            .values(
                generation=_key("times"), status=_key("standing"), chunks=_key("count"), error=None
            ),
            ("times", "standing", "count", "error", "key", "stream"),
        ),
        "clear_chunks": (
            delete(chunk).where(chunk.c.run_id == _key(), chunk.c.stream_id == _key("stream")),
            ("key", "stream"),
        ),
        "last_cron": (
            select(cron.c.last_at).where(cron.c.workflow == _key(), cron.c.name == _key("name")),
            ("key", "name"),
        ),
    }


def _of_clearing() -> dict[str, Any]:
    """Return what ends everything that is outstanding in a run."""
    task = schema.task
    of_run = {
        "clear_timers": schema.timer,
        "clear_parked": schema.parked,
        "clear_collected": schema.collected,
    }
    return {
        **{name: _delete_of_run(table) for name, table in of_run.items()},
        "clear_tasks": (
            update(task)
            .where(task.c.run_id == _key(), task.c.status == _key("its_status"))
            .values(status=_key("ended")),
            ("ended", "key", "its_status"),
        ),
    }


def _delete_of_run(table: Table) -> tuple[Any, tuple[str, ...]]:
    return delete(table).where(table.c.run_id == _key()), ("key",)
