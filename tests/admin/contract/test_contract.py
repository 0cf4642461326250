"""The whole admin API against its own description: no 5xx, no answer that is not documented (faults 98 and 99).

schemathesis asks a real node over HTTP: first every example and every boundary of every parameter, then what it makes
up, then sequences of operations that follow from each other.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.admin.api import Api

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


async def run(api: Api, log: Path, *arguments: str, seconds: float) -> int:
    """Run schemathesis; return how many cases it tried. Whatever it finds fails the test."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT)
    command = Path(sys.executable).with_name("schemathesis")
    child = await asyncio.create_subprocess_exec(
        command,
        "--config-file",
        HERE / "schemathesis.toml",
        "run",
        f"{api.url}/api/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {api.local_token(seconds + 600)}",
        "--no-color",
        "--continue-on-failure",
        "--request-timeout",
        "20",
        *arguments,
        cwd=log.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.admin.contract.hooks", "PYTHONPATH": str(ROOT)},
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        os.close(output)
    text = await asyncio.to_thread(log.read_text)
    assert code == 0, text[-12_000:]
    (cases,) = re.findall(r"([0-9]+) generated", text)
    return int(cases)


async def test_every_operation_answers_as_it_is_described(api: Api, tmp_path: Path) -> None:
    """Faults 98 and 99, short: a part of what the long run tries."""
    cases = await run(
        api,
        tmp_path / "log",
        *("--phases", "examples,fuzzing,stateful", "--max-examples", "2", "--seed", "1", "--generation-deterministic"),
        seconds=90,
    )
    assert cases > 100


@pytest.mark.soak
async def test_every_operation_answers_as_it_is_described_for_long(api: Api, tmp_path: Path) -> None:
    """Faults 98 and 99: examples, coverage, then fuzzing and sequences until 300 s are over."""
    cases = await run(
        api,
        tmp_path / "log",
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "50", "--max-time", "300"),
        seconds=900,
    )
    print(f"{cases} cases")
    assert cases > 5000
