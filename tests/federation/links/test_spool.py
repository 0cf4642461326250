"""What waits at an edge that has an uplink: when it waits, where it goes, and that it takes effect once."""

from __future__ import annotations

import pytest

from gateway.control.audit import SYSTEM
from gateway.control.members import CENTRAL
from gateway.spooling.depot import Depot
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import SPOOLED
from tests.federation.links.cluster import Cluster, call, until
from tests.local_node import fnf
from tests.rawclient import RawClient

WAIT = (
    "kind: Spool\nname: wait\nmatch: [{service: historian, interaction: [fireAndForget, requestResponse]}]\n"
    "minFree: 0%\nmaxBytes: 64MiB\nqueueWhileOffline: {ttl: 1h, onlyIdempotent: false}\n"
)


def depot(cluster: Cluster, name: str) -> Depot:
    found = cluster[name].running.depot
    assert found is not None
    return found


def waiting(cluster: Cluster, name: str) -> int:
    return sum(spool.messages for spool in depot(cluster, name).spools().values())


async def apply(cluster: Cluster, name: str, text: str = WAIT) -> None:
    control = cluster[name].running.control
    assert control is not None
    await control.documents.apply(text, by=SYSTEM)
    await until(lambda: depot(cluster, name).store is not None)


async def ask(client: RawClient, data: bytes) -> frames.Frame:
    number = client.request("historian.write", data)
    while True:
        frame = await client.recv(20)
        if getattr(frame, "stream_id", 0) == number:
            return frame


@pytest.fixture
async def edges(cluster: Cluster) -> Cluster:
    """A central node and two edges; at one of them messages wait."""
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    await apply(cluster, "edge-a")
    return cluster


async def test_the_parent_is_asked_before_anything_waits(edges: Cluster) -> None:
    historian = await edges.servant("edge-b", "historian")
    await edges.knows("central", "historian")
    phone = await edges.client("edge-a")
    phone.send(fnf(phone, "historian.write", b"1"))
    assert await call(phone, "historian.write", b"2") == b"2"
    await until(lambda: len(historian.heard) == 2)
    assert depot(edges, "edge-a").outlets == {}


async def test_it_waits_where_the_parent_knows_nobody(edges: Cluster) -> None:
    phone = await edges.client("edge-a")
    for _ in range(3):
        frame = await ask(phone, b"?")
        assert isinstance(frame, frames.Payload)
        assert SPOOLED in dict(decode_composite(frame.metadata or b""))
    assert waiting(edges, "edge-a") == 3


async def test_it_waits_where_there_is_no_parent(edges: Cluster) -> None:
    await edges.stop("central")
    await until(lambda: edges["edge-a"].federation.uplink is None)
    phone = await edges.client("edge-a")
    assert isinstance(await ask(phone, b"?"), frames.Payload)
    assert waiting(edges, "edge-a") == 1
    await edges.start("central")


async def test_a_document_is_for_clients_of_its_own_node(edges: Cluster) -> None:
    """What came over a link does not wait here: its caller's node has decided about that."""
    await apply(edges, "central")
    historian = await edges.servant("edge-b", "historian")
    await edges.knows("central", "historian")
    other = await edges.client("edge-a", "other")
    assert await call(other, "historian.write", b"1") == b"1"
    await historian.stop()
    await historian.client.close()
    link = edges["edge-a"].federation.uplink
    assert link is not None
    await until(lambda: edges["edge-a"].running.plane.table.service("historian") is None)
    # As if the edge had not heard of it yet.
    frame = await ask(other, b"2")
    assert isinstance(frame, frames.Payload)
    assert waiting(edges, "edge-a") == 1
    assert waiting(edges, "central") == 0
