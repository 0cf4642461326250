"""What a node believes of another one, and what it does not: fault 68, and tables that are old."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace

import pytest

from gateway.control.audit import SYSTEM
from gateway.control.members import CENTRAL
from gateway.errors import FederationError
from gateway.federation import items
from gateway.federation.items import Told
from gateway.forwarding.closing import CloseReason
from gateway.forwarding.links import PEER
from gateway.wire import brokering, frames, metadata, mimetypes
from gateway.wire.brokering import BrokerInfo
from tests.federation.links.cluster import Cluster, Place, answers, call, until
from tests.rawclient import ConnectionEnded, RawClient, composite


async def forger(cluster: Cluster, place: Place, *, issuer: str = "", subject: str = "") -> RawClient:
    """Somebody who has the key of an edge, and links as it, without being a node."""
    central = cluster["central"].running
    client = await RawClient.connect_ws(central.websocket_port)
    cluster.clients.append(client)
    async with await place_identity(place) as identity:
        token = identity.identity.mint(subject or identity.identity.node_id, "node", ["*"], ["*"], 60, time.time())
        node = uuid.UUID(identity.identity.node_id).bytes
    info = BrokerInfo(node, int(time.time() * 1000) + 1000, (("name", place.name), ("role", "edge")))
    setup = metadata.encode_composite(
        [
            (mimetypes.AUTHENTICATION, metadata.encode_bearer(token.encode())),
            (mimetypes.BROKER_FRAME, brokering.encode(info)),
        ]
    )
    client.send(frames.Setup(500, 60_000, mimetypes.COMPOSITE, mimetypes.OCTET_STREAM, metadata=setup))
    return client


async def place_identity(place: Place):  # type: ignore[no-untyped-def]
    from gateway.control.plane import ControlPlane

    return await ControlPlane.offline(place.data)


async def subscription(client: RawClient) -> int:
    """The id of the stream on which the central node hears of this link's routes."""
    while True:
        frame = await client.recv()
        if isinstance(frame, frames.RequestStream):
            return frame.stream_id


async def refusal(client: RawClient, number: int) -> frames.Frame:
    while True:
        frame = await client.recv()
        if getattr(frame, "stream_id", 0) == number:
            return frame


def stamped(subject: str, kind: str, node: str) -> list[tuple[str, bytes]]:
    return [(mimetypes.PRINCIPAL, json.dumps({"subject": subject, "kind": kind, "node": node}).encode())]


@pytest.fixture
async def center(cluster: Cluster) -> Cluster:
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",), start=False)
    return cluster


async def test_a_child_speaks_for_nobody_but_its_own(center: Cluster) -> None:
    """A principal that it has not told of, of another kind, or of another node, is refused."""
    echo = await center.servant("central")
    client = await forger(center, center["edge"])
    stream = await subscription(client)
    told = Told(bytes(15) + b"\7", center["central"].running.plane.node_id, 1, "", "alice", "device", ())
    item = items.encode(0, told.frame())
    client.send(frames.Payload(stream, None, item, next=True))
    refused = 0
    for subject, kind, node in (
        ("mallory", "device", "edge"),
        ("alice", "admin", "edge"),
        ("alice", "device", "central"),
    ):
        number = client.next_stream_id()
        request = composite("echo.it", entries=stamped(subject, kind, node))
        client.send(frames.RequestResponse(number, request, b"?"))
        frame = await refusal(client, number)
        assert isinstance(frame, frames.Error), frame
        assert frame.code == frames.ErrorCode.REJECTED
        refused += 1
    assert center["central"].running.plane.counters.refusals["principal_not_below"] == refused
    number = client.next_stream_id()
    twice = composite("echo.it", entries=stamped("alice", "device", "edge") * 2)
    client.send(frames.RequestResponse(number, twice, b"?"))
    assert isinstance(await refusal(client, number), frames.Error)
    assert not echo.got(frames.RequestResponse)
    number = client.next_stream_id()
    client.send(frames.RequestResponse(number, composite("echo.it", entries=stamped("alice", "device", "edge")), b"!"))
    assert isinstance(await refusal(client, number), frames.Payload)


async def test_a_client_stamps_nothing(center: Cluster) -> None:
    echo = await center.servant("central")
    client = await center.client("central", "phone")
    number = client.next_stream_id()
    request = composite("echo.it", entries=stamped("admin", "admin", "edge"))
    client.send(frames.RequestResponse(number, request, b"?"))
    assert isinstance(await refusal(client, number), frames.Payload)
    entries = metadata.decode_composite(echo.got(frames.RequestResponse)[0].metadata)
    said = [json.loads(content)["subject"] for mime, content in entries if mime == mimetypes.PRINCIPAL]
    assert said == ["phone"]


async def test_a_route_id_of_somebody_else_is_not_taken(center: Cluster) -> None:
    await center.servant("central", "vault")
    central = center["central"].running
    (route,) = central.plane.table.service("vault").routes
    client = await forger(center, center["edge"])
    stream = await subscription(client)
    told = Told(route.route_id, uuid.uuid4().bytes, int(time.time() * 2000), "vault", "svc-vault", "service", ())
    client.send(frames.Payload(stream, None, items.encode(0, told.frame()), next=True))
    await client.barrier()
    assert central.plane.table.get(route.route_id) is route


@pytest.mark.parametrize("wrong", ["subject", "removed"])
async def test_who_may_not_link(center: Cluster, wrong: str) -> None:
    edge = center["edge"]
    if wrong == "removed":
        control = center["central"].running.control
        assert control is not None
        await control.members.remove(edge.member.id, by=SYSTEM)
    client = await forger(center, edge, subject="somebody-else" if wrong == "subject" else "")
    frame = await client.recv()
    assert isinstance(frame, frames.Error)
    assert (frame.stream_id, frame.code) == (0, frames.ErrorCode.REJECTED_SETUP)
    with pytest.raises(ConnectionEnded):
        await client.recv()


async def test_a_route_that_is_not_there_any_more(cluster: Cluster) -> None:
    """Fault 82: a table that is behind costs one more look, and no answer that is wrong."""
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b", "edge-c"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    gone, there = await cluster.servant("edge-b", "echo", "one"), await cluster.servant("edge-c", "echo", "two")
    central = cluster["central"].running
    await until(lambda: len(central.plane.table.service("echo") or ()) == 2)
    caller = await cluster.client("central")
    # The service leaves its edge, and the central node is not told.
    edge_b = cluster["edge-b"].running
    (route,) = edge_b.plane.table.service("echo").routes
    table = edge_b.plane.table
    listeners, table._listeners = table._listeners, ()
    table.remove(route)
    table._listeners = listeners
    for _ in range(6):
        assert await call(caller) == b"hello"
    assert not gone.got(frames.RequestResponse)
    assert len(there.got(frames.RequestResponse)) == 6


async def test_a_stream_of_routes_that_lacks_something_begins_again(center: Cluster) -> None:
    """A gap in the numbers, and a digest that differs: told again from the beginning, and nothing is in doubt."""
    await center.start("edge")
    await center.linked("edge")
    await center.servant("edge", "one")
    await center.knows("central", "one")
    (link,) = center["central"].federation.links.values()
    link.intake._expected += 1
    await center.servant("edge", "two")
    await center.knows("central", "two")
    await until(lambda: link.intake.whole)
    assert link.restarts == 1
    told, _ = next(iter(link.intake._told.values()))
    link.intake._drop(told.route_id)
    (uplink,) = center["edge"].federation.links.values()
    assert uplink.feed is not None
    uplink.feed._tell_digest()
    await until(lambda: link.restarts == 2 and link.intake.whole)
    assert link.intake.told(told.route_id) is not None
    assert await answers(await center.client("central"), "one.it") == b"hello"


def test_an_item_survives_its_bytes() -> None:
    told = Told(bytes(16), bytes(16), 12345, "thermo", "t-1", "device", (("zone", "eu"), ("floor", "")))
    number, frame = items.decode(items.encode(7, told.frame()))
    assert number == 7
    assert isinstance(frame, brokering.RouteJoin)
    assert Told.of(frame) == told
    assert Told.of(frame).hash == told.hash
    assert replace(told, kind="service").hash != told.hash


async def test_peers_over_tls(cluster: Cluster) -> None:
    """Port 7879 as in life: the other node's certificate is by an authority that the members know, or there is no link;
    the node proves itself by its token, as over any link."""
    more = {"tls.enabled": True, "node.advertised_url": "wss://localhost:7878/rsocket"}
    for name in ("central-1", "central-2"):
        await cluster.add(name, CENTRAL, more=more)
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    dialled = [link for place in cluster.places.values() for link in place.federation.links.values() if link.dialled]
    assert [link.url.partition("://")[0] for link in dialled] == ["tls"]
    one, two = sorted(cluster.places.values(), key=lambda place: place.running.plane.node_id)
    # The one that dials is told of another authority: it does not trust who answers any more.
    control = one.running.control
    assert control is not None
    other = control.members.find(two.member.id)
    own = control.members.own
    assert other is not None
    assert own is not None
    await control.members.put(replace(other, ca_pem=own.ca_pem, updated_at=time.time()))
    dialled[0].connection.close(CloseReason.DRAINED, "to be dialled again")
    await until(lambda: not two.federation.links)
    membership = one.running.links.membership
    assert membership is not None
    with pytest.raises(FederationError, match=r"(?i)certificate"):
        await membership.peers._dialler.connect(dialled[0].url, PEER)
