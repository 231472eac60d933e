"""Errors of a program's own classes, raised by its steps, when another process meets them again."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from command_line import start

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio
from flowstore import WorkflowEvent, WorkflowManager

workflow = WorkflowManager("runs.db", name="till")

class EmptyError(Exception):
    pass

def pay():
    raise EmptyError("none left")

@workflow.on("order")
async def order(event, ctx):
    try:
        await ctx.step("pay", pay)
    except EmptyError as error:
        ctx.state["error"] = str(error)
    await ctx.wait_for("more")
    await ctx.step("pay again", pay)

async def main():
    async for _ in workflow.process(WorkflowEvent("order"), correlation_id="order-7"):
        pass
    async for _ in workflow.process(WorkflowEvent("more"), correlation_id="order-7"):
        pass

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("words", "app"),
    [
        (("places/till.py",), "places.till"),
        (("-m", "places.till"), "places.till"),
        (("till.py",), "till"),
    ],
)
def test_a_program_is_the_module_that_check_imports(
    tmp_path: Path, words: tuple[str, ...], app: str
) -> None:
    """The class that the program calls ``__main__.EmptyError`` is found under its module."""
    check = ("check", "--store", "runs.db", "--app")
    (tmp_path / "places").mkdir()
    (tmp_path / "places" / "till.py").write_text(PROGRAM)
    (tmp_path / "till.py").write_text(PROGRAM)
    (tmp_path / "other.py").write_text(PROGRAM.replace("EmptyError", "OtherError"))
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=60)
    checked = start(*check, f"{app}:workflow", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "1 run of till: 1 identical\n")
    checked = start(*check, "other:workflow", cwd=tmp_path)  # it has no class of that name
    assert checked.returncode == 1
    assert "StepFailedError" in checked.stdout
