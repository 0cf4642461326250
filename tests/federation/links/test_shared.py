"""Central nodes that share a table on three real nats-servers: who is behind which, and what if that changes."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.control.members import CENTRAL
from gateway.errors import FederationError
from gateway.federation.nats import credentials
from gateway.federation.sharing import Sharing
from gateway.wire import frames, mimetypes
from gateway.wire.brokering import Address, Cast, RouteSetup
from gateway.wire.brokering import encode as broker_frame
from tests.federation.links.cluster import Cluster, answers, call, refused, until
from tests.federation.nats_cluster import Administrator, NatsCluster, prepare
from tests.local_node import Servant
from tests.rawclient import composite, route_setup

pytestmark = pytest.mark.xdist_group("nats")


@pytest.fixture
async def nats(running_cluster: NatsCluster) -> AsyncIterator[NatsCluster]:
    await prepare(running_cluster)
    yield running_cluster
    running_cluster.heal()


class Centre:
    """Central nodes with one table, and an edge at each of the first two."""

    def __init__(self, cluster: Cluster, nats: NatsCluster) -> None:
        self.cluster = cluster
        self.nats = nats

    def engine(self, name: str) -> dict[str, object]:
        return {
            "federation.engine": "nats",
            "federation.nats_servers": tuple(self.nats.urls),
            "federation.nats_nkey_file": self.nats.seeds[name],
        }

    async def add(self, name: str) -> None:
        await self.cluster.add(name, CENTRAL, more=self.engine(name))

    def sharing(self, name: str) -> Sharing:
        membership = self.cluster[name].running.links.membership
        assert membership is not None
        assert membership.sharing is not None
        return membership.sharing

    async def edge(self, name: str, *parents: str) -> None:
        await self.cluster.add(name, parents=parents)
        await self.cluster.linked(name)

    async def sees(self, name: str, device: str, at: str) -> None:
        """Wait until a central has found a device at an edge."""
        table = self.sharing(name).table

        def found() -> bool:
            place = table.device(device)
            return place is not None and place.edge == at

        await until(found)


@pytest.fixture
async def centre(cluster: Cluster, nats: NatsCluster) -> Centre:
    centre = Centre(cluster, nats)
    for name in ("c1", "c2"):
        await centre.add(name)
    await cluster.introduce_addresses()
    await cluster.meshed("c1", "c2")
    await centre.edge("edge-a", "c1")
    await centre.edge("edge-b", "c2")
    return centre


async def test_a_phone_asks_a_device_behind_another_central(centre: Centre) -> None:
    cluster = centre.cluster
    door = await cluster.servant("edge-b", "door", "door-1")
    await cluster.servant("edge-b", "attic", "attic-1")
    await centre.sees("c1", "service/door-1", "edge-b")
    phone = await cluster.client("edge-a")
    assert await answers(phone, "door.open") == b"hello"
    assert len(door.got(frames.RequestResponse)) == 1
    # Nothing is known there but what was asked for.
    services = {name for name, _ in cluster["c1"].running.plane.table.services()} - {"gateway"}
    assert services == {"door"}
    await door.stop()
    await door.client.close()
    await until(lambda: cluster["edge-a"].running.plane.table.service("door") is None)
    assert (await refused(phone, "door.open")).code == frames.ErrorCode.REJECTED
    # Who comes later is found without being looked for again.
    await cluster.servant("edge-b", "door", "door-1")
    await cluster.knows("edge-a", "door")
    assert await call(phone, "door.open") == b"hello"


async def test_by_subject_and_by_multicast(centre: Centre) -> None:
    cluster = centre.cluster
    lamps = [await cluster.servant(at, "lamp", f"lamp-{at}") for at in ("edge-a", "edge-b", "c2")]
    await centre.sees("c1", "service/lamp-edge-b", "edge-b")
    await centre.sees("c1", "service/lamp-c2", "c2")
    await until(lambda: len(centre.sharing("c1").table.service("lamp")) == 3)
    phone = await cluster.client("c1")
    address = Address(bytes(16), (("sub", "lamp-c2"),), Cast.UNICAST)
    request = composite("lamp.on", entries=[(mimetypes.BROKER_FRAME, broker_frame(address))])
    phone.send(frames.RequestResponse(phone.next_stream_id(), request, b"!"))
    assert isinstance(await phone.recv(), frames.Payload)
    assert [len(lamp.got(frames.RequestResponse)) for lamp in lamps] == [0, 0, 1]
    address = Address(bytes(16), (("io.rsocket.broker.ServiceName", "lamp"),), Cast.MULTICAST)
    request = composite("lamp.off", entries=[(mimetypes.BROKER_FRAME, broker_frame(address))])
    phone.send(frames.RequestFnf(phone.next_stream_id(), request, b"off"))
    await until(lambda: all(lamp.got(frames.RequestFnf) for lamp in lamps))
    assert [len(lamp.got(frames.RequestFnf)) for lamp in lamps] == [1, 1, 1]


async def test_a_service_that_has_its_devices_name(centre: Centre) -> None:
    """The table has one name for all that are alike, and finds each by its device."""
    cluster = centre.cluster
    phone = await cluster.client("edge-a")
    assert (await refused(phone, "d-1.lamp.on")).code == frames.ErrorCode.REJECTED
    for name in ("d-1", "d-2"):
        client = await cluster.client("edge-b", name, "device", (f"{name}.lamp",))
        cluster.servants.append(Servant(client, f"{name}.lamp"))
    for lamp, name in zip(cluster.servants, ("d-1", "d-2"), strict=True):
        assert await answers(phone, f"{name}.lamp.on") == b"hello"
        assert len(lamp.got(frames.RequestResponse)) == 1
    table = centre.sharing("c1").table
    assert [offered.place.edge for offered in table.service("{sub}.lamp")] == ["edge-b"]
    assert not table.service("d-1.lamp")
    # It serves something else, too, from now on.
    fan = broker_frame(RouteSetup(uuid.uuid4().bytes, "d-1.fan", ()))
    cluster.servants[0].client.request("gateway.register", fan)
    assert await answers(phone, "d-1.fan.on") == b"hello"


async def test_by_tags_that_the_table_does_not_know(centre: Centre) -> None:
    """Peers are asked, and asked again when nobody had it a moment ago."""
    cluster = centre.cluster
    asked = composite("lamp.on", entries=[(mimetypes.BROKER_FRAME, broker_frame(_in_the("attic")))])
    phone = await cluster.client("edge-a")
    phone.send(frames.RequestResponse(phone.next_stream_id(), asked, b"!"))
    assert isinstance(await phone.recv(), frames.Error)
    for room in ("attic", "kitchen"):
        serving = route_setup("lamp", room=room)
        client = await cluster.client("edge-b", f"lamp-{room}", serving=(serving,))  # type: ignore[arg-type]
        cluster.servants.append(Servant(client, "lamp"))
    frame: object = None
    async with asyncio.timeout(30):
        while not isinstance(frame, frames.Payload):
            phone.send(frames.RequestResponse(phone.next_stream_id(), asked, b"!"))
            frame = await phone.recv()
    assert [len(lamp.got(frames.RequestResponse)) for lamp in cluster.servants] == [1, 0]
    route_id = cluster["edge-b"].running.plane.table.routes_of_subject("lamp-kitchen")[0].route_id
    by_id = Address(bytes(16), (("io.rsocket.broker.RouteId", str(uuid.UUID(bytes=route_id))),), Cast.UNICAST)
    request = composite("lamp.on", entries=[(mimetypes.BROKER_FRAME, broker_frame(by_id))])
    phone.send(frames.RequestResponse(phone.next_stream_id(), request, b"!"))
    assert isinstance(await phone.recv(), frames.Payload)
    assert [len(lamp.got(frames.RequestResponse)) for lamp in cluster.servants] == [1, 1]


def _in_the(room: str) -> Address:
    return Address(bytes(16), (("io.rsocket.broker.ServiceName", "lamp"), ("room", room)), Cast.UNICAST)


async def test_a_device_that_moves_between_centrals(centre: Centre) -> None:
    """Its session of before is closed, at whichever edge it was (fault 59)."""
    cluster = centre.cluster
    old = await cluster.client("edge-a", "d-1", "device", ("d-1.lamp",))
    await centre.sees("c2", "d-1", "edge-a")
    new = await cluster.client("edge-b", "d-1", "device", ("d-1.lamp",))
    assert await old.recv_close() == (4409, "d-1 has connected to another node")
    await centre.sees("c1", "d-1", "edge-b")
    await new.ready()
    here = await cluster.client("c1", "d-1", "device", ("d-1.lamp",))
    assert await new.recv_close() == (4409, "d-1 has connected to another node")
    await here.ready()


async def test_an_edge_goes_to_another_parent_and_keeps_its_life(centre: Centre) -> None:
    cluster = centre.cluster
    await centre.edge("edge-c", "c1", "c2")
    federation = cluster["edge-c"].federation
    await until(lambda: len(federation.links) == 2 and federation.epoch)
    assert federation.uplink is not None
    before, epoch = federation.uplink.name, federation.epoch
    after = "c2" if before == "c1" else "c1"
    await cluster.servant("edge-c", "door")
    await centre.sees(after, "service/svc-door", "edge-c")
    membership = cluster["edge-c"].running.links.membership
    assert membership is not None
    assert membership.parents.move()
    await until(lambda: (place := centre.sharing(before).table.edge("edge-c")) is not None and place.node == after)
    assert federation.epoch == epoch
    assert await answers(await cluster.client(before), "door.open") == b"hello"


async def test_a_bucket_that_was_emptied_fills_again(centre: Centre) -> None:
    cluster = centre.cluster
    await cluster.servant("edge-b", "door")
    await centre.sees("c1", "service/svc-door", "edge-b")
    phone = await cluster.client("edge-a")
    assert await answers(phone, "door.open") == b"hello"
    async with Administrator(centre.nats) as administrator:
        await administrator.fresh_bucket()
        assert await call(phone, "door.open") == b"hello"
        await until(lambda: all(centre.sharing(name).table.fresh for name in ("c1", "c2")))
        await until(lambda: not centre.sharing("c2").table.status().dirty)
    await centre.add("c3")
    await centre.sees("c3", "service/svc-door", "edge-b")


async def test_an_engine_that_can_never_work_ends_the_start(
    cluster: Cluster, nats: NatsCluster, tmp_path: Path
) -> None:
    """It says what to do, and leaves nothing open."""
    credentials.make(tmp_path / "stranger")
    wrong_key = {"federation.nats_nkey_file": tmp_path / "stranger"}
    async with Administrator(nats) as administrator:
        await administrator.client.call("$JS.API.STREAM.DELETE.KV_rt", seconds=10)
    for more, said in ((wrong_key, "federation.nats_nkey_file"), ({}, "gateway engine init")):
        place = await cluster.add("c1", CENTRAL, more=Centre(cluster, nats).engine("c1") | more, start=False)
        with pytest.raises(FederationError, match=said):
            await cluster.start("c1")
        assert not any(listener.accepting for listener in place.running.listeners.values())
        place.node = None
        del cluster.places["c1"]
        shutil.rmtree(place.data)
