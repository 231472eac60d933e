"""Crashes for tests: what SIGKILL does to a process, without losing the test's own."""

# A crash is exactly what the parts offer no way to do, so this file reaches into them.
# pyright: reportPrivateUsage=false
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING

from flowstore.errors import StoreClosedError
from flowstore.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from flowstore.engine import Engine
    from flowstore.manager import WorkflowManager


async def crash(workflow: WorkflowManager) -> None:
    """Stop a manager as a crash of its process would; another one on its store goes on.

    What has not been written is lost, whoever waits for it gets a `StoreClosedError`, handlers
    are cancelled where they are, and no run is given back. A transaction that has reached the
    database is finished. In contrast to a crash, handlers see their cancellation, and threads
    of plain functions run to their end; what they do then is not recorded.

    Args:
        workflow: to be used no more; make a new one. One that is being served (`async with`)
            can be left as usual.
    """
    runtime = workflow._runtime
    engine, store = runtime._engine, runtime._store
    runtime._engine = runtime._loop = runtime._store = None
    if isinstance(store, SQLiteStore):
        _cut_off(store)
        await asyncio.get_running_loop().run_in_executor(None, store._writer.stop)
        if store._presence is not None:
            store._presence.close()
    if engine is not None:
        await _halt(engine)


def _cut_off(store: SQLiteStore) -> None:
    """Lose what is queued, and have the writer end without signing anything off."""
    error = StoreClosedError("the store's process has crashed (flowstore.testing.crash)")
    writer, lost = store._writer, store._outbox
    store._outbox, store._parcel = [], None
    writer._closed = True
    writer.worker_id = None
    while True:
        try:
            lost += writer._queue.get_nowait() or ()
        except queue.Empty:
            break
    for order in lost:
        order.loop.call_soon(order.refuse, error)
    store._at_exit.detach()


async def _halt(engine: Engine) -> None:
    engine._claims.stop()
    tasks = [run.task for run in engine.active.values() if run.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    engine._claims.stop()
    for name in tuple(engine._watchers._by_name):
        engine._watchers.fail(name, StoreClosedError())
