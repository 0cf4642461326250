"""README.md: from a clone to a device that is online, with the commands that it prints, in less than two minutes."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.test_simulate import lines_with

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().partition("## A device of your own")[2].partition("A service in Python")[0]
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place where the commands find what `make setup` has made, and leave what they make themselves."""
    directory = tmp_path / "clone"
    directory.mkdir()
    (directory / ".venv").symlink_to(ROOT / ".venv")
    return directory


async def started(command: str, shell: Shell, clone: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        env=shell.environ,
        cwd=clone,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    shell.started.append(process)
    return process


async def test_four_commands_to_a_device_online(shell: Shell, clone: Path) -> None:
    """Typed as printed; the ports alone are others here, since the usual ones may be somebody's."""
    assert len(COMMANDS) == 4
    here = shell.with_environment(
        **{
            f"GATEWAY__{name}": "127.0.0.1:0"
            for name in ("LISTEN__WEBSOCKET", "LISTEN__TCP", "ADMIN__LISTEN", "TELEMETRY__LISTEN")
        }
    )
    begun = time.monotonic()
    setup, run, add, simulate = COMMANDS
    prepared = await started(setup, here, ROOT)
    out, _ = await asyncio.wait_for(prepared.communicate(), 100)
    assert prepared.returncode == 0, out.decode()
    node = await started(run, here, clone)
    printed = await lines_with_all(node, "First run", "password", "Add a device", "others too:", '"ready"')
    assert "admin API" in printed
    added = await started(add, here, clone)
    out, _ = await asyncio.wait_for(added.communicate(), 30)
    assert added.returncode == 0, out.decode()
    device = await started(simulate, here, clone)
    await lines_with(device, "up", 1)
    took = time.monotonic() - begun
    data = ["--data", str(clone / "gateway-data")]
    shown = json.loads((await shell.run("device", "show", "kitchen", *data, "-o", "json")).out)
    assert shown["online"]
    answer = await shell.run("request", "kitchen.set_target", "21.5", *data)
    assert json.loads(answer.out)["target"] == 21.5
    assert took < 120
    for process in (device, node):
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0


async def lines_with_all(process: asyncio.subprocess.Process, *texts: str) -> str:
    """What a process prints, until each text has been in it."""
    assert process.stdout is not None
    found = ""
    async with asyncio.timeout(60):
        while not all(text in found for text in texts):
            line = (await process.stdout.readline()).decode()
            assert line, found
            found += line
    return found
