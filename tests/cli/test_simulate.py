"""`gateway simulate`: a fleet in one process, and real interpreters; both end with all they started."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from gateway.cli.micropython import find
from tests.cli.conftest import RunningNode, Shell, alive, children_of


async def lines_with(process: asyncio.subprocess.Process, text: str, count: int) -> list[str]:
    """Read the process's output until `count` lines have held `text`."""
    found: list[str] = []
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while len(found) < count:
            line = (await process.stdout.readline()).decode()
            if not line:
                assert process.stderr is not None
                raise AssertionError((await process.stderr.read()).decode())
            if text in line:
                found.append(line.rstrip())
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_fleet_in_one_process(node: RunningNode, shell: Shell, number: signal.Signals) -> None:
    to = ("--url", node.url, "--data", str(node.data))
    fleet = await shell.start("simulate", "--devices", "3", "--interval", "50ms", *to)
    up = await lines_with(fleet, "up", 3)
    assert sorted(line.split()[1] for line in up) == ["thermostat-1", "thermostat-2", "thermostat-3"]
    answer = await shell.run("request", *to, "thermostat-2.set_target", "21.5")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["target"] == 21.5
    refused = await shell.run("request", *to, "thermostat-2.set_target", "95")
    assert (refused.code, refused.err) == (1, "gateway: APPLICATION_CODE (0x302): target must be 5 to 30\n")
    readings = (await shell.run("stream", *to, "thermostat-2.readings", "--count", "3")).out.splitlines()
    assert [json.loads(reading)["target"] for reading in readings] == [21.5] * 3
    fleet.send_signal(number)
    _, err = await asyncio.wait_for(fleet.communicate(), 20)
    assert fleet.returncode == 0
    assert "Traceback" not in err.decode()
    standing = json.loads((await shell.run("routes", *to, "-o", "json")).out)
    assert not [entry for entry in standing if entry["service"].startswith("thermostat")]


async def test_one_shared_token(node: RunningNode, shell: Shell) -> None:
    minted = await shell.run(
        "token", "--data", str(node.data), "--subject", "all", "--kind", "service", "--services", "thermostat-*"
    )
    fleet = await shell.start("simulate", "--devices", "2", "--url", node.url, "--token", minted.out.decode().strip())
    await lines_with(fleet, "up", 2)
    standing = json.loads((await shell.run("routes", "--url", node.url, "--data", str(node.data), "-o", "json")).out)
    assert {entry["subject"] for entry in standing if entry["service"].startswith("thermostat")} == {"all"}
    fleet.terminate()
    await asyncio.wait_for(fleet.communicate(), 20)


async def test_real_interpreters(node: RunningNode, shell: Shell) -> None:
    """Three MicroPythons run the board's firmware as it is; all of them end with the command."""
    find()
    to = ("--url", node.url, "--data", str(node.data))
    fleet = await shell.start("simulate", "--micropython", "--devices", "3", *to)
    async with asyncio.timeout(30):
        while True:
            standing = json.loads((await shell.run("routes", *to, "-o", "json")).out)
            if len([entry for entry in standing if entry["service"].startswith("thermostat")]) == 3:
                break
    boards = children_of(fleet.pid)
    assert len(boards) == 3
    answer = await shell.run("request", *to, "thermostat-1.set_target", "21.5")
    assert answer.code == 0, answer.err
    fleet.send_signal(signal.SIGTERM)
    await asyncio.wait_for(fleet.communicate(), 20)
    assert fleet.returncode == 0
    assert not [pid for pid in boards if alive(pid)]


async def test_needs_a_credential(shell: Shell) -> None:
    result = await shell.run("simulate", "--url", "ws://127.0.0.1:1/rsocket")
    assert result.code == 2
    assert "no token" in result.err
