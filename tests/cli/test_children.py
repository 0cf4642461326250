"""Child processes: their output, their end, and the board that resets itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.cli.children import end_all, start


async def test_output_comes_by_lines() -> None:
    lines: list[tuple[str, str]] = []
    child = await start("a", (sys.executable, "-c", "print('one'); print('two')"), environ={}, on_line=collect(lines))
    assert await child.wait() == 0
    while len(lines) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert lines == [("a", "one"), ("a", "two")]
    assert not child.running


async def test_a_child_that_resets_itself_is_started_again(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    program = (
        "import os, sys, pathlib; runs = pathlib.Path(os.environ['RUNS']); "
        "count = len(runs.read_text()) if runs.exists() else 0; runs.write_text('x' * (count + 1)); "
        "sys.exit(42 if count < 2 else 7)"
    )
    child = await start("board", (sys.executable, "-c", program), environ={"RUNS": str(runs)}, again=42)
    assert await child.wait() == 7
    assert runs.read_text() == "xxx"


async def test_ends_what_ignores_sigterm() -> None:
    lines: list[tuple[str, str]] = []
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    stubborn = await start("stubborn", (sys.executable, "-c", program), environ={}, on_line=collect(lines))
    polite = await start("polite", (sys.executable, "-c", "import time; time.sleep(60)"), environ={}, again=-15)
    while not lines:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await stubborn.end(grace=0.1)
    assert await stubborn.wait() == -9
    await end_all([polite])
    # Ended on purpose, so not started again.
    assert await polite.wait() == -15
    await polite.end()


def collect(lines: list[tuple[str, str]]):  # type: ignore[no-untyped-def]
    return lambda name, line: lines.append((name, line))
