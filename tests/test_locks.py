"""Locks beside the database: proof that a worker lives, and turns for writers (G8, G9)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from flowstore.errors import StoreBusyError
from flowstore.store.lock import FileLock, Presence, is_alive, presence_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 20

HOLD = """
import sys
from pathlib import Path
from flowstore.store.lock import Presence
held = Presence(Path(sys.argv[1]), "other")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(path: Path):
    """Another process that has a sign of life."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def _fork() -> int:
    with warnings.catch_warnings():
        # Newer Pythons warn when there are threads; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@contextlib.contextmanager
def _forked(first: Callable[[], object] = lambda: None) -> Iterator[int]:
    """A forked child that lives on, until it is killed at the end of the block."""
    ready, writing = os.pipe()
    child = _fork()
    if child == 0:
        try:
            keep = first()
            os.write(writing, b".")
            signal.pause()
            del keep
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1) == b"."
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(writing)


# --- a worker's sign of life -------------------------------------------------------------


def test_a_worker_is_alive_until_it_ends(path: Path):
    assert not is_alive(path, "me")
    presence = Presence(path, "me")
    assert is_alive(path, "me")
    presence.end()
    assert not is_alive(path, "me")
    assert not presence_path(path, "me").exists()


def test_ending_twice_does_no_harm(path: Path):
    presence = Presence(path, "me")
    presence.end()
    presence.end()
    assert not is_alive(path, "me")


def test_a_killed_worker_is_dead_at_once(path: Path, holder: subprocess.Popen[bytes]):
    assert is_alive(path, "other")
    holder.send_signal(signal.SIGKILL)
    holder.wait(DEADLINE)
    assert presence_path(path, "other").exists()
    assert not is_alive(path, "other")
    assert not presence_path(path, "other").exists(), "what the dead leave behind is removed"


def test_a_stopped_worker_is_alive(path: Path, holder: subprocess.Popen[bytes]):
    holder.send_signal(signal.SIGSTOP)
    assert is_alive(path, "other")


def test_looking_does_not_end_a_life(path: Path):
    presence = Presence(path, "me")
    assert [is_alive(path, "me") for _ in range(3)] == [True] * 3
    presence.end()


def test_a_forked_child_does_not_keep_its_parent_alive(path: Path):
    """The child has the parent's descriptors; it must not be taken for it."""
    presence = Presence(path, "me")
    with _forked():
        presence.close()  # as when this process dies: the descriptor goes, the file stays
        assert not is_alive(path, "me")


def test_a_forked_child_does_not_end_its_parents_life(path: Path):
    presence = Presence(path, "me")
    child = _fork()
    if child == 0:
        presence.end()
        os._exit(0)
    os.waitpid(child, 0)
    assert is_alive(path, "me")
    presence.end()


# --- turns -------------------------------------------------------------------------------


def _is_free(path: Path) -> bool:
    """Tell whether the lock can be had at once; a `FileLock` that gave up would still wait."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_one_at_a_time(path: Path):
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    entered = threading.Event()

    def enter():
        second.acquire()
        entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.is_set()
    first.release()
    assert entered.wait(DEADLINE)
    waiting.join(DEADLINE)
    first.close()
    second.close()


def test_waiting_has_an_end(path: Path):
    """As when the process whose turn it is has been stopped."""
    first, second, third = FileLock(path), FileLock(path), FileLock(path)
    first.acquire()
    for _ in range(3):
        with pytest.raises(StoreBusyError, match="busy_timeout"):
            second.acquire(0.05)
    first.release()
    third.acquire(DEADLINE)  # the second does not keep what came when it wanted it no more
    third.release()
    second.acquire(DEADLINE)
    with pytest.raises(StoreBusyError):
        third.acquire(0.05)
    second.release()
    for lock in (first, second, third):
        lock.close()


def test_impatient_ones_never_hold_it_together(path: Path):
    """Waits that end just as the lock comes; whoever is told to have it, has it alone."""
    inside: list[int] = []
    wrong: list[list[int]] = []
    taken: Counter[int] = Counter()
    end = time.monotonic() + 2

    def take_turns(number: int) -> None:
        lock = FileLock(path)
        chance = random.Random(number)
        while time.monotonic() < end:
            try:
                lock.acquire(chance.choice([0.0, 0.0005, 0.002, 1.0]))
            except StoreBusyError:
                continue
            inside.append(number)
            if inside != [number]:
                wrong.append(list(inside))
            taken[number] += 1
            inside.remove(number)
            lock.release()
        lock.close()

    threads = [threading.Thread(target=take_turns, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert wrong == []
    assert len(taken) == 4


def test_it_can_be_taken_again(path: Path):
    lock = FileLock(path)
    for _ in range(3):
        lock.acquire()
        assert not _is_free(path)
        lock.release()
        assert _is_free(path)
    lock.close()
    for _ in range(2):
        with lock:
            assert not _is_free(path)
        assert _is_free(path)


def test_the_lock_is_gone_with_its_process(path: Path):
    def take() -> FileLock:
        lock = FileLock(path)
        lock.acquire()
        return lock

    with _forked(take):
        assert not _is_free(path)
    assert _is_free(path)


def test_a_forked_child_does_not_keep_the_turn(path: Path):
    """Else a killed process with children of its own would stop every writer for good."""
    lock = FileLock(path)
    lock.acquire()
    with _forked():
        lock.close()  # as when this process dies
        other = FileLock(path)
        entered = threading.Event()
        taking = threading.Thread(target=lambda: (other.acquire(), entered.set()), daemon=True)
        taking.start()
        assert entered.wait(5)
    taking.join(DEADLINE)
    other.close()


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"):
        FileLock(tmp_path / "none" / "lock").acquire()
    with pytest.raises(OSError, match="No such file"):
        Presence(tmp_path / "none" / "runs.db", "me")
