"""A plugin for pytest: ``pytest_plugins = ["flowstore.testing.plugin"]`` in ``conftest.py``.

It has one option, ``--flowstore-update REASON``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowstore.testing.recorded import UPDATE


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("flowstore").addoption(
        "--flowstore-update",
        metavar="REASON",
        help="Accept the divergences that assert_replays() finds, for this reason: they are "
        "written into a file beside the run. What does not occur any more is taken out of it.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have the tests see the option, those in other processes as well."""
    reason: str | None = config.getoption("flowstore_update")
    if reason is None:
        return
    if not reason.strip() or Path(reason).exists():
        raise pytest.UsageError(
            f"--flowstore-update {reason!r}: say why the divergences are intended, as in "
            '--flowstore-update "totals have VAT since 2.0"'
        )
    before = os.environ.get(UPDATE)
    os.environ[UPDATE] = reason
    config.add_cleanup(lambda: _restore(before))


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(UPDATE, None)
    else:
        os.environ[UPDATE] = before
