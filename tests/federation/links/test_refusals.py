"""What one node revokes, the others refuse: at once where they are linked, at the next link where they were not."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest

from gateway.control.audit import SYSTEM
from gateway.control.devices import NewDevice
from gateway.control.members import CENTRAL
from gateway.control.plane import ControlPlane
from gateway.wire import frames
from tests.federation.links.cluster import Cluster, Place, until
from tests.rawclient import ConnectionEnded, RawClient, composite


def control(place: Place) -> ControlPlane:
    found = place.running.control
    assert found is not None
    return found


def token(place: Place, subject: str, token_id: str = "", issued_at: float | None = None) -> str:
    """One that this node has issued."""
    identity = place.running.identity
    now = time.time() if issued_at is None else issued_at
    return identity.mint(subject, "device", ["*"], ["*"], 600, now, token_id=token_id or uuid.uuid4().hex)


async def roaming(cluster: Cluster, home: str, at: str, subject: str, token_id: str = "") -> RawClient:
    """A device of one node at another one."""
    client = await RawClient.connect_ws(cluster[at].running.websocket_port)
    cluster.clients.append(client)
    client.setup(token(cluster[home], subject, token_id, time.time() - 5), ())
    await client.ready()
    return client


async def turned_out(client: RawClient) -> str:
    """Why a client was closed, within 5 s and what a busy machine takes besides."""
    async with asyncio.timeout(30):
        while True:
            try:
                frame = await client.recv(30)
            except ConnectionEnded:
                return ""
            if isinstance(frame, frames.Error) and frame.stream_id == 0:
                return frame.text


async def test_what_an_edge_revokes_of_its_own(pair: Cluster) -> None:
    """Revoked at one edge, turned out at every other node, and not let in again."""
    home = control(pair["edge-1"])
    revocations = home.revocations
    bystander = await roaming(pair, "edge-2", "central-1", "roamer-too")
    for what in ("subject", "token", "device", "credential", "key"):
        await home.devices.create(NewDevice(what), by=SYSTEM)
        credential = (await home.credentials.issue(what, by=SYSTEM)).credential
        clients = [
            await roaming(pair, "edge-1", at, what, credential.token_id) for at in ("central-1", "central-2", "edge-2")
        ]
        if what == "subject":
            await revocations.revoke_subject(what, by=SYSTEM)
        elif what == "token":
            await revocations.revoke_token(credential.token_id, by=SYSTEM)
        elif what == "device":
            await home.devices.disable(what, by=SYSTEM)
        elif what == "credential":
            await home.credentials.revoke(credential.id, by=SYSTEM)
        else:
            await revocations.revoke_key(pair["edge-1"].running.identity.kid, by=SYSTEM)
        for client in clients:
            assert await turned_out(client), what
        again = await RawClient.connect_ws(pair["edge-2"].running.websocket_port)
        pair.clients.append(again)
        again.setup(token(pair["edge-1"], what, credential.token_id, time.time() - 5), ())
        assert await turned_out(again), what
    await bystander.barrier()


async def test_an_edge_speaks_for_its_own_tokens_only(pair: Cluster) -> None:
    """The same subject with another node's token stays; a central node speaks for all of them."""
    mine = await roaming(pair, "edge-1", "central-1", "shared")
    other = await roaming(pair, "edge-2", "central-2", "shared")
    await control(pair["edge-1"]).revocations.revoke_subject("shared", by=SYSTEM)
    assert await turned_out(mine)
    await other.barrier()
    await control(pair["central-1"]).revocations.revoke_subject("shared", by=SYSTEM)
    assert await turned_out(other)
    # What is lifted is accepted again.
    home, far = control(pair["edge-1"]), control(pair["edge-2"])
    made = await home.revocations.revoke_subject("roamer", by=SYSTEM)
    key = ("subject", "roamer")
    await until(lambda: key in far.registry.publication().access.elsewhere)
    await home.revocations.lift(made.id, by=SYSTEM)
    await until(lambda: key not in far.registry.publication().access.elsewhere)
    await (await roaming(pair, "edge-1", "edge-2", "roamer")).barrier()


async def test_who_was_cut_off_hears_of_it_when_it_links(pair: Cluster) -> None:
    """And meanwhile says that what it knows is old. A restart forgets nothing."""
    edge = pair["edge-2"]
    await until(lambda: not edge.running.links.stale())
    roamer = await roaming(pair, "edge-1", "edge-2", "roamer")
    await pair.kill("central-2")
    await until(edge.running.links.stale)
    assert [name for name, _ in edge.running.links.stale()] == ["all others"]
    await until(lambda: [name for name, _ in pair["central-1"].running.links.stale()] == ["central-2"])
    await control(pair["edge-1"]).revocations.revoke_subject("roamer", by=SYSTEM)
    await until(lambda: pair["edge-1"].member.id in control(pair["central-1"]).refusals.ledgers)
    await roamer.barrier()
    await pair.start("central-2")
    assert await turned_out(roamer)
    await until(lambda: not edge.running.links.stale())
    await pair.kill("central-2")
    await pair.stop("edge-2")
    await pair.start("edge-2")
    late = await RawClient.connect_ws(edge.running.websocket_port)
    pair.clients.append(late)
    late.setup(token(pair["edge-1"], "roamer", "", time.time() - 5), ())
    assert "revoked" in await turned_out(late)


async def test_a_member_that_is_removed_is_out_everywhere(pair: Cluster) -> None:
    """Its links close, and who enrolled with it is turned out where it is, on nodes that were told, too."""
    roamer = await roaming(pair, "edge-1", "edge-2", "roamer")
    await control(pair["central-2"]).members.remove(pair["edge-1"].member.id, by=SYSTEM)
    assert await turned_out(roamer)
    number = uuid.UUID(pair["edge-1"].member.id).bytes
    await until(lambda: not any(link.node == number for link in pair["central-1"].federation.links.values()))
    for name in ("central-1", "central-2", "edge-2"):
        assert control(pair[name]).members.find(pair["edge-1"].member.id) is None


async def test_what_a_child_may_not_say(cluster: Cluster) -> None:
    """Of a node that is not below it, or of tokens that are not its own: not taken, and counted."""
    central = await cluster.add("central", CENTRAL)
    await cluster.add("edge-1", parents=("central",))
    await cluster.add("edge-2", start=False)
    await cluster.linked("edge-1")
    pair = cluster
    refusing = central.running.links.membership
    assert refusing is not None
    (link,) = [link for link in central.federation.links.values() if link.name == "edge-1"]
    take = refusing.refusing.take
    entry = [1, "subject", "victim", "", 2e9]
    of_other = {"node": pair["edge-2"].member.id, "base": 2**60, "entries": [entry], "whole": True}
    await take(link, of_other)
    await take(link, of_other | {"node": pair["edge-1"].member.id})
    counted = central.running.plane.counters.refusals
    assert (counted["refusals_not_below"], counted["refusals_not_own"]) == (1, 1)
    assert ("subject", "victim") not in control(central).registry.publication().access.elsewhere
    with pytest.raises(ValueError, match="no refusal"):
        await take(link, {"node": pair["edge-1"].member.id, "base": 2**61, "entries": [[1]], "whole": True})

    client = await cluster.client("central")
    number = client.next_stream_id()
    client.send(
        frames.RequestStream(number, composite("gateway.refusals"), json.dumps({"known": {}}).encode(), initial_n=5)
    )
    frame = await client.recv(30)
    assert isinstance(frame, frames.Error)
    assert frame.text == "gateway.refusals is for nodes"
