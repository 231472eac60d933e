"""Workers in processes of their own, as tests see them."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from programs import environment

CHILD = Path(__file__).with_name("worker_child.py")
DEADLINE = 30.0


class Process:
    """A worker: orders go in, and what it says comes out, in order."""

    def __init__(self, store: str | Path, *options: str) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, CHILD, store, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        self.pid = self.process.pid
        self.said: list[dict[str, Any]] = []
        self._orders = 0
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def tell(self, do: str, **order: Any) -> int:
        """Give an order and do not wait for it; return its number."""
        assert self.process.stdin is not None
        self._orders += 1
        line = json.dumps({"do": do, "number": self._orders, **order})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self._orders

    def ask(self, do: str, **order: Any) -> Any:
        """Give an order and return its answer once it has been carried out."""
        number = self.tell(do, **order)
        return self.expect("done", number=number)["answer"]

    def expect(self, what: str, seconds: float = DEADLINE, **fields: Any) -> dict[str, Any]:
        """Read on until it says this; other things that it says meanwhile are kept."""
        end = time.monotonic() + seconds
        while True:
            said = self.hear(end - time.monotonic())
            assert said is not None, f"{self.pid} did not say {what} {fields}: {self.said[-9:]}"
            assert said["what"] != "failed", said
            if said["what"] == what and fields.items() <= said.items():
                return said

    def hear(self, seconds: float) -> dict[str, Any] | None:
        """Return what it says next, None if that takes longer or it has ended."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if not line:
            self._lines.put(b"")
            return None
        said: dict[str, Any] = json.loads(line)
        self.said.append(said)
        return said

    def hear_out(self) -> list[dict[str, Any]]:
        """Let it end by itself and return all that it ever said."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0
        while self.hear(DEADLINE) is not None:
            pass
        return self.said

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, and read what it said before."""
        self.process.kill()
        self.process.wait()
        while self.hear(DEADLINE) is not None:
            pass
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._reading.join(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue
