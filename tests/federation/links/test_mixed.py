"""What links carried in earlier versions is what they carry now; what is too new for this one is refused clearly."""

from __future__ import annotations

import json
import struct

import pytest

from gateway.control.members import CENTRAL
from gateway.federation import items
from gateway.federation.items import Told
from gateway.wire import brokering, frames
from gateway.wire.brokering import BrokerInfo, RouteRemove
from tests.federation.links.cluster import Cluster, answers
from tests.federation.links.test_trust import forger
from tests.rawclient import ConnectionEnded

NODE, ROUTE = bytes(range(16)), bytes(range(16, 32))
HELLO = BrokerInfo(NODE, 1_790_000_000_000, (("name", "edge-7"), ("role", "edge")))
TOLD = Told(ROUTE, NODE, 1_790_000_000_001, "thermo", "kitchen", "device", (("room", "kitchen"),))
WITHDRAWN = RouteRemove(NODE, ROUTE, 1_790_000_000_002)
DIGEST = items.digest_info(NODE, 1_790_000_000_003, 0x1122334455667788, 1)
#: Written by commit 6c817c9, the first with links, and by 962fbf7.
_HELLO = "000000011000" + NODE.hex() + "000001a0c4506c00"
RECORDED = {
    "hello": f"{_HELLO}046e616d6586656467652d3704726f6c650465646765",
    "join": f"0000000000000001000000010800{NODE.hex()}{ROUTE.hex()}000001a0c4506c01"
    "06746865726d6f04726f6f6d876b69746368656e"
    "03737562876b69746368656e0e782e676174657761792e6b696e6406646576696365",
    "remove": f"0000000000000002000000010c00{NODE.hex()}{ROUTE.hex()}000001a0c4506c02",
    "digest": f"0000000000000003{_HELLO[:-2]}0306646967657374903131323233333434353536363737383806726f757465730131",
}


def test_frames_of_earlier_versions() -> None:
    """Both ways: what they sent is understood, and what is sent now is what they understood."""
    said = {
        "hello": brokering.encode(HELLO),
        "join": items.encode(1, TOLD.frame()),
        "remove": items.encode(2, WITHDRAWN),
        "digest": items.encode(3, DIGEST),
    }
    assert {name: data.hex() for name, data in said.items()} == RECORDED
    assert brokering.decode(bytes.fromhex(RECORDED["hello"])) == HELLO
    number, join = items.decode(bytes.fromhex(RECORDED["join"]))
    assert isinstance(join, brokering.RouteJoin)
    assert (number, Told.of(join)) == (1, TOLD)
    assert items.decode(bytes.fromhex(RECORDED["remove"])) == (2, WITHDRAWN)
    assert items.decode(bytes.fromhex(RECORDED["digest"])) == (3, DIGEST)


@pytest.mark.parametrize("version", [(0, 9), (1, 0)])
async def test_a_node_of_a_version_to_come(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    """Another minor version, with tags that nobody knows yet, links. Another major one is refused, with what to do."""
    await cluster.add("central", CENTRAL)
    edge = await cluster.add("edge", parents=("central",), start=False)
    encode = brokering.encode

    def newer(frame: brokering.BrokerFrame) -> bytes:
        more = BrokerInfo(frame.broker_id, frame.timestamp_ms, (*frame.tags, ("from-tomorrow", "x")))  # type: ignore[union-attr]
        return struct.pack(">HH", *version) + encode(more)[4:]

    with monkeypatch.context() as patched:
        patched.setattr(brokering, "encode", newer)
        client = await forger(cluster, edge)
    frame = await client.recv()
    if version[0] == 0:
        # It is asked what it serves, as every link is.
        assert isinstance(frame, frames.RequestStream)
        return
    assert isinstance(frame, frames.Error)
    assert (frame.stream_id, frame.code) == (0, frames.ErrorCode.INVALID_SETUP)
    assert frame.text == (
        "SETUP metadata: broker frame of version 1.0; this node speaks 0.x: upgrade the older node first"
    )
    with pytest.raises(ConnectionEnded):
        await client.recv()


async def test_documents_with_members_that_nobody_knows_yet(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer node says more in its answers; an older one takes what it knows of them."""
    dumps = json.dumps

    def wordier(document: object, **options: object) -> str:
        return dumps(with_more(document), **options)  # type: ignore[arg-type]

    await cluster.add("central", CENTRAL)
    monkeypatch.setattr(json, "dumps", wordier)
    await cluster.add("edge", parents=("central",))
    await cluster.linked("edge")
    await cluster.servant("edge")
    assert await answers(await cluster.client("central"), "echo.it") == b"hello"


def with_more(document: object) -> object:
    if isinstance(document, dict):
        return {**{key: with_more(value) for key, value in document.items()}, "from_tomorrow": [1]}
    return [with_more(each) for each in document] if isinstance(document, list) else document
