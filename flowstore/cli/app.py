"""The command line as a whole: what can be typed, and how the program ends.

A command returns what is to be done instead of doing it, so that one place turns whatever
goes wrong into one line and an exit code, and asking for help imports no database. Commands
are declared in rooms by what they are for; what they do is in a module each.
"""

# ruff: noqa: PLC0415 - help and a mistyped option need none of what the commands import

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, cast

import typer

from flowstore.cli import caring, changing, looking, moving, replaying
from flowstore.cli.groups import Sections
from flowstore.cli.options import FAILED, OK, USAGE, Action
from flowstore.errors import FlowstoreError

_INTERRUPTED = 130

_EPILOGUE = (
    "Exit codes: 0 all is well; 1 what was asked for was not found, was refused or failed its "
    "check; 2 the command was not understood."
)

app = typer.Typer(
    name="flowstore",
    cls=Sections,
    help="Look into the runs in a flowstore database, send them events, and look after it.",
    epilog=_EPILOGUE,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _mount(room: typer.Typer, title: str) -> None:
    """Add a room's commands, under a heading in the help."""
    for command in room.registered_commands:
        command.rich_help_panel = title
    for group in room.registered_groups:
        group.rich_help_panel = title
    app.add_typer(room)


_mount(looking.room, "Commands that look")
_mount(changing.room, "Commands that change runs")
_mount(replaying.room, "Commands that run code again")
_mount(moving.room, "Commands that move runs")
_mount(caring.room, "Commands that look after the database")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code.

    Args:
        arguments: the words after the program's name; None for those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    try:
        action = _understand(words or ["--help"])
        code = action()
        sys.stdout.flush()
    except FlowstoreError as error:
        return _complain(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader, such as `head`, has seen enough.
            from flowstore.cli.output import discard

            discard()
            return OK
        return _complain(error.strerror or str(error), FAILED)
    except Exception as error:
        # Typer's errors have no common class that all its versions make public.
        message: Callable[[], str] | None = getattr(error, "format_message", None)
        if isinstance(error, OverflowError):
            message = partial(str, "a number is too large: databases count up to 2**63 - 1")
        if message is None:
            raise
        # Pydantic, with which typer reads what is typed, says so of what is wrong with a value.
        return _complain(message().replace(": Value error, ", ": ", 1), USAGE)
    return code


def _open_streams() -> None:
    """Have standard streams that were closed, as `>&-` does, give and take nothing."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - a device, open to the end


def _understand(words: list[str]) -> Action:
    """Parse the words; `--help` and `--version` have nothing left to do but to end."""
    command = typer.main.get_command(app)
    outcome: Any = command.main(args=words, prog_name="flowstore", standalone_mode=False)
    return cast("Action", outcome) if callable(outcome) else lambda: int(outcome or OK)


def _complain(message: str, code: int) -> int:
    from flowstore.cli.output import discard, printable

    try:
        sys.stdout.flush()
    except OSError:
        discard()
    sys.stderr.write(f"flowstore: {printable(' '.join(message.split()))}\n")
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        from flowstore import __version__

        typer.echo(f"flowstore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
