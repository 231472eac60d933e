"""One attempt of one handler at one event: calls the function, takes what it yields or returns."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flowstore.context import Context
from flowstore.engine.waits import WaitingJournal
from flowstore.engine.words import brief
from flowstore.errors import EventTypeError, HandlerReturnError, HandlerTimeoutError
from flowstore.events import WorkflowEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Attempt(WaitingJournal):
    """Calls the handler; what it says to its context is kept by the journal."""

    __slots__ = ()

    async def perform(self) -> None:
        """Call the handler within its timeout; what it raises is raised."""
        timeout = self.handler.timeout
        work = self._around.loop.create_task(self.call())
        alarm = self._around.loop.create_task(self._around.clock.sleep(timeout or 0.0))
        try:
            await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.has_ended = self.is_blameless = True
                raise HandlerTimeoutError(
                    f"handler {self.handler_name!r} took more than its timeout of {timeout:g} s"
                )
            work.result()
        finally:
            work.cancel()
            alarm.cancel()
            await asyncio.gather(work, alarm, return_exceptions=True)

    async def call(self) -> None:
        """Call the handler and emit what it yields or returns."""
        handler = self.handler
        subject: Any = self.event
        if handler.wants_object:
            subject = self._around.codec.typed(self._stored.name, self.event.data)
        arguments: tuple[Any, ...] = (subject,)
        if handler.second == "context":
            arguments = (subject, Context(self))
        elif handler.second == "state":
            arguments = (subject, self.run.state.value)
        returned: Any
        self._around.enter(self)
        if handler.runs_on_loop:
            returned = handler.function(*arguments)
        else:
            call = partial(self._call_plain, arguments)
            returned = await self._around.call_plain(handler.name, call)
        try:
            if hasattr(returned, "__aiter__"):
                await self._take_all(cast("AsyncIterator[Any]", returned))
            else:
                if inspect.isawaitable(returned):
                    returned = await returned
                self._take_returned(returned)
            if self.streams is not None:
                await self.streams.drain()
        finally:
            if self.streams is not None:
                await self.streams.stop()

    async def _take_all(self, items: AsyncIterator[Any]) -> None:
        """Emit what an async generator yields; it goes on when a stream has come to its end."""
        async for item in items:
            begun = 0 if self.streams is None else self.streams.begun
            is_last = self._take(item)
            if self.streams is not None and self.streams.begun > begun:
                await self.streams.drain(begun)
            if is_last:
                break
        else:
            return
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()

    def _call_plain(self, arguments: tuple[Any, ...]) -> Any:
        """Call a plain function or generator; this runs in a worker thread."""
        returned: Any = self.handler.function(*arguments)
        if not inspect.isgenerator(returned):
            return returned
        for item in returned:
            begun = 0 if self.streams is None else self.streams.begun
            is_last = self._take(item)
            if self.streams is not None and self.streams.begun > begun:
                self._around.await_there(self.streams.drain(begun))
            if is_last:
                returned.close()
        return None

    def _take(self, item: Any) -> bool:
        """Emit what was yielded; true if it reports an error, which ends the handler."""
        try:
            self.emit(item)
        except EventTypeError as error:
            raise HandlerReturnError(
                f"handler {self.handler_name!r} yielded {brief(item)}: {error}"
            ) from error
        return isinstance(item, WorkflowEvent) and bool(item.error)

    def _take_returned(self, returned: Any) -> None:
        events = returned
        if self.handler.second == "state":
            if returned is None:
                raise HandlerReturnError(
                    f"handler {self.handler_name!r} takes the state and returned nothing; "
                    "return the state, or (state, events)"
                )
            self.run.state.value, events = _split(returned)
        if events is None:
            return
        items = cast("Sequence[Any]", events) if isinstance(events, (list, tuple)) else [events]
        for item in items:
            try:
                self.emit(item)
            except EventTypeError as error:
                raise HandlerReturnError(
                    f"handler {self.handler_name!r} returned {brief(item)}: {error}"
                ) from error


def _split(returned: Any) -> tuple[Any, Any]:
    """Take apart what a reducer returned: the state, or (state, events)."""
    match returned:
        case (state, events) if isinstance(returned, tuple):
            return state, events
        case _:
            return returned, None
