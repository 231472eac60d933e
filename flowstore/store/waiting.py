"""What becomes of all that is outstanding in a run: tasks, timers, waits, streams.

Decisions, as in `flowstore.store.ledger`; the backend supplies the `WaitingLookup`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.errors import LeaseLostError, RunNotFoundError
from flowstore.store import base
from flowstore.store.base import Appended, Fired, StreamRow, TakenTask, TakenTasks
from flowstore.store.refusals import refuse_other_workflow
from flowstore.store.same import is_same

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.store.base import (
        AddChunks,
        BeginCron,
        BeginStream,
        Commit,
        EndTask,
        Fire,
        FireCron,
        Loaded,
        Outstanding,
        RetryTask,
        RunRow,
        StoredEvent,
        TakeTasks,
        TaskRow,
        TimerRow,
    )
    from flowstore.store.ledger import Ledger
    from flowstore.store.lookup import Lookup, WaitingLookup


class Waiting:
    """Keeps what is outstanding, and counts it: `RunRow.waits` and `RunRow.tasks`."""

    def __init__(self, ledger: Ledger, lookup: Lookup, rows: WaitingLookup) -> None:
        self._ledger = ledger
        self._lookup = lookup
        self._rows = rows

    # --- with a commit ---------------------------------------------------------------------

    def keep(self, run: RunRow, operation: Commit, wanted: Outstanding) -> None:
        """Take in what begins and ends with a commit of this run."""
        rows = self._rows
        if base.DEADLINE_KEY in wanted.cancelled:
            self._move_deadline(run, operation)
        timers, ended = wanted.timers, self._add_tasks(run, wanted.tasks)
        if ended:
            timers = [timer for timer in timers if timer.task_id not in ended]
        if wanted.cancelled or timers:
            run.waits += rows.set_timers(run.id, wanted.cancelled, timers)
        if wanted.woken:
            run.waits -= rows.wake(run.id, wanted.woken)
        if wanted.parked:
            run.waits += rows.park(wanted.parked)
        if wanted.spent:
            run.waits -= rows.spend(run.id, wanted.spent)
        if wanted.collected:
            rows.collect(wanted.collected)
            run.waits += len(wanted.collected)

    def _move_deadline(self, run: RunRow, operation: Commit) -> None:
        """Record that a deadline which has passed, but had no turn yet, does not count (G6)."""
        after = max(operation.new_cursor, *(row.position for row in operation.transitions))
        for position, event_id, name in self._lookup.names_between(run.id, after, run.head):
            if base.is_deadline(name, event_id):
                detail = "the deadline was set anew or removed before this event had its turn"
                row = (run.id, event_id, name, position, None, base.STALE, detail, operation.now)
                self._ledger.drops.append(base.DropRow(*row))

    def _add_tasks(self, run: RunRow, tasks: list[TaskRow]) -> set[str]:
        """Submit tasks; return those whose end came before them."""
        ended: set[str] = set()
        for number, task in enumerate(tasks):
            if task.kind == base.INTERNAL:
                run.tasks += 1
            elif self._lookup.event(run.id, f"{task.id}/end") is None:
                run.waits += 1
            else:
                tasks[number] = task._replace(status=base.ENDED, ended_at=task.submitted_at)
                ended.add(task.id)
        if tasks:
            self._rows.add_tasks(tasks)
        return ended

    def load(self, run: RunRow, loaded: Loaded) -> None:
        """Add to what a worker is given the handlers that are parked and the events kept."""
        loaded.parked = self._rows.parked(run.id)
        loaded.collected = self._rows.collected(run.id)

    def clear(self, run: RunRow) -> None:
        """End everything that is outstanding: the run is closed."""
        if run.waits or run.tasks:
            self._rows.clear(run.id)
            run.waits = run.tasks = 0

    # --- timers ------------------------------------------------------------------------------

    def fire(self, operation: Fire) -> Fired:
        """Append the events of timers that are due; each is gone with this transaction."""
        fired = Fired()
        for timer in self._rows.due_timers(operation.workflow, operation.now, operation.limit):
            run = self._lookup.run_by_id(timer.run_id)
            if run is None:
                continue
            run.waits -= 1
            self._ledger.changed[run.id] = run
            if timer.task_id is not None and not self._time_out(run, timer, operation.now):
                continue
            row = self._ledger.place(run, timer.event(operation.now), operation.now)
            appended = Appended("accepted", row.position, run.id, run.status, run.owner, event=row)
            fired.appended.append((run.correlation_id, appended))
        fired.due = self._rows.next_timer(operation.workflow)
        return fired

    def _time_out(self, run: RunRow, timer: TimerRow, now: int) -> bool:
        """End an external task whose time is over; False if it has ended before."""
        task = self._rows.task(run.id, timer.task_id or "")
        if task is None or task.status != base.PENDING:
            return False
        self._end(run, task, now)
        return True

    def begin_cron(self, operation: BeginCron) -> int:
        """Return when a cron fired last; one that no one knows yet begins now."""
        last = self._rows.last_cron(operation.workflow, operation.name)
        if last is None:
            last = operation.now
            self._rows.set_cron(operation.workflow, operation.name, last)
        return last

    def fire_cron(self, operation: FireCron) -> Appended | None:
        """Append the event of a time that recurs, once; None if it is there."""
        if self._rows.last_cron(operation.workflow, operation.name) == operation.at:
            return None
        append, appended = operation.append, None
        run = self._lookup.run(append.correlation_id)
        if run is None or self._lookup.event(run.id, append.event.id) is None:
            appended = self._ledger.append(append)  # one that is refused has not fired
            if appended.event is not None:  # it may be asked for again in this very batch
                self._ledger.chosen[appended.run_id, append.event.id] = appended.event
        self._rows.set_cron(operation.workflow, operation.name, operation.at)
        return appended

    # --- tasks ---------------------------------------------------------------------------------

    def end_task(self, operation: EndTask) -> Appended:
        """Append the event in which a task ends, or say why it is not wanted any more (G6)."""
        run = self._lookup.run(operation.correlation_id)
        if self._lookup.has_pruned:
            refused = self._ledger.tombstones.refuse(run, operation, is_chosen=False)
            if refused is not None:
                return refused
        if run is None:
            raise RunNotFoundError(f"there is no run {operation.correlation_id!r} in the store")
        if run.workflow != operation.workflow:
            refuse_other_workflow(run.correlation_id, run.workflow, operation.workflow)
        if operation.owner is not None and self._rows.end_own_task(run.id, operation):
            # It was pending, so the log has no end of it, and the run is not closed.
            self._ledger.changed[run.id] = run
            run.tasks -= 1
            return self._ledger.take_in(run, operation, is_chosen=True)
        original = self._lookup.event(run.id, operation.event.id)
        if original is not None and is_same(operation.event, original):
            return self._ledger.refuse_repeat(run, operation, original)
        task = self._rows.task(run.id, operation.task_id)
        if operation.event.causation_id is None:
            cause = self._submitter(run, operation.task_id) if task is None else task.causation_id
            operation.event = operation.event._replace(causation_id=cause)
        problem = _why_not(run, task, original, operation)
        if problem is not None:
            return self._ledger.refuse(run, operation, base.STALE, problem)
        if task is not None:
            self._end(run, task, operation.now)
        return self._ledger.take_in(run, operation, is_chosen=True)

    def _submitter(self, run: RunRow, task_id: str) -> str | None:
        """Return the event whose handler is about to submit a task: its position is in the id."""
        head, _, _ = task_id.partition("/")
        if not head.isdecimal():
            return None
        position = int(head)
        found = self._lookup.names_between(run.id, position - 1, position)
        return found[0][1] if found else None

    def _end(self, run: RunRow, task: TaskRow, now: int) -> None:
        self._rows.end_task(run.id, task.id, now)
        self._ledger.changed[run.id] = run
        if task.kind == base.INTERNAL:
            run.tasks -= 1
        else:
            run.waits -= 1
            run.waits += self._rows.set_timers(run.id, [base.timeout_key(task.id)], ())

    def retry_task(self, operation: RetryTask) -> bool:
        """Record a failed attempt; False if the task is no longer this worker's."""
        return self._rows.retry_task(operation)

    def take_tasks(self, operation: TakeTasks) -> TakenTasks:
        """Give a worker pending tasks that no live worker is at."""
        outcome = TakenTasks()
        for found in self._left_tasks(operation):
            if found.task.name not in operation.names:
                outcome.unknown.add(found.task.name)
            elif len(outcome.tasks) < operation.limit:
                found.task = found.task._replace(owner=operation.owner)
                outcome.tasks.append(found)
            else:
                outcome.has_more = True
                break
        # Not before: the rows are being read in the order of their owners.
        self._rows.own_tasks([found.task for found in outcome.tasks])
        return outcome

    def _left_tasks(self, operation: TakeTasks) -> Iterator[TakenTask]:
        lost, rows = self.lost_owners(operation.owner), self._rows
        if operation.runs is None:
            for owner in lost:
                yield from rows.tasks_of(owner, operation.workflow)
            return
        for run in filter(None, map(self._lookup.run, operation.runs if lost else ())):
            if run.tasks and run.workflow == operation.workflow:
                for owner in lost:
                    for task in rows.tasks_of_run(owner, run.id):
                        yield TakenTask(run.correlation_id, task)

    def lost_owners(self, asking: str) -> list[str]:
        """Return the workers that have pending tasks and are dead, or silent beyond their lease."""
        owners = [owner for owner in self._rows.owners_of_tasks() if owner != asking]
        return [owner for owner in owners if self._lookup.has_lost_lease(owner)]

    # --- streams ---------------------------------------------------------------------------------

    def begin_stream(self, operation: BeginStream) -> StreamRow:
        """Begin a stream, or begin it anew without the chunks that it had."""
        run = self._owned(operation)
        old = self._rows.stream(run.id, operation.stream_id)
        generation = 1 if old is None else old.generation + 1
        row = StreamRow(run.id, operation.stream_id, generation, "open", 0, None)
        self._rows.begin_stream(row)
        return row

    def add_chunks(self, operation: AddChunks) -> None:
        """Add chunks to a stream."""
        run = self._owned(operation)
        row = StreamRow(
            run.id,
            operation.stream_id,
            0,
            operation.status,
            operation.chunks,
            operation.error,
        )
        self._rows.add_chunks(row, operation.rows)

    def _owned(self, operation: BeginStream | AddChunks) -> RunRow:
        run = self._lookup.run_by_id(operation.run_id)
        if run is None or run.epoch != operation.epoch:
            if run is not None:
                self._ledger.note_lost_lease(run, operation.epoch, run.updated_at)
            raise LeaseLostError(
                f"stream {operation.stream_id!r}: the lease of epoch {operation.epoch} has ended"
            )
        return run


def _why_not(
    run: RunRow, task: TaskRow | None, original: StoredEvent | None, operation: EndTask
) -> str | None:
    if run.status in base.CLOSED:
        return f"the run is {run.status}"
    if original is not None:
        return f"task {operation.task_id!r} has ended otherwise, at position {original.position}"
    if task is None:
        return None if operation.owner is None else f"there is no task {operation.task_id!r}"
    if task.status != base.PENDING:
        return f"task {task.id!r} has ended"
    if operation.owner is not None and task.owner != operation.owner:
        return f"task {task.id!r} has been taken over by worker {task.owner}"
    return None
