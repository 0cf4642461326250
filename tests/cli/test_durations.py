"""Durations as people write them."""

from __future__ import annotations

import pytest
import typer

from gateway.cli.durations import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("500ms", 0.5), ("15m", 900), ("1h", 3600), ("1h30m", 5400), ("1d", 86400), (10.0, 10)],
)
def test_forms(text: str | float, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1 h", "-5", "1x", "h", "1h5", "1e3", "ms5"])
def test_everything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)
