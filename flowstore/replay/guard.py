"""Keeps a replay within the process: no network, no other programs, no files that are written.

Python says what it is about to do (`sys.addaudithook`). It does not say what goes through a
connection, a file or a pool of processes that is open already, nor what code that is not Python's
does by itself (an event loop, a driver in C or Rust): that is not seen. Nor is what a handler
leaves to others: a thread that was there before and takes its work from a queue, ``atexit``.
"""

from __future__ import annotations

import inspect
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import cache, partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, cast

from flowstore.outside import reach_for, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_NETWORK: Final = {
    "socket.connect": 1,
    "socket.bind": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
    "urllib.Request": 0,
    "http.client.connect": 1,
    "smtplib.connect": 1,
    "ftplib.connect": 1,
}
"""What uses the network, and which argument says where."""

_PROGRAMS: Final = {
    "subprocess.Popen": 1,
    "os.system": 0,
    "os.exec": 0,
    "os.posix_spawn": 0,
    "os.spawn": 1,
    "os.startfile": 0,
    "os.kill": 0,
    "os.killpg": 0,
    "os.fork": -1,
    "os.forkpty": -1,
    "pty.spawn": 0,
    "webbrowser.open": 0,
    "syslog.syslog": 1,
}

_FILES: Final = {
    "os.remove": 0,
    "os.rename": 0,
    "os.mkdir": 0,
    "os.rmdir": 0,
    "os.truncate": 0,
    "os.link": 0,
    "os.symlink": 0,
    "os.chmod": 0,
    "os.chown": 0,
    "os.utime": 0,
    "os.setxattr": 0,
    "os.removexattr": 0,
}

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IMPORTS: Final = "<frozen importlib"
_POOLS: Final = "concurrent.futures.thread"
_MEMORY: Final = ("", b"", ":memory:", b":memory:")


def install() -> None:
    """Have it seen what handlers reach for; nothing is refused to others."""
    _watch()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what a guarded replay reaches for; is told of everything that the process does."""
    refuse = refusal.get()
    if refuse is not None:
        what = _reached_for(event, arguments)
        if what is not None:
            refuse(what)


def _follow(thread: Thread) -> None:
    """Guard a thread that a handler starts; those of pools are told with each call."""
    refuse = refusal.get()
    target = getattr(thread, "_target", None)
    if refuse is not None and getattr(target, "__module__", "") != _POOLS:
        context = Context()
        context.run(refusal.set, refuse)
        thread.run = partial(context.run, thread.run)  # type: ignore[method-assign]


@cache
def _watch() -> None:
    """Begin to watch, for good: a hook cannot be taken back."""
    sys.addaudithook(_hook)
    _wrap()


def _wrap() -> None:
    """See also what Python tells no hook of, and threads, whose contexts are their own."""
    from multiprocessing.process import BaseProcess  # noqa: PLC0415 - who replays nothing needs none

    start, submit, begin = Thread.start, ThreadPoolExecutor.submit, BaseProcess.start

    def start_thread(self: Thread) -> None:
        _follow(self)
        start(self)

    def submit_call(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if refusal.get() is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, copy_context().run, partial(fn, *args, **kwargs))

    def start_process(self: BaseProcess) -> None:
        reach_for("another process (multiprocessing)")
        begin(self)

    Thread.start = start_thread  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_call  # type: ignore[method-assign,assignment]
    BaseProcess.start = start_process  # type: ignore[method-assign]


def _reached_for(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return what leaves the process, None if nothing does."""
    found: str | None = None
    if event == "open":
        found = _opened(*arguments)
    elif event in _FILES:
        if not _is_import():
            found = f"the file {_text(arguments[_FILES[event]])} ({event})"
    elif event in _NETWORK:
        found = f"the network: {_text(arguments[_NETWORK[event]])} ({event})"
    elif event in _PROGRAMS:
        index = _PROGRAMS[event]
        what = "" if index < 0 else f": {_text(arguments[index])}"
        found = f"another program{what} ({event})"
    elif event == "sqlite3.connect" and arguments[0] not in _MEMORY:
        found = f"the database {_text(arguments[0])} ({event})"
    return found


def _opened(path: Any, mode: str | None, flags: int) -> str | None:
    is_written = bool(flags & _WRITING) if mode is None else any(each in mode for each in "wax+")
    if not is_written or isinstance(path, int) or path == os.devnull or _is_import():
        return None
    return f"the file {_text(path)}, to write it"


def _is_import() -> bool:
    """Tell whether it is Python that keeps what it has compiled."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_IMPORTS)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return " ".join(map(_text, cast("list[object]", value)))
    return str(value)
