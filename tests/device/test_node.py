"""Devices on a real node: every model from device to device, restarts, tokens, and TLS with the node's own CA."""

from __future__ import annotations

import json
from pathlib import Path

import trustme

from gateway.wire import frames
from tests.conftest import StartNode
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.local_node import LocalNode, until
from tests.rawclient import composite


def address(local: LocalNode, *, secure: bool = False, host: str = "127.0.0.1") -> str:
    return f"{'wss' if secure else 'ws'}://{host}:{local.port('ws')}/rsocket"


def token(local: LocalNode, subject: str = "dev-1", *services: str) -> str:
    return local.token(subject, "device", (subject, *services), ("*",))


async def registered(local: LocalNode, service: str) -> None:
    await until(lambda: any(route.service == service for route in local.node.plane.table), 20)


async def stop(local: LocalNode) -> None:
    """Have the device on the node end its program."""
    client = await local.client()
    client.send(frames.RequestFnf(3, composite("dev-1.stop"), b""))
    await until(lambda: not any(route.service == "dev-1" for route in local.node.plane.table), 20)


async def test_device_to_device(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """All four models both ways, credit end to end, error codes intact, payloads in fragments."""
    credential = token(node, "dev-1", "plant/7/thermo")
    # A fragment more or less at once is chance.
    roomy = interpreter.with_heap("72k") if interpreter.name == "micropython-mpy" else interpreter
    responder = await start(roomy, "responder", address(node), DEVICE_TOKEN=credential)
    await registered(node, "plant/7/thermo")
    caller = await start(
        interpreter.with_heap("96k"), "caller", address(node), DEVICE_ID="dev-2", DEVICE_TOKEN=token(node, "dev-2")
    )
    ready = await caller.expect(sub="dev-2")
    assert "dev-2" in ready["services"]
    await caller.expect(answer="led:on")
    await caller.expect(tagged="led:off")
    await caller.expect(error=["RSocketError", 0x301, "as asked"])
    await caller.expect(nobody=["RSocketError", 0x202])
    await responder.expect(note="forgotten")
    await caller.expect(items=25)
    await caller.expect(totals=[sum(range(i + 1)) for i in range(1, 12)], end=["StopAsyncIteration"])
    await caller.expect(size=600)
    await caller.finish()
    await stop(node)
    assert (await responder.finish())[-1] == {"open": 0, "errors": 1}


async def test_restart_of_the_node(
    start_node: StartNode, interpreter: Interpreter, start: Start, unused_port: int, tmp_path: Path
) -> None:
    """The device is back by itself, with the token it had."""
    where = {"listen.websocket": f"127.0.0.1:{unused_port}"}
    local = await start_node(where, data=tmp_path / "data")
    settings = json.dumps({"backoff_ms": [10, 100]})
    program = await start(interpreter, "supervised", address(local), settings, DEVICE_TOKEN=token(local))
    await program.expect(state="up")
    await local.stop()
    await program.expect(state="down")
    local = await start_node(where, data=tmp_path / "data")
    await program.expect(state="up")
    client = await local.client()
    client.request("dev-1.echo", b"still here")
    answer = await client.recv()
    assert isinstance(answer, frames.Payload)
    assert answer.data == b"still here"
    await stop(local)
    assert (await program.finish())[-1]["stats"]["connects"] == 2


async def test_reboot_displaces_the_dead_connection(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """The same device again, while the node still takes its last connection for alive: the newest wins."""
    credential = token(node)
    slow = json.dumps({"backoff_ms": [60000, 60000]})
    before = await start(interpreter, "supervised", address(node), slow, DEVICE_TOKEN=credential)
    await before.expect(state="up")
    after = await start(interpreter, "supervised", address(node), slow, DEVICE_TOKEN=credential)
    await after.expect(state="up")
    await before.expect(state="down")
    await until(lambda: sum(route.service == "dev-1" for route in node.node.plane.table) == 1)
    before.process.kill()
    await stop(node)
    await after.finish()


async def test_refused_tokens(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """REJECTED_SETUP with a reason for people; a service that the token does not grant."""
    for credential, reason in (
        ("no.token.atall", ""),
        (token(node)[:-8] + "AAAAAAAA", ""),
        (token(node, "dev-9"), "dev-1"),
    ):
        program = await start(interpreter, "refused", address(node), DEVICE_TOKEN=credential)
        line = await program.expect(up=False)
        name, code, text = line["error"]
        assert (name, code) == ("RSocketError", 0x003)
        assert reason in text
        await program.finish()


async def test_tls_with_the_nodes_ca(
    start_node: StartNode, interpreter: Interpreter, start: Start, tmp_path: Path
) -> None:
    """MicroPython speaks TLS 1.2 only. A stranger's CA and a name that is not in the certificate are refused."""
    local = await start_node(dev=False)
    ca = local.node.identity.ca_path
    heap = interpreter.with_heap("72k") if interpreter.name == "micropython-mpy" else interpreter
    program = await start(heap, "secure", address(local, secure=True), ca, "ready", DEVICE_TOKEN=token(local))
    await program.expect(error=None, up=True, sub="dev-1")
    await program.finish()

    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    program = await start(heap, "secure", address(local, secure=True), stranger, "ready", DEVICE_TOKEN=token(local))
    line = await program.expect(up=False)
    assert line["error"][0] not in ("TimeoutError", "RSocketError", "MemoryError")
    await program.finish()


async def test_wrong_host(start_node: StartNode, interpreter: Interpreter, start: Start) -> None:
    local = await start_node({"listen.websocket": "0.0.0.0:0"}, dev=False)
    ca = local.node.identity.ca_path
    url = address(local, secure=True, host="127.0.0.2")
    program = await start(interpreter, "secure", url, ca, "ready", DEVICE_TOKEN=token(local))
    line = await program.expect(up=False)
    assert line["error"][0] not in ("TimeoutError", "RSocketError", "MemoryError")
    await program.finish()
