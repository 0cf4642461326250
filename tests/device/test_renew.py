"""The next token in time: before the last one has run out, and after, by the proof of who enrolled."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode

import pytest

from tests.conftest import StartNode
from tests.device.conftest import Start
from tests.device.interpreters import Interpreter
from tests.device.test_node import address
from tests.local_node import LocalNode, call
from tests.test_renewal import enrolled, lapsed


@pytest.fixture
async def node(start_node: StartNode) -> LocalNode:
    """No leeway: a token that has run out has run out."""
    return await start_node({"auth.leeway_s": 0})


def expiry(token: str) -> float:
    return float(json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["exp"])


async def test_in_time(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """Over the connection that stands, which outlives the token that it was set up with."""
    first = await enrolled(node, ttl_s=4)
    program = await start(interpreter, "renewing", address(node), first.secret, DEVICE_TOKEN=first.token)
    await program.expect(renew=False, sub="dev-1")
    renewed = await program.line()
    assert expiry(renewed["token"]) > first.expires_at + 3000
    await lapsed(node, first.token)
    client = await node.client()
    assert await call(client, "dev-1.echo", b"there") == b"there"
    await call(client, "dev-1.stop")
    await program.finish()
    again = await start(interpreter, "renewing", address(node), first.secret, DEVICE_TOKEN=renewed["token"])
    await again.expect(renew=False)
    await call(client, "dev-1.stop")
    assert (await again.finish())[-1] == {"connects": 1}


async def test_in_the_grace(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """A device that was away for too long proves itself, before it counts as connected, and is reached as ever."""
    first = await enrolled(node, ttl_s=1)
    await lapsed(node, first.token)
    program = await start(interpreter, "renewing", address(node), first.secret, DEVICE_TOKEN=first.token)
    renewed = await program.line()
    assert expiry(renewed["token"]) > time.time() + 3000
    await program.expect(renew=False, sub="dev-1")
    client = await node.client()
    assert await call(client, "dev-1.echo", b"there") == b"there"
    await call(client, "dev-1.stop")
    assert (await program.finish())[-1] == {"connects": 1}


async def test_without_the_secret(node: LocalNode, interpreter: Interpreter, start: Start) -> None:
    """The proof is another's: the attempt fails, and says why."""
    first = await enrolled(node, ttl_s=1)
    await lapsed(node, first.token)
    stranger = "A" * 43
    program = await start(interpreter, "renewing", address(node), stranger, DEVICE_TOKEN=first.token)
    line = await program.line()
    assert line["error"][0] == "RSocketError"
    await program.finish()
