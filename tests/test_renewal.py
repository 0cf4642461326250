"""`gateway.renew` on a real node: the next token over the connection that stands, and after the last one ran out."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.client import connect
from gateway.control.audit import Actor
from gateway.control.devices import NewDevice
from gateway.control.enrolments import Enrolled, NewEnrolment
from gateway.control.plane import ControlPlane
from gateway.policy.tokens import mint
from gateway.wire import frames
from tests.conftest import StartNode
from tests.local_node import LocalNode, until
from tests.rawclient import RawClient

OPERATOR = Actor("user", "alice")


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """No leeway: a token that has run out has run out."""
    return await start_node({"auth.leeway_s": 0})


def control_of(node: LocalNode) -> ControlPlane:
    assert node.node.control is not None
    return node.node.control


async def enrolled(node: LocalNode, public_key: str | None = None, ttl_s: float = 3600) -> Enrolled:
    control = control_of(node)
    _, token = await control.enrolments.create(NewEnrolment(services=["{sub}.*"], routes=["api.*"]), by=OPERATOR)
    return await control.enrolments.redeem(
        token, device_id="dev-1", public_key=public_key, ttl_s=ttl_s, by=Actor("device", "dev-1")
    )


async def device(node: LocalNode, token: str) -> RawClient:
    client = await node.connect("tcp")
    client.setup(token)
    await client.ready()
    return client


async def renew(client: RawClient, **asked: str) -> Any:
    number = client.request("gateway.renew", json.dumps(asked).encode() if asked else b"")
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", -1) == number:
            return json.loads(frame.data) if isinstance(frame, frames.Payload) else frame


def proof_with_secret(secret: str, challenge: str) -> str:
    key = urlsafe_b64decode(secret + "=")
    return text(hmac.digest(key, b"gateway-renew\n" + challenge.encode(), "sha256"))


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


async def lapsed(node: LocalNode, client_token: str) -> None:
    """Wait until a token has run out."""
    expires = json.loads(urlsafe_b64decode(client_token.split(".")[1] + "=="))["exp"]
    await asyncio.sleep(max(expires - time.time(), 0) + 0.01)


async def test_a_connection_lives_on_under_its_next_token(node: LocalNode) -> None:
    """Without a reconnect: the connection outlives the token that it was set up with."""
    first = await enrolled(node, ttl_s=2)
    client = await device(node, first.token)
    answer = await renew(client)
    assert answer["expires"] > first.expires_at + 3000
    assert 3500 < answer["expires_in"] <= 3600
    connection = node.connection(client)
    assert connection.principal.expires_at == answer["expires"]
    await lapsed(node, first.token)
    await asyncio.sleep(0.1)
    assert (await client.ready())["expires"] == answer["expires"]
    again = await device(node, answer["token"])
    assert (await again.ready())["renew"] is False


async def test_with_the_client_library(node: LocalNode) -> None:
    first = await enrolled(node)
    async with connect(f"ws://127.0.0.1:{node.node.websocket_port}/rsocket", first.token) as gateway:
        answer = json.loads(await gateway.request("gateway.renew"))
    async with connect(f"ws://127.0.0.1:{node.node.websocket_port}/rsocket", answer["token"]) as gateway:
        assert json.loads(await gateway.request("gateway.ready"))["sub"] == "dev-1"


@pytest.mark.parametrize("kind", ["Ed25519", "P-256", "secret"])
async def test_a_token_that_has_run_out_is_renewed_by_proof(node: LocalNode, kind: str) -> None:
    """A device that comes back with an expired credential inside the grace and a valid key can renew."""
    ed25519, p256 = Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())
    pem = None
    if kind != "secret":
        public = (ed25519 if kind == "Ed25519" else p256).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    first = await enrolled(node, pem, ttl_s=1)
    assert (first.secret is None) == (pem is not None)
    await lapsed(node, first.token)
    client = await device(node, first.token)
    assert (await client.ready())["renew"] is True
    challenge = (await renew(client))["challenge"]
    message = b"gateway-renew\n" + challenge.encode()
    if kind == "Ed25519":
        proof = text(ed25519.sign(message))
    elif kind == "P-256":
        proof = text(p256.sign(message, ECDSA(SHA256())))
    else:
        assert first.secret is not None
        proof = proof_with_secret(first.secret, challenge)
    answer = await renew(client, challenge=challenge, proof=proof)
    assert answer["expires_in"] > 3500
    assert (await client.ready())["renew"] is False
    entry = (await control_of(node).audit.list(action="credential.renew")).items[0]
    assert (entry.actor_id, entry.outcome) == ("dev-1", "ok")


async def test_without_its_proof_a_lapsed_device_is_nobody(node: LocalNode) -> None:
    """It serves nothing, nobody reaches it, and it can call nothing but the node's own services."""
    first = await enrolled(node, ttl_s=1)
    await node.servant(name="api")
    await lapsed(node, first.token)
    client = await node.connect("tcp")
    client.setup(first.token, ("dev-1.temperature",))
    ready = await client.ready()
    assert (ready["renew"], ready["services"]) == (True, [])
    assert node.node.plane.table.of_owner(node.connection(client)) == []
    number = client.request("api.read", b"")
    refused = await client.recv()
    assert isinstance(refused, frames.Error)
    assert (refused.stream_id, refused.code) == (number, 0x202)


@pytest.mark.parametrize("wrong", ["proof", "challenge", "another connection", "no proof"])
async def test_a_wrong_proof_gets_nothing(node: LocalNode, wrong: str) -> None:
    """fault 59, fault 63: what was caught on another connection is of no use; the refusal is audited"""
    first = await enrolled(node, ttl_s=1)
    assert first.secret is not None
    await lapsed(node, first.token)
    client = await device(node, first.token)
    other = await device(node, first.token)
    challenge = (await renew(client))["challenge"]
    asked = {"challenge": challenge, "proof": proof_with_secret(first.secret, challenge)}
    if wrong == "proof":
        asked["proof"] = proof_with_secret(text(bytes(32)), challenge)
    elif wrong == "challenge":
        asked["challenge"] = text(bytes(32))
    elif wrong == "another connection":
        client, other = other, client
    else:
        del asked["proof"]
    answer = await renew(client, **asked)
    assert isinstance(answer, frames.Error)
    assert (await client.ready())["renew"] is True
    if wrong == "proof":
        entry = (await control_of(node).audit.list(action="credential.renew")).items[0]
        assert (entry.outcome, entry.reason) == ("refused", "renewal_proof")


async def test_who_cannot_renew(node: LocalNode) -> None:
    control = control_of(node)
    await control.devices.create(NewDevice("dev-2"), by=OPERATOR)
    # Minted with the node's key, but not issued: it may be narrower than the device's record.
    for subject in ("dev-2", "stranger"):
        client = await node.client("tcp", subject, "device")
        answer = await renew(client)
        assert isinstance(answer, frames.Error), subject
    first = await enrolled(node)
    client = await device(node, first.token)
    assert "token" in await renew(client)
    answer = await renew(client)
    assert isinstance(answer, frames.Error)
    assert "one renewal in" in answer.text


async def test_a_lapsed_token_of_nobody_is_refused(start_node: StartNode) -> None:
    """Not registered, deleted, disabled, revoked, or beyond the grace."""
    node = await start_node({"auth.leeway_s": 0, "auth.renewal_grace_s": 3600})
    control = control_of(node)
    identity = node.node.identity
    now = time.time()

    def token(subject: str, ago: float) -> str:
        issuer = identity.issuer
        return mint(
            identity.signing_key, identity.kid, issuer, "gateway", subject, "device", [], [], 10, now - ago - 10
        )

    for name in ("disabled", "deleted", "revoked", "known"):
        await control.devices.create(NewDevice(name), by=OPERATOR)
    await control.devices.disable("disabled", by=OPERATOR)
    await control.devices.delete("deleted", by=OPERATOR)
    await control.revocations.revoke_subject("revoked", by=OPERATOR)
    await asyncio.sleep(0)
    cases = [("stranger", 5.0), ("disabled", 5.0), ("deleted", 5.0), ("revoked", 5.0), ("known", 3700.0)]
    for subject, ago in cases:
        client = await node.connect("tcp")
        client.setup(token(subject, ago))
        frame = await client.recv()
        assert isinstance(frame, frames.Error), subject
        assert frame.code == 0x003
    client = await device(node, token("known", 5.0))
    assert (await client.ready())["renew"] is True


async def test_a_lapsed_device_has_a_minute(node: LocalNode) -> None:
    first = await enrolled(node, ttl_s=1)
    await lapsed(node, first.token)
    client = await device(node, first.token)
    connection = node.connection(client)
    assert connection.principal.expires_at == pytest.approx(time.time() + 60, abs=5)
    await until(lambda: not connection.closed)
