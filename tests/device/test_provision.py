"""A device's first boot on a real node: from a line of text to a credential of its own, and back to nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.control.audit import Actor
from gateway.control.certificates import fingerprint
from gateway.control.enrolments import NewEnrolment
from gateway.control.snippets import Credential
from tests.conftest import StartNode
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.device.test_node import address, token
from tests.local_node import LocalNode

OPERATOR = Actor("user", "alice")


async def invitation(local: LocalNode, **what: Any) -> str:
    """A line as `gateway enroll create --line` prints it."""
    assert local.node.control is not None
    _, secret = await local.node.control.enrolments.create(NewEnrolment(**what), by=OPERATOR)
    secure = local.node.config.tls.enabled
    pin = f"&ca={fingerprint(local.node.identity.ca_path.read_text())}" if secure else ""
    return f"{address(local, secure=secure)}#enroll={secret}{pin}"


@pytest.mark.parametrize("dev", [True, False], ids=["plain", "tls"])
async def test_enrols_and_forgets(start_node: StartNode, interpreter: Interpreter, start: Start, dev: bool) -> None:
    """Over TLS the authority is fetched from the node and is the one of the line."""
    local = await start_node(dev=dev)
    program = interpreter if dev or interpreter.name != "micropython-mpy" else interpreter.with_heap("72k")
    line = await invitation(local)
    device = await start(program, "provisioned", "lamp-1", LINE=line)
    kept = ["device_id", "expires", "expires_in", "secret", "token", "url", "wifi"]
    await device.expect(failed=None, kept=kept if dev else ["ca", *kept])
    await device.finish()
    device = await start(program, "provisioned")
    await device.expect(sub="lamp-1", services=["lamp-1"], wifi=["ssid", "key"])
    await device.expect(left=[])
    await device.finish()

    again = await start(program, "provisioned", "lamp-2", LINE=line)
    said = await again.expect(kept=["wifi"])
    assert said["failed"][:2] == ["RSocketError", 0x003]
    assert "token" in said["failed"][2]
    await again.finish()


@pytest.mark.parametrize("interpreter", ["micropython-mpy"], indirect=True)
async def test_the_node_names_it(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    device = await start(interpreter, "provisioned", LINE=await invitation(node, device_id="kitchen"))
    await device.expect(failed=None)
    await device.finish()
    device = await start(interpreter, "provisioned")
    await device.expect(sub="kitchen")
    await device.finish()
    other = await start(interpreter, "provisioned", "porch", LINE=await invitation(node, device_id="kitchen"))
    assert (await other.expect(kept=["wifi"]))["failed"][:2] == ["RSocketError", 0x202]
    await other.finish()


@pytest.mark.parametrize("interpreter", ["micropython-mpy"], indirect=True)
async def test_a_credential_line(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """What `gateway device add` prints is kept as it is, without asking the node."""
    given = Credential("dev-1", address(node), token(node), "")
    device = await start(interpreter, "provisioned", LINE=given.line)
    await device.expect(failed=None, kept=["device_id", "token", "url", "wifi"])
    await device.finish()
    device = await start(interpreter, "provisioned")
    await device.expect(sub="dev-1")
    await device.finish()


@pytest.mark.parametrize("interpreter", ["micropython-mpy"], indirect=True)
async def test_another_authority(start_node: StartNode, interpreter: Interpreter, start: Start) -> None:
    """The token is not said to a node that is another one than the line says, and nothing is kept."""
    local = await start_node(dev=False)
    line = (await invitation(local)).rpartition("=")[0] + "=" + "ab" * 32
    device = await start(interpreter.with_heap("72k"), "provisioned", "lamp-1", LINE=line)
    await device.expect(failed=["ValueError"], kept=["wifi"])
    await device.finish()
    assert local.node.control is not None
    (enrolment,) = (await local.node.control.enrolments.list()).items
    assert enrolment.used == 0


async def test_what_leads_nowhere(tmp_path: Path, start: Start, interpreter: Interpreter) -> None:
    """Each says why, and nothing of it is kept. What a power cut left half-written is not read."""
    (tmp_path / "device.json").write_text(json.dumps({"token": "old"}))
    (tmp_path / "device.json~").write_text('{"token": "ne')
    lines = [
        "hello",
        "ws://127.0.0.1:1/rsocket#device=a&ca=",
        "http://127.0.0.1:1/#enroll=ge_x",
        "ws://127.0.0.1:1/rsocket#enroll=ge_x",
    ]
    device = await start(interpreter, "provisioned", LINE="\n".join(lines))
    for failed in (["ValueError"], ["ValueError"], ["ValueError"], ["OSError", "ConnectionRefusedError"]):
        assert (await device.expect(kept=["token", "wifi"]))["failed"][0] in failed
    await device.finish()
    assert json.loads((tmp_path / "device.json").read_text()) == {"token": "old", "wifi": ["ssid", "key"]}
