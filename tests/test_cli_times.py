"""Times as people type them."""

from __future__ import annotations

import pytest
import typer

from flowstore.cli.times import moment_of, span_of

DAY = 86_400 * 1_000_000
NOON = 1_777_636_800 * 1_000_000  # 2026-05-01T12:00Z


@pytest.mark.parametrize(
    ("text", "span"),
    [("45s", 45_000_000), ("90min", DAY // 16), ("36h", DAY * 3 // 2), ("30d", 30 * DAY),
     ("2w", 14 * DAY), ("0d", 0)],
)  # fmt: skip
def test_spans(text: str, span: int):
    assert span_of(text, "--older-than") == span
    assert moment_of(text, "--since", NOON) == NOON - span


@pytest.mark.parametrize(
    "text",
    ["2026-05-01T12:00Z", "2026-05-01T12:00", "2026-05-01 12:00:00", "2026-05-01T14:00+02:00"],
)
def test_moments(text: str):
    assert moment_of(text, "--since") == NOON
    assert moment_of("2026-05-01", "--since") == NOON - DAY // 2


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7 days", "1m", "yesterday", "2026-13-01"])
def test_neither(text: str):
    with pytest.raises(typer.BadParameter, match="no time"):
        moment_of(text, "--since")
    with pytest.raises(typer.BadParameter, match="no span"):
        span_of(text, "--older-than")
