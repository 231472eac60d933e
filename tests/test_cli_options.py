"""Options: those that contradict each other are refused with one line, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest
from command_line import Called

from flowstore.cli.options import STATUSES
from flowstore.store.base import Status

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trace order-7 --mermaid --json", "--mermaid: does not go with --json"),
        ("graph --app shop:workflow --mermaid --json", "--mermaid: does not go with --json"),
        ("replay order-7 --app shop:workflow --pdb --json", "--json: the debugger talks"),
        ("replay order-7 --app shop:workflow --break 1 --json", "--json: the debugger talks"),
        ("replay order-7 --app shop:workflow --break 3 --to 2", "--break: 3 comes after --to 2"),
        ("dead retry order-7 --yes", "--yes: goes with --all"),
        ("dead retry order-7 --handler pay", "--handler: goes with --all"),
        ("dead retry order-7 1 ship --handler pay", "--handler: goes with --all"),
        ("dead discard order-7 --error bank", "--error: goes with --all"),
        ("dead discard order-7 1 --all", "name one by RUN and POSITION, or give --all"),
        ("complete TOKEN 1 --error no", "give the result or --error, one of them"),
        ("export order-7 --all", "not both"),
        ("check --app shop:workflow --update accepted.toml", "--update: --update FILE and"),
        ("check --app shop:workflow --reason intended", "--update: --update FILE and"),
    ],
)
def test_pairs_that_contradict_each_other(
    words: str, says: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    called = Called(capfd, *words.split())
    assert (called.code, called.out) == (2, "")
    assert says in called.err
    assert called.err.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_status_takes_every_status_that_there_is() -> None:
    """They are written down twice, so that `--help` needs no store."""
    assert get_args(Status) == STATUSES
