"""`gateway.enroll` on a real node: a one-time token opens a connection that can do one thing, once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.enrolments import REFUSED, NewEnrolment
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode
from tests.rawclient import RawClient

OPERATOR = Actor("user", "alice")


def control_of(node: LocalNode) -> ControlPlane:
    assert node.node.control is not None
    return node.node.control


async def invited(node: LocalNode, **what: Any) -> str:
    _, token = await control_of(node).enrolments.create(NewEnrolment(**what), by=OPERATOR)
    return token


async def newcomer(node: LocalNode, token: str) -> RawClient:
    client = await node.connect("tcp")
    client.setup(token, ("kitchen",))
    await client.ready()
    return client


async def asked(client: RawClient, **claim: Any) -> Any:
    number = client.request("gateway.enroll", json.dumps(claim).encode())
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", -1) == number:
            return json.loads(frame.data) if isinstance(frame, frames.Payload) else frame


async def refusal(node: LocalNode, token: str) -> str:
    """How a node answers a SETUP with this token."""
    client = await node.connect("tcp")
    client.setup(token)
    frame = await client.recv()
    assert isinstance(frame, frames.Error), frame
    return frame.text


@pytest.mark.parametrize("registered_only", [False, True])
async def test_a_device_enrols(start_node: StartNode, registered_only: bool) -> None:
    """fault 64: what the one-time token opens can do nothing else, and the token works once."""
    node = await start_node({"auth.registered_only": registered_only})
    token = await invited(node, services=["{sub}.*"], routes=["api.*"])
    client = await newcomer(node, token)
    assert not [route for route in node.node.plane.table if route.service == "kitchen"]
    client.request("api.anything")
    assert isinstance(await client.recv(), frames.Error)
    answer = await asked(client, token=token, device_id="kitchen", firmware="1.0")
    assert answer.keys() == {"device_id", "token", "expires", "expires_in", "secret"}
    assert answer["device_id"] == "kitchen"
    assert 0 < answer["expires_in"] <= answer["expires"]
    assert (await control_of(node).devices.get("kitchen")).firmware == "1.0"
    device = await node.connect("tcp")
    device.setup(answer["token"])
    await device.ready()
    again = await asked(client, token=token, device_id="porch")
    assert again.text == REFUSED
    assert "token" in await refusal(node, token)


async def test_an_enrolment_that_names_its_device(node: LocalNode) -> None:
    await control_of(node).devices.create(NewDevice("kitchen"), by=OPERATOR)
    token = await invited(node, device_id="kitchen")
    client = await newcomer(node, token)
    assert (await asked(client, token=token, device_id="porch")).text == REFUSED
    assert (await asked(client, token=token))["device_id"] == "kitchen"


async def test_what_is_no_claim(node: LocalNode) -> None:
    """A wrong id does not use the token up; who asks again and again is told to go."""
    token = await invited(node)
    client = await newcomer(node, token)
    for claim in ({}, {"token": 7}, {"token": token, "device_id": "no blanks"}):
        assert (await asked(client, **claim)).code == 0x204
    assert "too many" in (await asked(client, token=token, device_id="kitchen")).text
    client = await newcomer(node, token)
    assert (await asked(client, token=token, device_id="kitchen"))["device_id"] == "kitchen"
    other = await node.client("tcp", "dev-1", "device")
    assert "enrolment" in (await asked(other, token=token)).text


async def test_wrong_revoked_and_a_nodes(node: LocalNode) -> None:
    """The holder is told the same, whatever is wrong, and that at SETUP."""
    enrolments = control_of(node).enrolments
    made, revoked = await enrolments.create(NewEnrolment(), by=OPERATOR)
    await enrolments.revoke(made.id, by=OPERATOR)
    token = await invited(node, uses=2)
    said = {await refusal(node, wrong) for wrong in (revoked, token[:-1] + "~", f"ge_{'0' * 16}_{'A' * 43}", "ge_")}
    assert len(said) == 1


async def test_it_outlives_the_node(start_node: StartNode, tmp_path: Any) -> None:
    node = await start_node(data=tmp_path / "data")
    token = await invited(node, uses=2)
    await asked(await newcomer(node, token), token=token, device_id="first")
    await node.stop()
    node = await start_node(data=tmp_path / "data")
    client = await newcomer(node, token)
    assert (await asked(client, token=token, device_id="second"))["device_id"] == "second"
