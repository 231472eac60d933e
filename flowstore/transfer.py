"""What goes to other processes: functions by their names, errors that can be sent back."""

from __future__ import annotations

import importlib
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowstore.errors import ConfigurationError
from flowstore.threads import can_travel, translate

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Named:
    """A function as another process finds it: by the name that its module has it under.

    The name is that of a registered function of this program, never one from the store.
    """

    module: str
    qualname: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Named:
        """Return the name of a function.

        Raises:
            ConfigurationError: it is defined inside another function, or has no name.
        """
        module: object = getattr(function, "__module__", None)
        qualname: object = getattr(function, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(qualname, str) or "<" in qualname:
            shown = qualname if isinstance(qualname, str) else type(function).__name__
            raise ConfigurationError(
                f"{shown} cannot run in another process, which would have to import it by "
                "its name; define it with def at the top level of its module"
            )
        return cls(module, qualname)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, where this is."""
        return find(self.module, self.qualname)(*args, **kwargs)


def find(module: str, qualname: str) -> Any:
    """Return what a module has under a name.

    Raises:
        ConfigurationError: it has nothing there.
    """
    found: Any = importlib.import_module(module)
    try:
        for part in qualname.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ConfigurationError(
            f"{module} has no {qualname} in the process that should run it; define it at the "
            "top level of a module that can be imported, above what starts the program"
        ) from error
    return found


def portable(error: BaseException) -> BaseException:
    """Return the error if it comes back the same, else one that says what it was."""
    if not can_travel(error):
        return translate(error)
    try:
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - written in the same expression
    except Exception:  # noqa: BLE001 - its __init__ may be the user's code
        return translate(error)
    return error if type(twin) is type(error) else translate(error)
