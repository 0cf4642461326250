"""Edges and a central node: what is behind one edge is reached from another, and from the middle."""

from __future__ import annotations

import json

from gateway.control.members import CENTRAL
from gateway.wire import frames, metadata, mimetypes
from gateway.wire.brokering import Address, Cast
from gateway.wire.brokering import encode as broker_frame
from tests.federation.links.cluster import Cluster, call, refused, until
from tests.local_node import fnf, stream_request
from tests.rawclient import composite


async def test_a_request_goes_up_and_down(edges: Cluster) -> None:
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    assert await call(phone, data=b"hello") == b"hello"
    assert await call(phone, data=b"again") == b"again"
    # The second one is decided by what is known at the edge.
    assert edges["edge-a"].running.plane.table.service("echo") is not None
    entries = metadata.decode_composite(echo.got(frames.RequestResponse)[0].metadata)
    said = [json.loads(content) for mime, content in entries if mime == mimetypes.PRINCIPAL]
    assert said == [{"subject": "phone", "kind": "service", "node": "edge-a"}]


async def test_from_the_middle_and_to_it(edges: Cluster) -> None:
    await edges.servant("edge-b", "lamp")
    await edges.servant("central", "clock")
    await edges.knows("central", "lamp")
    assert await call(await edges.client("central"), "lamp.on", b"1") == b"1"
    assert await call(await edges.client("edge-a"), "clock.now", b"2") == b"2"


async def test_local_beats_remote(edges: Cluster) -> None:
    far, near = await edges.servant("edge-b", "echo", "far"), await edges.servant("edge-a", "echo", "near")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    for _ in range(8):
        await call(phone)
    assert len(near.got(frames.RequestResponse)) == 8
    assert not far.got(frames.RequestResponse)


async def test_by_its_subject(edges: Cluster) -> None:
    await edges.servant("edge-b", "thermo", "t-1")
    await edges.servant("edge-b", "thermo", "t-2")
    await until(lambda: len(edges["central"].running.plane.table.service("thermo") or ()) == 2)
    phone = await edges.client("edge-a")
    address = Address(bytes(16), (("sub", "t-2"),), Cast.UNICAST)
    request = composite("thermo.read", entries=[(mimetypes.BROKER_FRAME, broker_frame(address))])
    number = phone.next_stream_id()
    phone.send(frames.RequestResponse(number, request, b"!"))
    frame = await phone.recv()
    assert isinstance(frame, frames.Payload)
    assert [len(servant.got(frames.RequestResponse)) for servant in edges.servants] == [0, 1]


async def test_fire_and_forget(edges: Cluster) -> None:
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    phone.send(fnf(phone, "echo.it", b"first"), fnf(phone, "echo.it", b"second"))
    await until(lambda: len(echo.got(frames.RequestFnf)) == 2)
    assert [frame.data for frame in echo.got(frames.RequestFnf)] == [b"first", b"second"]


async def test_a_stream_has_credit_end_to_end(edges: Cluster) -> None:
    await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    phone.send(stream_request(phone.next_stream_id(), "echo.it", b"10", 3))
    for _ in range(3):
        assert isinstance(await phone.recv(), frames.Payload)
    phone.send(frames.RequestN(3, 2))
    for _ in range(2):
        assert isinstance(await phone.recv(), frames.Payload)
    await phone.barrier()
    phone.send(frames.Cancel(3))
    await until(lambda: edges.servants[0].got(frames.Cancel))


async def test_a_channel(edges: Cluster) -> None:
    device = await edges.client("edge-b", "device", serving=("chat",))
    await edges.knows("central", "chat")
    phone = await edges.client("edge-a")
    number = phone.next_stream_id()
    phone.send(frames.RequestChannel(number, composite("chat.join"), b"0", initial_n=2))
    asked = await device.recv()
    assert isinstance(asked, frames.RequestChannel)
    assert asked.initial_n == 2
    device.send(frames.RequestN(asked.stream_id, 2))
    assert isinstance(await phone.recv(), frames.RequestN)
    phone.send(frames.Payload(number, None, b"1", next=True), frames.Payload(number, None, b"2", next=True))
    for wanted in (b"1", b"2"):
        item = await device.recv()
        assert isinstance(item, frames.Payload)
        assert item.data == wanted
    device.send(frames.Payload(asked.stream_id, None, b"bye", next=True, complete=True))
    phone.send(frames.Payload(number, None, b"", complete=True))
    last = await phone.recv()
    assert isinstance(last, frames.Payload)
    assert (last.data, last.complete) == (b"bye", True)


async def test_multicast_reaches_every_edge_once(edges: Cluster) -> None:
    lamps = [await edges.servant(at, "lamp", f"lamp-{at}") for at in ("edge-a", "edge-b", "central")]
    await until(lambda: len(edges["central"].running.plane.table.service("lamp") or ()) == 3)
    caller = await edges.client("central")
    address = Address(bytes(16), (("io.rsocket.broker.ServiceName", "lamp"),), Cast.MULTICAST)
    request = composite("lamp.off", entries=[(mimetypes.BROKER_FRAME, broker_frame(address))])
    caller.send(frames.RequestFnf(caller.next_stream_id(), request, b"off"))
    await until(lambda: all(lamp.got(frames.RequestFnf) for lamp in lamps))
    await caller.barrier()
    assert [len(lamp.got(frames.RequestFnf)) for lamp in lamps] == [1, 1, 1]


async def test_nobody_serves_it(edges: Cluster) -> None:
    phone = await edges.client("edge-a")
    error = await refused(phone, "nobody.home")
    assert (error.code, error.text) == (frames.ErrorCode.REJECTED, "no route to nobody.home")


async def test_what_comes_later_is_told(edges: Cluster) -> None:
    """A miss is asked for once; the parent tells by itself when there is somebody."""
    phone = await edges.client("edge-a")
    await refused(phone, "echo.it")
    await edges.servant("edge-b")
    await edges.knows("edge-a", "echo")
    assert await call(phone) == b"hello"


async def test_a_service_that_goes_is_gone_everywhere(edges: Cluster) -> None:
    echo = await edges.servant("edge-b")
    await edges.knows("central", "echo")
    phone = await edges.client("edge-a")
    await call(phone)
    await echo.stop()
    await echo.client.close()
    await until(lambda: edges["edge-a"].running.plane.table.service("echo") is None)
    error = await refused(phone, "echo.it")
    assert error.code == frames.ErrorCode.REJECTED


async def test_with_the_uplink_down_local_goes_on(edges: Cluster) -> None:
    """Fault 80, P6: what is near is served as before, what is far fails at once and says why."""
    await edges.servant("edge-b", "far")
    await edges.servant("edge-a", "near")
    await edges.knows("central", "far")
    phone = await edges.client("edge-a")
    await call(phone, "far.it")
    await edges.kill("central")
    await until(lambda: edges["edge-a"].federation.uplink is None)
    assert await call(phone, "near.it") == b"hello"
    error = await refused(phone, "far.it")
    assert error.code == frames.ErrorCode.REJECTED
    assert error.text.startswith("no route to far.it; uplink down since 20")
    await edges.start("central")


async def test_grants_are_enforced_where_routes_arrive(cluster: Cluster) -> None:
    """An edge offers what its grant says, whatever it tells."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",), services=("plant.*",), routes=("clock.*",))
    await cluster.linked("edge")
    await cluster.servant("edge", "plant.7")
    await cluster.servant("edge", "bank")
    await cluster.servant("central", "clock")
    await cluster.servant("central", "vault")
    await cluster.knows("central", "plant.7")
    central = cluster["central"]
    await until(lambda: central.running.plane.counters.refusals["route_not_granted"] == 1)
    assert central.running.plane.table.service("bank") is None
    phone = await cluster.client("edge")
    assert await call(phone, "clock.now") == b"hello"
    error = await refused(phone, "vault.open")
    assert error.code == frames.ErrorCode.REJECTED
