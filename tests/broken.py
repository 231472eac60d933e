"""Connections that break at a chosen moment: real SQLite, with one fault put in front of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import flowstore.store.sqlite


class CrashError(sqlite3.OperationalError):
    """The process has ended: nothing behind this point reaches the database."""


Fault = Callable[..., BaseException | None]


def _no_fault(_: str, **__: bool) -> None:
    return None


class Faults:
    """Counts the statements of the writer, and fails when it is time.

    Attributes:
        seen: every statement that was begun.
        fail: given the statement and whether it has been carried out; what it returns is raised.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fail: Fault = _no_fault
        self.is_dead = False
        self.when_dead: Callable[[], object] = lambda: None

    def revive(self) -> None:
        """Let the next process do what it likes."""
        self.is_dead = False
        self.fail = _no_fault

    def fail_once(self, word: str, error: BaseException, *, done: bool = False) -> None:
        """Fail the next statement that begins with this word, or just after it is done."""

        def fail(sql: str, *, is_done: bool) -> BaseException | None:
            if is_done is done and sql.startswith(word):
                self.fail = _no_fault
                return error
            return None

        self.fail = fail

    def crash_at(self, number: int) -> None:
        """End the process at the statement with this number from here on.

        Even numbers: before it; odd ones: when it is done.
        """
        left = number

        def fail(_: str, **__: bool) -> BaseException | None:
            nonlocal left
            left -= 1
            if left < 0:
                self.is_dead = True
                self.when_dead()
                return CrashError()
            return None

        self.fail = fail

    def check(self, sql: str, *, done: bool) -> None:
        if self.is_dead:
            raise CrashError
        if not done:
            self.seen.append(sql)
        error = self.fail(sql, is_done=done)
        if error is not None:
            raise error


class Broken:
    """A connection of the writer behind its faults."""

    def __init__(self, connection: sqlite3.Connection, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        self._faults.check(sql, done=False)
        result = self._connection.execute(sql, *parameters)
        self._faults.check(sql, done=True)
        return result

    def executemany(self, sql: str, rows: Any) -> Any:
        self._faults.check(sql, done=False)
        result = self._connection.executemany(sql, rows)
        self._faults.check(sql, done=True)
        return result

    def close(self) -> None:
        # At a crash the system rolls back. Closing alone does not, as long as the traceback of
        # the fault keeps a cursor alive.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.close()


def break_connections(monkeypatch: Any) -> Faults:
    """Put faults in front of every writer's connection that is opened from now on."""
    faults = Faults()
    connect = flowstore.store.sqlite.open_writer
    monkeypatch.setattr(
        flowstore.store.sqlite, "open_writer", lambda url: Broken(connect(url), faults)
    )
    return faults
