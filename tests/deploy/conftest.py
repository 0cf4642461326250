"""promtool and Prometheus, which tools/install-peers brings where it may.

Without them the tests that need them are deselected, which the end of the run says; with CI=true they stay and fail.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.monitoring import program

Promtool = Callable[..., subprocess.CompletedProcess[str]]
PROGRAMS = ("promtool", "prometheus")

_deselected: list[pytest.Item] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {name for name in PROGRAMS if program(name) is None}
    if not missing or os.environ.get("CI") == "true":
        return
    kept: list[pytest.Item] = []
    for item in items:
        (kept if missing.isdisjoint(getattr(item, "fixturenames", ())) else _deselected).append(item)
    if _deselected:
        config.hook.pytest_deselected(items=_deselected)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _deselected:
        text = f"{len(_deselected)} tests with Prometheus did not run; tools/install-peers brings it"
        terminalreporter.write_sep("!", text, red=True)


def _found(name: str) -> Path:
    found = program(name)
    assert found is not None, f"{name} is not there; tools/install-peers brings it"
    return found


@pytest.fixture
def promtool() -> Promtool:
    """`promtool("check", "rules", path)`: the process when it has ended."""
    path = _found("promtool")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], check=False, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def prometheus() -> Path:
    return _found("prometheus")
