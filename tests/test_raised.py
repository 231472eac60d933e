"""Errors as text for people: what the exception says, behind its type (`flowstore.cli.raised`)."""

from __future__ import annotations

import asyncio
import json
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from command_line import Called

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.cli.raised import error_text, event_error, type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class NoSpoonError(Exception):
    """An exception with a module path."""


class UnsayableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no")


def _with_notes() -> Exception:
    error = ValueError("no number")
    error.add_note("Hint: no number")
    error.add_note("  indented")
    return error


def _chained() -> Exception:
    error = LookupError("gone")
    error.__cause__ = OSError("gone")
    return error


def _syntax() -> Exception:
    try:
        compile("a b", "prices.py", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


def _misspelt() -> Exception:
    try:
        eval("callabel")  # noqa: S307 - ours
    except NameError as error:
        return error
    raise AssertionError


def _group() -> Exception:
    return ExceptionGroup("both", [ValueError("both (2 sub-exceptions)"), KeyError("x")])


ADVISED = SimpleNamespace(
    error="name 'spon' is not defined",
    traceback='Traceback (most recent call last):\n  File "soup.py", line 1, in <module>\n'
    "NameError: name 'spon' is not defined. Did you mean: 'spoon'?\n",
)


def failed(error: BaseException, text: str | None = None) -> SimpleNamespace:
    """An attempt that ended in an error."""
    try:
        raise error  # noqa: TRY301 - so that it has frames
    except BaseException as raised:  # noqa: BLE001 - whatever it is
        told = "".join(traceback.format_exception(raised))
    return SimpleNamespace(error=str(error) if text is None else text, traceback=told)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: KeyError("spoon"), "KeyError", "KeyError: 'spoon'"),
        (lambda: NoSpoonError("bent"), f"{__name__}.NoSpoonError", "NoSpoonError: bent"),
        (lambda: ValueError("a\n  b\nOSError: a"), "ValueError", "ValueError: a\n  b\nOSError"),
        (lambda: ValueError("ValueError: again"), "ValueError", "ValueError: again"),
        (lambda: RuntimeError("OSError: disk"), "RuntimeError", "RuntimeError: OSError: disk"),
        (lambda: ValueError("x" * 2000), "ValueError", "ValueError: xxx"),
        (_with_notes, "ValueError", "ValueError: no number"),
        (_chained, "LookupError", "LookupError: gone"),
        (_syntax, "SyntaxError", "SyntaxError: invalid syntax (prices.py, line 1)"),
        (_misspelt, "NameError", "NameError: name 'callabel' is not defined"),
        (_group, "ExceptionGroup", "ExceptionGroup: both (2 sub-exceptions)"),
        (
            lambda: ExceptionGroup("outer", [_group()]),
            "ExceptionGroup",
            "ExceptionGroup: outer (1 sub-exception)",
        ),
    ],
)
def test_the_type_is_read_from_the_traceback(
    make: Callable[[], Exception], kind: str, text: str
) -> None:
    error = failed(make())
    assert type_of(error) == kind
    assert (error_text(error) or "").startswith(text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (failed(ValueError(), "ValueError"), "ValueError"),
        (failed(NoSpoonError(), "NoSpoonError"), "NoSpoonError"),
        (
            failed(UnsayableError(), "UnsayableError (its message cannot be shown)"),
            "UnsayableError (its message cannot be shown)",
        ),
        (failed(ValueError("a"), "redacted-1"), "redacted-1"),
        (ADVISED, "NameError: name 'spon' is not defined"),
        (SimpleNamespace(error="no answer", traceback=None), "no answer"),
        (SimpleNamespace(error="no answer", traceback="Traceback …"), "no answer"),
        (SimpleNamespace(error=None, traceback=None), None),
    ],
)
def test_an_error_as_text(error: SimpleNamespace, text: str | None) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("error", '{"exception":"KeyError"}', "KeyError: 'spoon'"),
        ("task.failed", '{"exception":"KeyError"}', "KeyError: 'spoon'"),
        ("mine", '{"exception":"KeyError"}', "'spoon'"),
        ("error", '{"exception":"no spoon"}', "'spoon'"),
        ("error", '{"exception":1}', "'spoon'"),
        ("error", '"KeyError"', "'spoon'"),
        ("error", "{", "'spoon'"),
        ("error", None, "'spoon'"),
    ],
)
def test_events_of_the_engine_have_it_in_their_data(name: str, data: str | None, text: str) -> None:
    assert event_error(SimpleNamespace(name=name, data=data, error="'spoon'")) == text


# --- what the commands show ----------------------------------------------------------------


@pytest.fixture
def kitchen(folder: Path) -> None:
    """A run whose handler finds no spoon, twice."""

    async def cook() -> None:
        async with WorkflowManager(folder / "flowstore.db") as workflow:

            async def look() -> None:
                {}["spoon"]

            @workflow.on("soup", retry=Retry(attempts=2, delay=0))
            async def stir(_event: WorkflowEvent, ctx: Context) -> None:
                await ctx.step("look", look)

            run = workflow.run("soup-1")
            await run.send(WorkflowEvent("soup", id="s"))
            await run.wait(20)

    asyncio.run(cook())


@pytest.mark.usefixtures("kitchen")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("history soup-1", "    error: KeyError: 'spoon'\n"),
        ("why s", "because      stir failed for good at attempt 2: KeyError: 'spoon'\n"),
        ("trace soup-1", " error  KeyError: 'spoon'\n"),
        ("dead list", "  KeyError: 'spoon'\n"),
        ("dead show soup-1", "error           KeyError: 'spoon'\n"),
        ("dead retry --all --error KeyError", "  KeyError: 'spoon'  to be retried  "),
        ("dead retry soup-1", "  KeyError: 'spoon'  retried  "),
        ("show soup-1", "  KeyError: 'spoon'\n"),
        ("show soup-1", "handler 'stir' on 'soup' at 1 failed: KeyError: 'spoon'\n"),
        ("tail --once", "dead by stir at attempt 2 ("),
        ("tail --once", "): KeyError: 'spoon'\n"),
        ("tail --once", " error  KeyError: 'spoon'\n"),
        ("grep spoon --error", "  error of stir at attempt 2: KeyError: 'spoon'\n"),
        ("grep spoon --error", "  error: KeyError: 'spoon'\n"),
    ],
)
def test_commands_tell_the_type(words: str, shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    called = Called(capfd, *words.split())
    assert called.code == 0
    assert shown in called.out


@pytest.mark.usefixtures("kitchen")
def test_json_has_the_error_as_it_is_and_its_type(capfd: pytest.CaptureFixture[str]) -> None:
    typed = ("'spoon'", "KeyError")
    for words in ("history soup-1", "dead list"):
        rows = Called(capfd, *words.split(), "--json").json
        assert {(row["error"], row["error_type"]) for row in rows} == {typed}
    letter = Called(capfd, "dead", "show", "soup-1", "--json").json
    assert (letter["error"], letter["error_type"]) == typed
    assert json.loads(letter["steps"][0]["error"])["type"] == "KeyError"
    (shown,) = Called(capfd, "show", "soup-1", "--json").json["dead"]
    assert (shown["error"], shown["error_type"]) == typed
    matches = Called(capfd, "grep", "spoon", "--error", "--json").json[0]["matches"]
    assert {(each["text"], each["error_type"]) for each in matches} == {typed}
    soup, told = Called(capfd, "trace", "soup-1", "--json").json
    assert (soup["error_type"], told["error"], told["error_type"]) == (None, *typed)
    lines = map(json.loads, Called(capfd, "tail", "--once", "--json").out.splitlines())
    attempts = [line for line in lines if line["kind"] == "attempt"]
    assert {(each["error"], each["error_type"]) for each in attempts} == {typed}
    (row,) = Called(capfd, "dead", "retry", "soup-1", "--json").json
    assert (row["error"], row["error_type"]) == typed
