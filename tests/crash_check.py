"""What must hold of a store after its processes were killed: the checker of the crash tests."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from crash_child import fold

from flowstore.door import Limits
from flowstore.events import WorkflowEvent
from flowstore.kind import StateKind
from flowstore.state import State

if TYPE_CHECKING:
    from pathlib import Path

HANDLERS = {"work": ("work", "audit"), "echo": ("echo",)}


class Wrecked:
    """A store and what its processes wrote down before they were killed."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.acknowledged = [
            tuple(line.split()) for line in (folder / "acknowledged").read_text().splitlines()
        ]
        lines = [line.split() for line in (folder / "steps").read_text().splitlines()]
        # What was being noted when the process was killed may be cut off; it has no full stop.
        self.notes = [words[:2] for words in lines if len(words) == 3 and words[2] == "."]
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            self.integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
            self.runs = self._rows(connection, "run", "id")
            self.events = self._rows(connection, "event", "run_id, position")
            self.transitions = self._rows(connection, "transition", "run_id, number")
            self.snapshots = self._rows(connection, "snapshot", "run_id, position")
            self.steps = self._rows(connection, "step", "run_id, position")
        self.name = {run["id"]: run["correlation_id"] for run in self.runs}

    @staticmethod
    def _rows(connection: sqlite3.Connection, table: str, order: str) -> list[sqlite3.Row]:
        query = f'SELECT * FROM "{table}" ORDER BY {order}'  # noqa: S608 - names of ours
        return connection.execute(query).fetchall()

    def problems(self) -> list[str]:
        """Return what does not hold, in words; nothing if all is well."""
        return [
            *([] if self.integrity == "ok" else [f"integrity: {self.integrity}"]),
            *self._lost(),
            *self._out_of_order(),
            *self._unsettled(),
            *self._wrong_states(),
            *self._handled_wrongly(),
            *self._emitted_wrongly(),
            *self._steps_run_again(),
        ]

    def _lost(self) -> list[str]:
        found = Counter((self.name[event["run_id"]], event["id"]) for event in self.events)
        lost = [key for key in self.acknowledged if found[key] != 1]
        return [f"acknowledged, but {found[key]} times in the log: {key}" for key in lost]

    def _out_of_order(self) -> list[str]:
        positions = defaultdict(list)
        for event in self.events:
            positions[event["run_id"]].append(event["position"])
        return [
            f"positions of {run['correlation_id']} are not 1 to {run['head']}"
            for run in self.runs
            if positions[run["id"]] != list(range(1, run["head"] + 1))
        ]

    def _unsettled(self) -> list[str]:
        return [
            f"not settled: {dict(run)}"
            for run in self.runs
            if run["status"] != "idle" or run["cursor"] != run["head"] or run["owner"] is not None
        ]

    def _wrong_states(self) -> list[str]:
        return [
            f"the state of {run['correlation_id']} is not the fold of its log"
            for run in self.runs
            if self._state(run["id"]) != self._folded(run["id"])
        ]

    def _state(self, run_id: int) -> Any:
        snapshots = [row for row in self.snapshots if row["run_id"] == run_id]
        after, text = 0, None
        if snapshots:
            after, text = snapshots[-1]["position"], snapshots[-1]["state"]
        changes = [
            row["change"]
            for row in self.transitions
            if row["run_id"] == run_id and row["position"] > after and row["change"]
        ]
        return State(StateKind(dict, Limits()), text, changes).value

    def _folded(self, run_id: int) -> Any:
        """Fold the log in order, each event by each of its handlers, once."""
        state: dict[str, Any] = {}
        for row in self.events:
            if row["run_id"] == run_id:
                for handler in HANDLERS.get(row["name"], ()):
                    fold(state, handler, WorkflowEvent(row["name"], id=row["id"]))
        return state

    def _handled_wrongly(self) -> list[str]:
        handled = Counter(
            (row["run_id"], row["position"], row["handler"])
            for row in self.transitions
            if row["outcome"] == "handled"
        )
        due = Counter(
            (row["run_id"], row["position"], handler)
            for row in self.events
            for handler in HANDLERS.get(row["name"], ())
        )
        wrong = [f"handled {handled[key]} times: {key}" for key in due if handled[key] != due[key]]
        odd = [row for row in self.transitions if row["outcome"] not in {"handled", "retried"}]
        return wrong + [f"unexpected: {dict(row)}" for row in odd]

    def _emitted_wrongly(self) -> list[str]:
        """Each piece of work has one progress event and one echo, under their own ids."""
        due = {
            (row["run_id"], f"{row['position']}/work/{ordinal}")
            for row in self.events
            for ordinal in ("p1", "1")
            if row["name"] == "work"
        }
        found = {
            (row["run_id"], row["id"]) for row in self.events if row["name"] in {"progress", "echo"}
        }
        return [f"emitted by no one, or lost: {key}" for key in due ^ found]

    def _steps_run_again(self) -> list[str]:
        finished: set[str] = set()
        again = []
        for what, key in self.notes:
            if what == "recorded":
                finished.add(key)
            elif key in finished:
                again.append(f"a finished step was run again: {key}")
        kept = {f"{self.name[row['run_id']]}/{row['position']}/work/pay/1" for row in self.steps}
        unknown = [f"finished, but not in the record: {key}" for key in finished - kept]
        return again + unknown

    @property
    def repeated_steps(self) -> int:
        """How many steps were begun more than once: kills that hit one in the middle."""
        begun = Counter(key for what, key in self.notes if what == "start")
        return sum(times > 1 for times in begun.values())
