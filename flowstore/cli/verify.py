"""The command ``verify``: whether the events are those that were appended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from flowstore.cli import output
from flowstore.cli.database import looking, require_latest
from flowstore.cli.reading import existing
from flowstore.errors import RunNotFoundError
from flowstore.printable import counted
from flowstore.store.verify import Known, Verified
from flowstore.store.verify import verify as look

if TYPE_CHECKING:
    from flowstore.store.flaws import Flaw

_OPTION = "--against"


def verify(store: str, correlation_id: str | None, *, against: str | None, as_json: bool) -> int:
    """Print what was changed, removed or inserted; 1 if anything was."""
    path = existing(store)
    known = {} if against is None else _noted(against)
    if correlation_id is not None:
        known = {name: each for name, each in known.items() if name == correlation_id}
    with looking(path) as connection:
        require_latest(connection, path)
        found = look(connection, correlation_id, against=known)
    if found is None:
        message = f"{path}: there is no run {correlation_id!r}; `flowstore runs` lists them"
        raise RunNotFoundError(message)
    with output.unread_or_not():
        if as_json:
            output.print_json(_as_json(path, found))
        else:
            _print(path, found)
    return int(bool(found.flaws))


def _noted(file: str) -> dict[str, Known]:
    """Return what an earlier ``verify --json`` has noted of each run."""
    try:
        said: Any = json.loads(Path(file).read_text(encoding="utf-8"))
        runs: list[Any] = said["runs"]
        return {
            _text(run["correlation_id"]): Known(
                _whole(run["head"]), None if run["chain"] is None else bytes.fromhex(run["chain"])
            )
            for run in runs
        }
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}"
        raise typer.BadParameter(message, param_hint=_OPTION) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"{file}: this is not what `flowstore verify --json` has printed"
        raise typer.BadParameter(message, param_hint=_OPTION) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(cast("object", value)) is not int:
        raise TypeError
    return cast("int", value)


def _as_json(path: Path, found: Verified) -> dict[str, Any]:
    return {
        "store": str(path),
        "ok": not found.flaws,
        "events": found.events,
        "flaws": [
            {
                "correlation_id": flaw.correlation_id,
                "position": flaw.position,
                "kind": flaw.kind,
                "message": flaw.message,
            }
            for flaw in found.flaws
        ],
        "runs": [
            {
                "correlation_id": name,
                "head": known.head,
                "chain": None if known.chain is None else known.chain.hex(),
            }
            for name, known in found.runs.items()
        ],
    }


def _print(path: Path, found: Verified) -> None:
    for flaw in found.flaws:
        output.write(f"{_line(flaw)}\n")
    flawed, sound = len(found.flaws), counted(len(found.runs), "run")
    if not flawed:
        output.write(f"{path}: sound: {counted(found.events, 'event')} in {sound}, as appended\n")
    else:
        bad = counted(flawed, "run is", "runs are")
        rest = counted(len(found.runs), "is", "are")
        output.write(f"{path}: {bad} not sound, {rest}\n")


def _line(flaw: Flaw) -> str:
    words = "rows of no run" if flaw.correlation_id is None else f"run {flaw.correlation_id!r}"
    if flaw.position is not None:
        words += f", position {flaw.position}"
    return output.printable(f"{words}: {flaw.kind}: {flaw.message}")
