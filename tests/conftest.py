"""What tests share: a store of their own, a clock they move, managers that end with the test."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from command_line import settle
from inbox import drafted, undisturbed  # noqa: F401 - fixtures
from ledgers import owned, world  # noqa: F401 - fixtures
from sample import fill

from flowstore import WorkflowManager
from flowstore.store.readonly import open_queries
from flowstore.store.url import StoreUrl
from flowstore.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flowstore.store.queries import Queries


def pytest_configure() -> None:
    """Let Ctrl-C end the programs that tests start, also if a shell started these behind itself."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWSTORE_URL", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, as a user's shell would, with no variable of ours set."""
    settle(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def filled(folder: Path) -> Path:
    """The default database in that folder, with one of everything: see `sample.fill`."""
    path = folder / "flowstore.db"
    fill(path)
    return path


@pytest.fixture
def queries(filled: Path) -> Queries:
    """What reads the filled database."""
    return open_queries(StoreUrl(filled))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def make(path: Path) -> AsyncIterator[Callable[..., WorkflowManager]]:
    """Make managers, on this test's file if no other store is named; they are closed after it."""
    made: list[WorkflowManager] = []

    def make_manager(store: Any = None, **options: Any) -> WorkflowManager:
        manager = WorkflowManager(path if store is None else store, **options)
        made.append(manager)
        return manager

    yield make_manager
    for manager in reversed(made):
        await manager.close()


@pytest.fixture
def workflow(make: Callable[..., WorkflowManager]) -> WorkflowManager:
    return make()


@pytest.fixture
def patient(make: Callable[..., WorkflowManager]) -> WorkflowManager:
    """A manager whose retries keep no one waiting."""
    return make(clock=VirtualClock(is_automatic=True))
