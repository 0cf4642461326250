"""Fault 6: a web page of another site is not let in; a client that fills in Origin from the URL it connects to is."""

import pytest

from tests.interop.conftest import Node
from tests.rawclient import HandshakeRefused, RawClient


async def test_the_origin_that_netty_sends_is_let_in(node: Node, token: str) -> None:
    """rsocket-java's transport sends the URL's own origin, whatever its user does."""
    origin = ("Origin", f"http://127.0.0.1:{node.ws_port}")
    async with await RawClient.connect_ws(node.ws_port, headers=[origin]) as client:
        client.setup(token)
        assert (await client.ready())["sub"] == "interop"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "http://127.0.0.1", "null", "http://"])
async def test_another_origin_is_refused(node: Node, origin: str) -> None:
    with pytest.raises(HandshakeRefused, match="403"):
        await RawClient.connect_ws(node.ws_port, headers=[("Origin", origin)])
