"""The user's own SQLAlchemy statements (``ctx.execute``) on the writer's connection."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from flowstore.errors import StatementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_FORBIDDEN = frozenset(
    {
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
    }
)


class RolledBackError(Exception):
    """A statement ended the whole transaction, its neighbours' work included."""


class UserStatements:
    """Runs statements inside the open transaction, which they cannot end."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._alchemy: Connection | None = None

    def connect(self) -> None:
        """Put SQLAlchemy on the connection; to be done while no transaction is open.

        It sets the driver's isolation level, which commits what is under way.
        """
        if self._alchemy is None:
            engine = create_engine(
                "sqlite://",
                creator=lambda: self._connection,
                poolclass=StaticPool,
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
            )
            self._alchemy = engine.connect()

    def run(self, statements: Sequence[tuple[Any, Any]]) -> None:
        """Execute statements in order.

        Raises:
            StatementError: one failed; says which.
            RolledBackError: one failed and took the whole transaction with it.
        """
        self._connection.set_authorizer(_authorize)
        try:
            for ordinal, (statement, parameters) in enumerate(statements):
                self._run_one(ordinal, statement, parameters)
        finally:
            self._connection.set_authorizer(None)

    def _run_one(self, ordinal: int, statement: Any, parameters: Any) -> None:
        if self._alchemy is None:
            raise StatementError
        try:
            self._alchemy.execute(statement, parameters)
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            failure = StatementError(
                f"a statement given to ctx.execute failed, so nothing of its handler was "
                f"committed: {cause}",
                ordinal,
            )
            if not self._connection.in_transaction:
                raise RolledBackError from failure
            raise failure from error

    def close(self) -> None:
        """Leave the connection to its owner."""
        if self._alchemy is not None:
            self._alchemy.detach()
            self._alchemy = None


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if action in _FORBIDDEN else sqlite3.SQLITE_OK
