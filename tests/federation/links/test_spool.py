"""What waits at an edge that has an uplink: when it waits, where it goes, and that it takes effect once."""

from __future__ import annotations

import json

import pytest

from gateway.control.audit import SYSTEM
from gateway.control.members import CENTRAL
from gateway.errors import ResponderGone
from gateway.forwarding.connection import Connection
from gateway.spool.rules import SpoolRules
from gateway.spooling import depot as depots
from gateway.spooling import outlet as outlets
from gateway.spooling import watch
from gateway.spooling.consignment import Answer, Consignment
from gateway.spooling.crossing import Crossing
from gateway.spooling.depot import Depot
from gateway.wire import frames
from gateway.wire.metadata import decode_composite
from gateway.wire.mimetypes import PRINCIPAL, SPOOLED
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
async def edges(edges: Cluster) -> Cluster:
    """At one of the edges messages wait."""
    await apply(edges, "edge-a")
    return edges


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


# Over the uplink


async def backlog(cluster: Cluster, count: int, subject: str = "phone") -> RawClient:
    """Messages that wait at an edge because nobody serves them."""
    phone = await cluster.client("edge-a", subject)
    before = waiting(cluster, "edge-a")
    phone.send(*(fnf(phone, "historian.write", b"%d" % number) for number in range(count)))
    await until(lambda: waiting(cluster, "edge-a") == before + count)
    return phone


def numbers(frames_got: list[frames.RequestFnf]) -> list[int]:
    return [int(frame.data) for frame in frames_got]


@pytest.mark.parametrize("where", ["central", "edge-b"])
async def test_what_waits_is_handed_over_and_delivered_in_order(edges: Cluster, where: str) -> None:
    """It goes from disk to disk; its receiver is told who sent it, and the id that it got where it was accepted."""
    phone = await backlog(edges, 300)
    historian = await edges.servant(where, "historian")
    await until(lambda: len(historian.got(frames.RequestFnf)) == 300)
    got = historian.got(frames.RequestFnf)
    assert numbers(got) == list(range(300))
    entries = dict(decode_composite(got[0].metadata or b""))
    assert json.loads(entries[PRINCIPAL]) == {"subject": "phone", "kind": "service", "node": "edge-a"}
    marks = [json.loads(dict(decode_composite(frame.metadata or b""))[SPOOLED]) for frame in got]
    assert {mark["node"] for mark in marks} == {edges["edge-a"].running.identity.node_id}
    assert [mark["seq"] for mark in marks] == list(range(1, 301))
    assert not any(mark["redelivered"] for mark in marks)
    await until(lambda: waiting(edges, "edge-a") == 0)
    (figures,) = depot(edges, "edge-a").figures()
    assert (figures.handed_over, figures.delivered) == (300, 300)
    # From now on it goes as any request does.
    outlet = depot(edges, "edge-a").outlets["wait/historian"]
    await until(lambda: not outlet.behind)
    phone.send(fnf(phone, "historian.write", b"300"))
    await until(lambda: len(historian.got(frames.RequestFnf)) == 301)
    assert SPOOLED not in dict(decode_composite(historian.got(frames.RequestFnf)[-1].metadata or b""))
    await until(lambda: waiting(edges, "central") + waiting(edges, where) == 0)


async def test_what_is_new_waits_until_all_of_it_has_been_delivered(edges: Cluster) -> None:
    """Order per key over two nodes: what the parent has yet to deliver is not overtaken."""
    phone = await backlog(edges, 200)
    slow = await edges.client("edge-b", "svc-historian", serving=("historian",), setup={"keepalive_ms": 20_000})
    got: list[int] = []
    sent = 200
    while len(got) < 400:
        frame = await slow.recv(20)
        if isinstance(frame, frames.RequestFnf):
            got.append(int(frame.data))
            if sent < 400:
                phone.send(fnf(phone, "historian.write", b"%d" % sent))
                sent += 1
        elif isinstance(frame, frames.KeepAlive) and frame.respond:
            slow.send(frames.KeepAlive(False, 0, frame.data))
    assert got == list(range(400))


async def test_a_request_that_waits_is_answered_by_a_receipt_and_delivered_as_a_request(edges: Cluster) -> None:
    phone = await edges.client("edge-a")
    assert isinstance(await ask(phone, b"order"), frames.Payload)
    historian = await edges.servant("edge-b", "historian")
    await until(lambda: historian.got(frames.RequestResponse))
    assert [frame.data for frame in historian.got(frames.RequestResponse)] == [b"order"]
    await until(lambda: waiting(edges, "edge-a") + waiting(edges, "central") + waiting(edges, "edge-b") == 0)


async def test_across_a_peer_link(cluster: Cluster) -> None:
    for name in ("central-1", "central-2"):
        await cluster.add(name, CENTRAL)
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    await cluster.add("edge-a", parents=("central-1",))
    await cluster.linked("edge-a")
    await apply(cluster, "edge-a")
    await backlog(cluster, 20)
    historian = await cluster.servant("central-2", "historian")
    await until(lambda: len(historian.got(frames.RequestFnf)) == 20)
    assert numbers(historian.got(frames.RequestFnf)) == list(range(20))
    assert set(depot(cluster, "central-2").outlets) == {"@peer/historian"}


async def test_what_came_across_goes_across_again_when_its_service_has_moved(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A central node got it for who was there, and is by now behind another one: it does not wait there for ever."""
    monkeypatch.setattr(outlets, "DOWN_ALONE_S", 0.2)
    for name in ("central-1", "central-2"):
        await cluster.add(name, CENTRAL)
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    await cluster.add("edge-a", parents=("central-1",))
    await cluster.linked("edge-a")
    await apply(cluster, "edge-a")
    await backlog(cluster, 20)
    # It says nothing, not even that it has read what it was sent.
    silent = await cluster.client("central-2", serving=("historian",))
    await until(lambda: waiting(cluster, "central-2") == 20 and waiting(cluster, "edge-a") == 0)
    await silent.close()
    historian = await cluster.servant("central-1", "historian")
    await until(lambda: len(historian.got(frames.RequestFnf)) == 20)
    assert numbers(historian.got(frames.RequestFnf)) == list(range(20))
    await until(lambda: waiting(cluster, "central-2") + waiting(cluster, "central-1") == 0)


async def test_an_edge_hands_over_what_its_grant_allows(cluster: Cluster) -> None:
    """Fault 68: what the link may not call is refused there, and is lost here, counted."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge-a", parents=("central",), routes=("historian.read",))
    await cluster.linked("edge-a")
    await apply(cluster, "edge-a")
    await backlog(cluster, 3)
    await cluster.servant("central", "historian")
    await until(lambda: waiting(cluster, "edge-a") == 0)
    assert depot(cluster, "edge-a").outlets["wait/historian"].spool.lost == {"forbidden": 3}
    assert waiting(cluster, "central") == 0


async def test_only_nodes_hand_over(edges: Cluster) -> None:
    phone = await edges.client("central")
    number = phone.request("gateway.spool", b"?")
    frame = await phone.recv()
    assert isinstance(frame, frames.Error)
    assert (frame.stream_id, "is for nodes" in frame.text) == (number, True)


async def test_it_is_taken_once_though_it_comes_twice(edges: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 77: the answer is lost after the parent has it on its disk."""
    lost = 0
    hand = Crossing.hand

    async def loses(crossing: Crossing, link: Connection, consignment: Consignment) -> Answer:
        nonlocal lost
        answer = await hand(crossing, link, consignment)
        if consignment.items and lost < 3:
            lost += 1
            raise ResponderGone("lost", reason="test")
        return answer

    monkeypatch.setattr(Crossing, "hand", loses)
    await backlog(edges, 50)
    historian = await edges.servant("edge-b", "historian")
    await until(lambda: len(historian.got(frames.RequestFnf)) >= 50)
    await until(lambda: waiting(edges, "edge-a") + waiting(edges, "central") + waiting(edges, "edge-b") == 0)
    assert numbers(historian.got(frames.RequestFnf)) == list(range(50))
    assert lost == 3
    assert depot(edges, "central").outlets["@downlink/historian"].spool.came_again >= 50


async def test_a_revoked_sender_is_revoked_where_it_arrives(edges: Cluster) -> None:
    await backlog(edges, 2, "thief")
    await backlog(edges, 2, "phone")
    control = edges["central"].running.control
    assert control is not None
    await control.revocations.revoke_subject("thief", reason="stolen", by=SYSTEM)
    historian = await edges.servant("central", "historian")
    await until(lambda: waiting(edges, "edge-a") + waiting(edges, "central") == 0)
    assert numbers(historian.got(frames.RequestFnf)) == [0, 1]


async def test_a_link_that_goes_while_new_requests_are_held(edges: Cluster) -> None:
    """What is held in memory until the next node has delivered goes to the disk when that can no longer be known."""
    phone = await backlog(edges, 5)
    silent = await edges.client("edge-b", "svc-historian", serving=("historian",))
    outlet = depot(edges, "edge-a").outlets["wait/historian"]

    def holds() -> bool:
        phone.send(fnf(phone, "historian.write", b"6"))
        return outlet._held is not None

    await until(holds)
    await until(lambda: waiting(edges, "edge-a") == 0)
    await edges.kill("central")
    assert isinstance(await ask(phone, b"7"), frames.Payload)
    await edges.start("central")
    await silent.close()


async def test_a_large_backlog_does_not_begin_at_once(cluster: Cluster) -> None:
    """All the edges of a region that come back do not come at once; an operator need not wait."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge-a", parents=("central",), more={"spool.start_jitter_s": 3600})
    await cluster.linked("edge-a")
    await apply(cluster, "edge-a")
    await backlog(cluster, 1001)
    historian = await cluster.servant("central", "historian")
    outlet = depot(cluster, "edge-a").outlets["wait/historian"]
    await until(lambda: outlet.spool.in_flight)
    assert not historian.heard
    outlet.replay()
    await until(lambda: len(historian.got(frames.RequestFnf)) == 1001)
    assert numbers(historian.got(frames.RequestFnf)) == list(range(1001))


async def test_a_node_that_takes_nothing_is_an_alarm(edges: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its file has no room for stays where it is, and somebody hears of it; then it takes it after all."""
    monkeypatch.setattr(watch, "REFUSED_S", 0.1)
    monkeypatch.setattr(depots, "FOREIGN_RULES", SpoolRules(max_bytes=100))
    await backlog(edges, 3)
    historian = await edges.servant("central", "historian")
    control = edges["edge-a"].running.control
    assert control is not None
    await until(lambda: [alarm for alarm in control.alarms if alarm.slug == "spool_not_taken"])
    assert waiting(edges, "edge-a") == 3
    depot(edges, "central").outlets["@downlink/historian"].spool.set_rules(SpoolRules())
    depot(edges, "edge-a").outlets["wait/historian"].replay()
    await until(lambda: numbers(historian.got(frames.RequestFnf)) == [0, 1, 2])
    await until(lambda: not [alarm for alarm in control.alarms if alarm.slug == "spool_not_taken"])
