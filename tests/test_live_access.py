"""What the control plane changes reaches connections that are open, within a moment and with its reason (fault 61)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.issuers import NewIssuer
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.conftest import StartNode
from tests.control.key_server import ISSUER, KeyServer
from tests.local_node import LocalNode, call, stream_request, until
from tests.rawclient import RawClient

OPERATOR = Actor("user", "alice")
#: What may pass between a change and its effect.
PROMPTLY_S = 5.0


def control_of(node: LocalNode) -> ControlPlane:
    assert node.node.control is not None
    return node.node.control


async def connected(node: LocalNode, transport: str, *serving: str, token: str | None = None) -> RawClient:
    """A registered device with a token of the control plane."""
    control = control_of(node)
    if token is None:
        await control.devices.create(NewDevice("dev-1", services=["{sub}.*"], routes=["echo.*", "api.*"]), by=OPERATOR)
        token = (await control.credentials.issue("dev-1", by=OPERATOR)).token
    client = await node.connect(transport)
    client.setup(token, serving)
    await client.ready()
    return client


async def _token_id(control: ControlPlane) -> str:
    page = await control.credentials.list("dev-1", type="token")
    return page.items[0].token_id


async def revoke_token(control: ControlPlane) -> None:
    await control.revocations.revoke_token(await _token_id(control), reason="lost", by=OPERATOR)


async def revoke_credential(control: ControlPlane) -> None:
    page = await control.credentials.list("dev-1", type="token")
    await control.credentials.revoke(page.items[0].id, by=OPERATOR)


async def revoke_subject(control: ControlPlane) -> None:
    # The token was issued in this second, and a revocation is for what was issued before it.
    await control.revocations.revoke_subject("dev-1", not_before=time.time() + 1, by=OPERATOR)


async def revoke_key(control: ControlPlane) -> None:
    await control.revocations.revoke_key(control.identity.kid, by=OPERATOR)


async def delete(control: ControlPlane) -> None:
    await asyncio.sleep(1.0 - time.time() % 1.0)
    await control.devices.delete("dev-1", by=OPERATOR)


async def disable(control: ControlPlane) -> None:
    await control.devices.disable("dev-1", by=OPERATOR)


async def rotate(control: ControlPlane) -> None:
    await control.credentials.rotate("dev-1", overlap_s=0.3, by=OPERATOR)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (revoke_token, 4401),
        (revoke_credential, 4401),
        (revoke_subject, 4401),
        (revoke_key, 4401),
        (delete, 4401),
        (rotate, 4401),
        (disable, 4403),
    ],
)
async def test_a_connection_is_closed_when_its_holder_may_not_be_here(
    node: LocalNode, change: Callable[[ControlPlane], Awaitable[None]], code: int
) -> None:
    """fault 61: streams canceled, the connection closed with its reason, within five seconds"""
    control = control_of(node)
    await control.devices.create(NewDevice("dev-1", services=["{sub}.*"]), by=OPERATOR)
    token = (await control.credentials.issue("dev-1", by=OPERATOR)).token
    client = await connected(node, "ws", "dev-1.lamp", token=token)
    caller = await node.client("tcp", "caller")
    if change is not revoke_key:
        number = caller.request("dev-1.lamp.on")
        asked = await client.recv()
        assert isinstance(asked, frames.RequestResponse)
    began = time.monotonic()
    await change(control)
    closed, text = await client.recv_close(PROMPTLY_S)
    assert time.monotonic() - began < PROMPTLY_S
    assert closed == code
    assert text
    last = [frame for frame in client.skipped if isinstance(frame, frames.Error)][-1]
    assert (last.stream_id, last.code) == (0, 0x101)
    if change is not revoke_key:
        told = await caller.recv()
        assert isinstance(told, frames.Error)
        assert (told.stream_id, told.code) == (number, 0x203)
    # Nor does it come back.
    again = await node.connect("ws")
    again.setup(token)
    code_again, _ = await again.recv_close()
    assert code_again == code


async def test_only_who_is_concerned_is_closed(node: LocalNode) -> None:
    control = control_of(node)
    await control.devices.create(NewDevice("dev-2"), by=OPERATOR)
    other = await node.client("tcp", "dev-2", "device")
    client = await connected(node, "tcp")
    await control.devices.disable("dev-1", by=OPERATOR)
    await client.recv_close(PROMPTLY_S)
    assert (await other.ready())["sub"] == "dev-2"


async def test_narrowed_rights_take_routes_and_streams_away(node: LocalNode) -> None:
    """fault 61: role cut mid-connection"""
    control = control_of(node)
    client = await connected(node, "tcp", "dev-1.lamp", "dev-1.door")
    servant = await node.servant()
    caller = await node.client("tcp", "caller")
    assert await call(client) == b"hello"
    client.send(stream_request(number := client.next_stream_id(), "echo.items", b"10", 1))
    first = await client.recv()
    assert isinstance(first, frames.Payload)

    await control.devices.update("dev-1", {"services": ["{sub}.lamp"], "routes": ["api.*"]}, by=OPERATOR)
    ended = await client.recv()
    assert isinstance(ended, frames.Error)
    assert (ended.stream_id, ended.code) == (number, 0x202)
    await until(lambda: servant.got(frames.Cancel))
    refused = client.request("echo.it")
    answer = await client.recv()
    assert isinstance(answer, frames.Error)
    assert (answer.stream_id, answer.code) == (refused, 0x202)
    gone = caller.request("dev-1.door.open")
    nobody = await caller.recv()
    assert isinstance(nobody, frames.Error)
    assert nobody.stream_id == gone
    caller.request("dev-1.lamp.on")
    assert isinstance(await client.recv(), frames.RequestResponse)


async def test_wider_rights_than_the_token_has_need_a_new_token(node: LocalNode) -> None:
    """A token never gives more than it says; what runs is left alone."""
    control = control_of(node)
    client = await connected(node, "tcp")
    await node.servant()
    client.send(stream_request(number := client.next_stream_id(), "echo.items", b"10", 1))
    await client.recv()
    await control.devices.update("dev-1", {"routes": ["*"], "notes": "trusted"}, by=OPERATOR)
    await asyncio.sleep(0)
    client.send(frames.RequestN(number, 1))
    item = await client.recv()
    assert isinstance(item, frames.Payload)
    refused = client.request("other.it")
    answer = await client.recv()
    assert isinstance(answer, frames.Error)
    assert (answer.stream_id, answer.code) == (refused, 0x202)


async def test_a_session_that_waits_for_its_link_ends_too(node: LocalNode) -> None:
    """fault 66: a denial holds for what is parked, too"""
    control = control_of(node)
    await control.devices.create(NewDevice("dev-1"), by=OPERATOR)
    token = (await control.credentials.issue("dev-1", by=OPERATOR)).token
    client = await node.connect("tcp")
    client.setup(token, resume_token=bytes(16))
    await client.ready()
    client.abort()
    await until(lambda: node.counters.sessions_parked == 1)
    await control.devices.disable("dev-1", by=OPERATOR)
    await until(lambda: node.counters.sessions_parked == 0)
    assert not node.residue()


async def test_only_registered_devices_where_that_is_set(start_node: StartNode) -> None:
    node = await start_node({"auth.registered_only": True})
    control = control_of(node)
    client = await node.connect("ws")
    client.setup(node.token("stranger", "device"))
    code, text = await client.recv_close()
    assert (code, text) == (4403, "device is not registered")
    await control.devices.create(NewDevice("stranger"), by=OPERATOR)
    await node.client("tcp", "stranger", "device")
    # An operator with the node's own keys is no device.
    await node.client("tcp", "operator", "admin")


async def test_a_token_of_a_trusted_issuer(node: LocalNode) -> None:
    """Its rights are within the issuer's bounds, and end with the trust."""
    control = control_of(node)
    server = KeyServer()
    server.add_key("one")
    made = await control.issuers.create(NewIssuer(ISSUER, keys=server.document(), routes=["echo.*"]), by=OPERATOR)
    await asyncio.sleep(0)
    await node.servant()
    client = await connected(node, "ws", token=server.token(time.time()))
    assert await call(client) == b"hello"
    number = client.request("other.it")
    refused = await client.recv()
    assert isinstance(refused, frames.Error)
    assert (refused.stream_id, refused.code) == (number, 0x202)
    await control.issuers.delete(made.id, by=OPERATOR)
    code, _ = await client.recv_close(PROMPTLY_S)
    assert code == 4401


async def test_who_was_here_is_noted(node: LocalNode) -> None:
    control = control_of(node)
    client = await connected(node, "tcp")
    node.node._see_who_is_here()
    await control.devices.write_seen()
    first = (await control.devices.get("dev-1")).last_seen_at
    assert first == pytest.approx(time.time(), abs=5)
    await client.close()
    await node.settle()
    node.node._see_who_is_here()
    await control.devices.write_seen()
    assert ((await control.devices.get("dev-1")).last_seen_at or 0) > first
