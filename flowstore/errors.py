"""Every error that flowstore raises on purpose, under one base.

The docstring of a class is its default message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAMED: Final = 10
"""How many runs the message of an error names."""


class FlowstoreError(Exception):
    """Something went wrong in flowstore."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().partition("\n")[0])


# --- what the caller handed in -------------------------------------------------------


class InvalidValueError(FlowstoreError, ValueError):
    """A value cannot be stored and read back unchanged.

    Args:
        path: where the value is, as in ``data.docs[3].client``.
        problem: what is wrong with it and what to do.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")

    def __reduce__(self) -> tuple[type[InvalidValueError], tuple[str, str]]:
        return type(self), (self.path, self.problem)


class ValueTooLargeError(InvalidValueError):
    """A value is larger or deeper than the configured limit."""


class InvalidStateError(InvalidValueError):
    """The state of a run cannot be stored, or fails its model's validation."""


class EventTypeError(FlowstoreError, TypeError):
    """What was sent or emitted is not an event."""


class EventVersionError(FlowstoreError):
    """A stored event has a version that this code cannot read."""


class DuplicateHandlerError(FlowstoreError, ValueError):
    """Two handlers of one name would get the same event."""


class HandlerSignatureError(FlowstoreError, TypeError):
    """A handler takes parameters that flowstore does not know how to fill."""


class HandlerReturnError(FlowstoreError, TypeError):
    """A handler returned or yielded something that is not an event."""


class HandlerTimeoutError(FlowstoreError, TimeoutError):
    """A handler ran longer than its timeout."""


class StepFailedError(FlowstoreError):
    """A step failed when it was recorded, with an exception that is not known here."""


class HandlerChangedError(FlowstoreError):
    """A handler that was parked did something else when it was called again."""


class ConfigurationError(FlowstoreError, ValueError):
    """An option has a value that flowstore cannot work with."""


# --- tasks ---------------------------------------------------------------------------


class DuplicateTaskError(FlowstoreError, ValueError):
    """Two tasks have one name."""


class TaskArgumentsError(FlowstoreError, TypeError):
    """A task was submitted with arguments that its function does not take."""


class TaskTimeoutError(FlowstoreError, TimeoutError):
    """An attempt at a task took longer than its timeout."""


class UnknownTaskError(FlowstoreError, LookupError):
    """No task of this name is registered."""


class RemoteTaskError(FlowstoreError):
    """A task failed in another process with an error that could not be sent back as it is.

    Args:
        exception: the name of the class of the original error.
        message: what it said.
    """

    def __init__(self, exception: str = "Exception", message: str | None = None) -> None:
        self.exception = exception
        self.message = message
        super().__init__(f"{exception}: {message}" if message else exception)

    def __reduce__(self) -> tuple[type[RemoteTaskError], tuple[str, str | None]]:
        return type(self), (self.exception, self.message)


# --- runs ----------------------------------------------------------------------------


class RunExistsError(FlowstoreError):
    """The store has a run of this name already."""


class ForkError(FlowstoreError, ValueError):
    """A run cannot be forked there, or in this way."""


class DeadLetterError(FlowstoreError):
    """There is no such dead letter, or none any more, or its run is closed."""


class RunNotFoundError(FlowstoreError, LookupError):
    """There is no run with this correlation_id in the store."""


class EventNotFoundError(FlowstoreError, LookupError):
    """There is no event with this id in the store."""


class ResumeError(FlowstoreError):
    """Some runs cannot go on here; the others have settled.

    Args:
        failures: why not, by their correlation_ids.
        resumed: the correlation_ids of those that have settled.
    """

    def __init__(self, failures: Mapping[str, Exception], resumed: Sequence[str] = ()) -> None:
        self.failures = dict(failures)
        self.resumed = list(resumed)
        named = [f"{name!r}: {error}" for name, error in self.failures.items()]
        rest = len(named) - _NAMED
        also = [f"and {rest:,} more, see failures"] if rest > 0 else []
        count = len(named)
        runs = f"{count:,} run{'' if count == 1 else 's'} cannot go on here"
        super().__init__(f"{runs}: {'; '.join([*named[:_NAMED], *also])}")

    def __reduce__(self) -> tuple[type[ResumeError], tuple[dict[str, Exception], list[str]]]:
        return type(self), (self.failures, self.resumed)


class StaleEventError(FlowstoreError):
    """The event was refused: its run is closed, or it has expired."""


class EventConflictError(FlowstoreError):
    """The run already has an event with this id and other content.

    Args:
        message: which event, and what to do.
        event_id: the id.
    """

    def __init__(self, message: str | None = None, event_id: str | None = None) -> None:
        self.event_id = event_id
        super().__init__(message)


class LeaseLostError(FlowstoreError):
    """Another worker took over the run, so this commit was refused."""


class WaitTimeoutError(FlowstoreError, TimeoutError):
    """The run did not settle in time."""


class WaitExpiredError(FlowstoreError, TimeoutError):
    """The event that a handler waited for did not come in time."""


class InvalidTokenError(FlowstoreError, ValueError):
    """The token is not one that this store has given out."""


class RunFileError(FlowstoreError, ValueError):
    """A file of exported runs is not one that this version of flowstore can read.

    Args:
        path: the file.
        problem: what is wrong with it.
        line: in which line; None if it is the file as a whole.
    """

    def __init__(self, path: str, problem: str, line: int | None = None) -> None:
        self.path = path
        self.problem = problem
        self.line = line
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {problem}")

    def __reduce__(self) -> tuple[type[RunFileError], tuple[str, str, int | None]]:
        return type(self), (self.path, self.problem, self.line)


class AcceptedFileError(FlowstoreError, ValueError):
    """A file of accepted divergences cannot be read or written."""


class StreamRestartedError(FlowstoreError):
    """The handler that makes the stream began anew; iterate it again, from its new beginning."""


class StreamFailedError(FlowstoreError):
    """The stream has broken off; what made it failed for good, or its run was closed."""


class MissingExtraError(FlowstoreError, ImportError):
    """An optional dependency is not installed."""


# --- the store -----------------------------------------------------------------------


class StoreError(FlowstoreError):
    """The store could not do what was asked."""


class StoreUrlError(StoreError, ValueError):
    """The store's URL or path cannot be understood."""


class StoreUnavailableError(StoreError):
    """The database cannot be opened or written."""


class StoreFullError(StoreError):
    """The disk is full; nothing of this commit was written."""


class StoreCorruptError(StoreError):
    """The file is not a flowstore database, or it is damaged."""


class StoreBusyError(StoreError):
    """Another connection kept the database locked for too long."""


class StoreClosedError(StoreError):
    """The store has been closed."""


class SchemaError(StoreError):
    """The database's schema is not one that this version of flowstore can use."""


class StatementError(FlowstoreError):
    """A statement given to ctx.execute failed; its handler's commit was refused.

    Args:
        message: what the database said.
        ordinal: which of the commit's statements, from 0.
    """

    def __init__(self, message: str | None = None, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        super().__init__(message)
