"""`gateway device` and `gateway enroll` against a running node: from a name to a device that is online."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RunningNode, Shell
from tests.cli.test_simulate import lines_with


@pytest.fixture
def here(node: RunningNode, shell: Shell) -> Shell:
    """A shell on the node's machine."""
    return shell.with_environment(GATEWAY_DATA=str(node.data), GATEWAY_URL=node.url)


async def document(here: Shell, *arguments: str) -> Any:
    result = await here.run(*arguments, "-o", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


async def until_offline(here: Shell, name: str) -> None:
    async with asyncio.timeout(30):
        while True:
            if not (await document(here, "device", "show", name))["online"]:
                return
            await asyncio.sleep(0.05)


async def test_add_prints_all_that_a_device_needs(here: Shell, node: RunningNode) -> None:
    """Name, advertised address, expiry, the one-line credential, a QR code, examples; the line opens a connection."""
    result = await here.run("device", "add", "printed", "--profile", "lamp", "--label", "floor=1", "--ttl", "1h")
    assert result.code == 0, result.err
    lines = result.out.decode().splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["device", "address", "expires", "credential"]
    credential = lines[3].split()[1]
    assert credential.startswith(f"{node.url}#device=printed&token=")
    answer = await here.run("request", "--url", credential, "gateway.time")
    assert answer.code == 0, answer.err
    device = await document(here, "device", "show", "printed")
    assert (device["profile"], device["labels"]) == ("lamp", {"floor": "1"})


@pytest.mark.parametrize(
    ("option", "begins"),
    [("--qr", "device "), ("--env", "GATEWAY_URL=ws://"), ("--micropython", "import asyncio\n"), ("--json", '{"')],
)
async def test_add_in_one_form(here: Shell, option: str, begins: str) -> None:
    result = await here.run("device", "add", f"form{option}"[:20].replace("--", "-"), option)
    assert result.code == 0, result.err
    assert result.out.decode().startswith(begins)


async def test_add_what_cannot_be(here: Shell) -> None:
    """A name that is none, and one that is taken: exit code 1, and which value it is."""
    wrong = await here.run("device", "add", "no blanks")
    assert wrong.code == 1
    assert "/id" in wrong.err
    assert "gateway explain" in wrong.err
    assert (await here.run("device", "add", "twice", "--env")).code == 0
    again = await here.run("device", "add", "twice", "--env")
    assert again.code == 1
    assert "Traceback" not in again.err
    tried = await here.run("device", "add", "tried", "--dry-run")
    assert "nothing was changed" in tried.out.decode()
    assert (await here.run("device", "show", "tried")).code == 1


async def test_a_device_comes_online(here: Shell) -> None:
    """With the address and token that add prints it is that device; it is seen, listed, and can be sent away."""
    added = (await here.run("device", "add", "online-1", "--env", "--route", "telemetry.*")).out.decode()
    environ = dict(line.split("=", 1) for line in added.splitlines())
    device = here.with_environment(**environ)
    del device.environ["GATEWAY_DATA"]
    fleet = await device.start("simulate", "--as", "online-1", "--interval", "50ms")
    await lines_with(fleet, "up", 1)
    assert (await document(here, "device", "show", "online-1"))["online"]
    listed = await document(here, "device", "ls", "-q", "online-1")
    assert [entry["online"] for entry in listed] == [True]
    assert [entry["id"] for entry in await document(here, "device", "ls", "--online", "-q", "online-1")] == ["online-1"]
    assert await document(here, "device", "ls", "--offline", "-q", "online-1") == []
    (connection,) = await document(here, "conn", "ls", "--subject", "online-1")
    assert connection["state"] == "open"
    shown = (await here.run("conn", "show", connection["id"])).out.decode()
    assert "online-1" in shown
    routes = await document(here, "route", "ls", "--subject", "online-1")
    assert [entry["service"] for entry in routes] == ["online-1"]
    resolved = await here.run("route", "resolve", "online-1.set_target")
    assert resolved.code == 0
    assert resolved.out.decode().startswith("ok: ")
    assert "online-1" in resolved.out.decode()
    asked = await here.run("device", "kick", "online-1")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert (await here.run("device", "kick", "online-1", "--yes")).out == b"1 connections of online-1 closed\n"
    await lines_with(fleet, "up", 1)
    disabled = await here.run("device", "disable", "online-1", "--yes")
    assert disabled.out == b"online-1 disabled\n"
    await until_offline(here, "online-1")
    closed = await document(here, "conn", "ls", "--state", "closed", "--subject", "online-1")
    assert len(closed) >= 2
    assert all(entry["reason"] for entry in closed)
    fleet.terminate()
    await asyncio.wait_for(fleet.communicate(), 20)
    assert (await here.run("device", "enable", "online-1")).code == 0


async def test_tokens(here: Shell) -> None:
    """A further token, a new one that ends the others, and none after removal."""
    await here.run("device", "add", "tokens-1", "--env")
    further = (await here.run("device", "token", "tokens-1", "--ttl", "10m")).out.decode().strip()
    assert (await here.run("request", "--token", further, "gateway.time")).code == 0
    rotated = await here.run("device", "rotate", "tokens-1", "--overlap", "0", "--yes")
    assert rotated.code == 0, rotated.err
    new = rotated.out.decode().strip()
    assert (await here.run("request", "--token", new, "gateway.time")).code == 0
    assert (await here.run("device", "rm", "tokens-1", "--yes")).code == 0
    for token in (further, new):
        refused = await here.run("request", "--token", token, "gateway.time")
        assert refused.code == 1, refused.out
    assert (await here.run("device", "show", "tokens-1")).code == 1


async def test_many_at_once(here: Shell, tmp_path: Path) -> None:
    """Good rows are added, wrong ones are named; what export writes import takes."""
    file = tmp_path / "devices.csv"
    file.write_text("id,profile\nbulk-1,lamp\nno blanks,lamp\nbulk-2,lamp\n")
    tried = await here.run("device", "import", str(file), "--dry-run")
    assert tried.code == 1
    assert await document(here, "device", "ls", "-q", "bulk-") == []
    result = await here.run("device", "import", str(file))
    assert result.code == 1
    assert result.out == b"2 devices added, 1 not\n"
    assert "(no blanks)" in result.err
    assert len(await document(here, "device", "ls", "-q", "bulk-", "--profile", "lamp")) == 2
    lines = (await here.run("device", "export")).out.splitlines()
    ours = [line for line in lines if b'"bulk-1"' in line]
    assert len(ours) == 1
    assert (await here.run("device", "rm", "bulk-1", "--yes")).code == 0
    again = await here.run("device", "import", "-", stdin=ours[0] + b"\n")
    assert (again.code, again.out) == (0, b"1 devices added, 0 not\n"), again.err


async def test_listings(here: Shell) -> None:
    """--limit ends a list and says so; json is one array, jsonl a line each, wide has more columns."""
    for number in range(3):
        await here.run("device", "add", f"list-{number}", "--env")
    short = await here.run("device", "ls", "-q", "list-", "--limit", "2")
    assert len(short.out.splitlines()) == 3
    assert short.err == "the first 2; --limit 0 for all\n"
    assert len(await document(here, "device", "ls", "-q", "list-", "--limit", "0")) == 3
    lines = (await here.run("device", "ls", "-q", "list-", "-o", "jsonl")).out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["list-0", "list-1", "list-2"]
    assert b"SERVICES" in (await here.run("device", "ls", "-o", "wide")).out
    assert b"SERVICES" not in (await here.run("device", "ls")).out


async def test_enrolment(here: Shell, node: RunningNode, tmp_path: Path) -> None:
    """A one-time token gives one device its credential, and then no other."""
    token = (await here.run("enroll", "create", "--profile", "lamp")).out.decode().strip()
    assert token.startswith("ge_")
    admin = json.loads((node.data / "runtime.json").read_text())["admin"]
    ca = tmp_path / "ca.pem"
    claimed = await here.run("enroll", "claim", token, admin, "--device", "enrolled-1", "--save-ca", str(ca))
    assert claimed.code == 0, claimed.err
    environ = dict(line.split("=", 1) for line in claimed.out.decode().splitlines())
    assert (environ["GATEWAY_DEVICE_ID"], environ["GATEWAY_URL"]) == ("enrolled-1", node.url)
    assert (await here.run("request", "--token", environ["GATEWAY_TOKEN"], "gateway.time")).code == 0
    assert ca.read_bytes() == (node.data / "identity" / "ca.pem").read_bytes()
    assert (await document(here, "device", "show", "enrolled-1"))["profile"] == "lamp"
    again = await here.run("enroll", "claim", token, admin, "--device", "enrolled-2")
    assert again.code == 1
    unused = await document(here, "enroll", "create", "--uses", "5", "--ttl", "1h")
    listed = {entry["id"]: entry for entry in await document(here, "enroll", "ls")}
    assert listed[unused["enrollment"]["id"]]["uses"] == 5
    assert (await here.run("enroll", "rm", unused["enrollment"]["id"], "--yes")).code == 0
    ended = await here.run("enroll", "claim", unused["token"], admin, "--device", "enrolled-3")
    assert ended.code == 1
