"""Loading the user's program: ``--app package.module:workflow``."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from flowstore.manager import WorkflowManager
from flowstore.outside import refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_Made = TypeVar("_Made")

_EXAMPLE = "such as shop.orders:workflow"
_UNDER_MAIN = 'put what it does when it is started under `if __name__ == "__main__":`'


class _Reached(BaseException):
    """The program uses a store while it is loaded; no Exception, so that no one handles it."""


def load(app: str) -> WorkflowManager:
    """Return the workflow that a name stands for; its own store is not opened.

    Modules beside the reader are found: the working directory comes first on the path.

    Args:
        app: ``module:name``, where the name is that of a `WorkflowManager`, or of a function
            that makes one without arguments. The module can also be a path to a file.

    Raises:
        typer.BadParameter: there is none under this name.
    """
    module_name, colon, name = app.rpartition(":")
    if not colon or not module_name or not name:
        raise _refusal(f"{app!r}: name a module and what is in it, {_EXAMPLE}")
    found: Any = _module(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise _refusal(f"{module_name!r} has no {name!r}{_workflows(found)}")
        found = getattr(found, part)
    return found if isinstance(found, WorkflowManager) else _made(found, app)


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise _refusal(f"there is no file {name!r}")
        sys.path.insert(0, str(path.parent))
        name = path.stem
    try:
        return _without_a_store(name, partial(importlib.import_module, name))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        message = f"there is no module {error.name!r}; the working directory is {here}"
        raise _refusal(message) from error
    except Exception as error:
        raise _failed(name, error) from error


def _made(factory: Any, app: str) -> WorkflowManager:
    if not callable(factory):
        raise _refusal(
            f"{app!r} is an object of type {type(factory).__name__}; name a WorkflowManager, or a "
            "function that returns one"
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        message = f"{app!r} cannot be called without arguments ({error}); name one that can"
        raise _refusal(message) from error
    except ValueError:  # it does not say what it takes
        pass
    try:
        made: object = _without_a_store(app, factory)
    except Exception as error:
        raise _failed(app, error) from error
    if inspect.iscoroutine(made):
        made.close()
        raise _refusal(f"{app!r} is a coroutine function; name a plain function, or the workflow")
    if not isinstance(made, WorkflowManager):
        raise _refusal(f"{app!r} returned {type(made).__name__}, no WorkflowManager")
    return made


def _without_a_store(name: str, work: Callable[[], _Made]) -> _Made:
    """Have the user's code do its work, which must not be what its workflow is there for (G12).

    Raises:
        typer.BadParameter: it uses a store, or ends the process.
    """
    reached: list[str] = []

    def refuse(what: str) -> NoReturn:
        reached.append(what)
        raise _Reached

    token = refusal.set(refuse)
    try:
        with redirect_stdout(sys.stderr):  # what it prints is not what was asked for
            made = work()
    except SystemExit as error:
        message = f"{name!r} ends the process when it is loaded (sys.exit({error.code!r}))"
        raise _refusal(f"{message}; {_UNDER_MAIN}") from error
    except BaseException:
        if not reached:
            raise
    else:
        if not reached:
            return made
    finally:
        refusal.reset(token)
    raise _refusal(f"{name!r} uses {reached[0]} when it is loaded; {_UNDER_MAIN}")


def _workflows(found: object) -> str:
    names = [name for name, value in vars(found).items() if isinstance(value, WorkflowManager)]
    return f"; it has {', '.join(map(repr, names))}" if names else ""


def _failed(name: str, error: Exception) -> typer.BadParameter:
    """Say that the user's own code failed, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):  # which says where it is by itself
        place = ""
    return _refusal(f"{name!r} failed: {type(error).__name__}: {error}{place}")


def _refusal(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--app")
