"""Nothing leaves the process while a run is executed again (G12)."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.replay import rerun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN = "r"


class Outside:
    """What can be reached: a server on this machine, and a folder.

    Attributes:
        calls: how often someone has connected.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                data = connection.recv(1000)
                if data == b"end":
                    return
                self.calls += 1
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"end")
        self._thread.join()
        self._server.close()

    @property
    def seen(self) -> tuple[int, list[tuple[str, int]]]:
        """All that shows from outside."""
        files = [(str(each), each.stat().st_size) for each in sorted(self.folder.iterdir())]
        return self.calls, files

    # --- ways out ------------------------------------------------------------------------

    def connect(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"hi")
            connection.recv(100)

    def fetch(self) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/").close()

    def send(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"hi", ("127.0.0.1", self.port))
        self.append()  # no one sees the packet

    def append(self) -> None:
        with (self.folder / "log").open("a") as file:
            file.write("x")

    def low_level(self) -> None:
        place = os.open(self.folder / "low", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(place, b"x")
        os.close(place)

    def folder_made(self) -> None:
        Path(self.new_folder).mkdir()

    def moved(self) -> None:
        made = self.folder / f"before {len(list(self.folder.iterdir()))}"
        self.append()
        (self.folder / "log").rename(made)

    def program(self) -> None:
        code = f"open({str(self.folder / 'child')!r}, 'a').write('x')"
        subprocess.run([sys.executable, "-c", code], check=True)

    def shell(self) -> None:
        os.system(f"printf x >> '{self.folder}/shell'")  # noqa: S605 - as a handler might

    def own_thread(self) -> None:
        def work() -> None:
            with contextlib.suppress(BaseException):
                self.append()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def thread_of_a_thread(self) -> None:
        def work() -> None:
            self.own_thread()
            with contextlib.suppress(BaseException):
                self.own_pool()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    def own_pool(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.append).result()

    def own_process(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=os.mkdir, args=(self.new_folder,))
        process.start()
        process.join()

    @property
    def new_folder(self) -> str:
        return str(self.folder / f"made {len(list(self.folder.iterdir()))}")

    def database(self) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "other.db")) as connection:
            connection.execute(f"CREATE TABLE t{len(list(self.folder.iterdir()))} (x)")
        self.append()


WAYS = (
    Outside.connect,
    Outside.fetch,
    Outside.send,
    Outside.append,
    Outside.low_level,
    Outside.folder_made,
    Outside.moved,
    Outside.program,
    Outside.shell,
    Outside.own_thread,
    Outside.thread_of_a_thread,
    Outside.own_pool,
    Outside.own_process,
    Outside.database,
)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    folder = tmp_path / "outside"
    folder.mkdir()
    place = Outside(folder)
    yield place
    place.close()


def build(store: Any, go: Callable[[], Any]) -> WorkflowManager:
    """Handlers that go outside, and would hide that it was refused."""
    workflow = WorkflowManager(store)

    @workflow.on("loop")
    async def on_loop(_event: WorkflowEvent, ctx: Any) -> None:
        with contextlib.suppress(Exception):
            found = go()
            if asyncio.iscoroutine(found):
                await found
        ctx.state["done"] = True

    @workflow.on("thread")
    def in_thread(_event: WorkflowEvent, ctx: Any) -> None:
        with contextlib.suppress(Exception):
            go()
        ctx.state["done"] = True

    return workflow


async def record(store: Path, go: Callable[[], Any], *names: str) -> Any:
    workflow = build(store, go)
    for name in names:
        async for _ in workflow.process(WorkflowEvent(name), correlation_id=RUN):
            pass
    [archive] = await (await workflow.program.reader()).read_archives([RUN])
    await workflow.close()
    return archive


@pytest.mark.parametrize("name", ["loop", "thread"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nothing_leaves_the_process(path, outside, way, name):
    archive = await record(path, lambda: way(outside), name)
    before, stored = outside.seen, path.read_bytes()
    assert before != (0, [])
    report = await rerun(build(":memory:", lambda: way(outside)), archive)
    assert report.divergence is not None
    assert report.divergence.kind == "reach"
    assert (report.divergence.position, report.divergence.event) == (1, name)
    assert f"{Path(__file__).name}:" in report.divergence.message
    assert (outside.seen, path.read_bytes()) == (before, stored)

    unguarded = await rerun(build(":memory:", lambda: way(outside)), archive, guard=False)
    assert unguarded.is_identical
    assert outside.seen != before  # the control


async def test_a_name_is_not_even_looked_up(path, outside, monkeypatch):
    asked: list[str] = []

    async def go() -> None:
        _, writer = await asyncio.open_connection("localhost", outside.port)
        writer.write(b"hi")
        writer.close()
        await writer.wait_closed()

    archive = await record(path, go, "loop")
    look_up = socket.getaddrinfo

    def seen(*arguments: Any, **more: Any) -> Any:
        found = look_up(*arguments, **more)
        asked.append(arguments[0])
        return found

    monkeypatch.setattr(socket, "getaddrinfo", seen)
    report = await rerun(build(":memory:", go), archive)
    assert report.divergence is not None
    assert (report.divergence.kind, asked) == ("reach", [])
    assert (await rerun(build(":memory:", go), archive, guard=False)).is_identical
    assert asked == ["localhost"]  # the control


async def test_a_handler_sends_nothing_to_a_store(path, tmp_path):
    other = WorkflowManager(tmp_path / "other.db", name="other")

    async def go() -> None:
        await other.send(WorkflowEvent("hello"))

    archive = await record(path, go, "loop")
    assert len(await other.runs()) == 1
    report = await rerun(build(":memory:", go), archive)
    assert report.divergence is not None
    assert report.divergence.kind == "reach"
    assert "other.db" in report.divergence.message
    assert len(await other.runs()) == 1
    assert (await rerun(build(":memory:", go), archive, guard=False)).is_identical
    assert len(await other.runs()) == 2  # the control
    await other.close()


async def test_reading_and_importing_are_no_way_out(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "just_made_for_this.py").write_text("x = 1")
    archive = await record(path, lambda: None, "loop", "thread")

    def go() -> None:
        sys.modules.pop("just_made_for_this", None)
        import just_made_for_this

        assert just_made_for_this.x == 1
        Path(__file__).read_text()
        Path(os.devnull).write_text("nothing")

    report = await rerun(build(":memory:", go), archive)
    assert report.is_identical
    assert list(tmp_path.glob("__pycache__/just_made_for_this.*"))


async def test_others_on_the_loop_go_on_unguarded(path, outside):
    archive = await record(path, lambda: asyncio.sleep(0.01), "loop")
    other = asyncio.create_task(asyncio.to_thread(outside.append))
    assert (await rerun(build(":memory:", lambda: asyncio.sleep(0.01)), archive)).is_identical
    await other
    outside.append()
    assert outside.seen[1][0][1] == 2
