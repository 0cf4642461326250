"""Several parents, and lines that break: who is served by whom, and how soon again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.control.members import CENTRAL
from gateway.federation.parents import LEFT_S
from gateway.wire import frames
from tests.federation.links.cluster import Cluster, answers, call, refused, until
from tests.federation.links.proxy import Line


@pytest.fixture
async def twins(cluster: Cluster) -> Cluster:
    """Two central nodes with a link between them, and an edge that has both for parents."""
    await cluster.add("central-1", CENTRAL, start=False)
    await cluster.add("central-2", CENTRAL, start=False)
    await cluster.start("central-1")
    await cluster.start("central-2")
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    await cluster.add("edge", parents=("central-1", "central-2"))
    await cluster.linked("edge")
    federation = cluster["edge"].federation
    await until(lambda: len(federation.links) == 2)
    return cluster


def other(name: str) -> str:
    return "central-2" if name == "central-1" else "central-1"


async def test_one_parent_is_used_and_one_is_warm(twins: Cluster) -> None:
    await twins.servant("edge")
    uplink = twins["edge"].federation.uplink
    assert uplink is not None
    used, warm = twins[uplink.name], twins[other(uplink.name)]
    # Both have heard of it; the warm one has it from its peer, not from the edge.
    (spare,) = (link for link in warm.federation.links.values() if link.kind == "downlink")
    await until(lambda: len(spare.intake) == 1)
    assert not spare.intake.active
    assert [route.owner.kind for route in warm.running.plane.table if route.service == "echo"] in ([], ["peer"])
    await twins.knows(warm.name, "echo")
    assert [route.owner.kind for route in warm.running.plane.table if route.service == "echo"] == ["peer"]
    assert [route.owner.kind for route in used.running.plane.table if route.service == "echo"] == ["downlink"]


async def test_the_warm_parent_takes_over_at_once(twins: Cluster) -> None:
    """A central node that dies: no handshake, no snapshot; what was not in flight succeeds on retry."""
    await twins.servant("edge")
    edge = twins["edge"].federation
    assert edge.uplink is not None
    dies, stays = edge.uplink.name, other(edge.uplink.name)
    warm = next(link for link in edge.links.values() if link is not edge.uplink)
    phone = await twins.client(stays)
    await twins.knows(stays, "echo")
    await call(phone, "echo.it")
    await twins.kill(dies)
    began = time.monotonic()
    await answers(phone, "echo.it")
    assert time.monotonic() - began < 10
    assert edge.uplink is warm
    await twins.start(dies)


async def test_a_parent_that_drains_is_left(twins: Cluster) -> None:
    await twins.servant("edge")
    edge = twins["edge"].federation
    assert edge.uplink is not None
    leaves, stays = edge.uplink.name, other(edge.uplink.name)
    phone = await twins.client(stays)
    await twins.knows(stays, "echo")
    await twins.stop(leaves)
    assert edge.uplink is not None
    assert edge.uplink.name == stays
    assert await answers(phone, "echo.it") == b"hello"


async def test_the_only_parent_is_restarted(cluster: Cluster) -> None:
    """In order, as for an upgrade (fault 96): it is dialled at once, not after the pause for a parent that has sent its
    edges to another one."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",))
    await cluster.linked("edge")
    await cluster.servant("edge")
    await cluster.stop("central")
    edge = cluster["edge"].federation
    assert edge.uplink is None
    loop = asyncio.get_running_loop()
    membership = cluster["edge"].running.links.membership
    assert membership is not None
    (parent,) = membership.parents.parents.values()
    assert parent.retry_at < loop.time() + LEFT_S / 2
    await cluster.start("central")
    await cluster.linked("edge")
    assert await answers(await cluster.client("central"), "echo.it") == b"hello"


async def test_an_edge_moves_when_it_is_told(twins: Cluster) -> None:
    edge = twins["edge"]
    before = edge.federation.uplink
    membership = edge.running.links.membership
    assert membership is not None
    assert membership.parents.move()
    assert edge.federation.uplink is not before
    await twins.linked("edge")
    await twins.servant("edge")
    assert edge.federation.uplink is not None
    await twins.knows(edge.federation.uplink.name, "echo")


@pytest.fixture
async def line(cluster: Cluster) -> AsyncIterator[Line]:
    """A line between an edge and its only parent."""
    await cluster.add("central", CENTRAL)
    line = await Line.to(cluster["central"].running.websocket_port)
    await cluster.add("edge", parents=(line.url,))
    await cluster.linked("edge")
    yield line
    await line.close()


@pytest.mark.parametrize("way", ["both", "up", "down"])
async def test_a_line_that_is_cut(cluster: Cluster, line: Line, way: str) -> None:
    """Fault 80: nobody is told; both sides notice, what is local goes on, and all of it comes back."""
    await cluster.servant("central", "far")
    await cluster.servant("edge", "near")
    await cluster.knows("central", "near")
    phone, caller = await cluster.client("edge"), await cluster.client("central")
    assert await call(phone, "far.it") == b"hello"
    assert await call(caller, "near.it") == b"hello"
    if way in ("both", "up"):
        line.up = False
    if way in ("both", "down"):
        line.down = False
    in_flight = phone.request("far.it", b"lost")
    edge, central = cluster["edge"].federation, cluster["central"].federation
    await until(lambda: edge.uplink is None and not central.links)
    while True:
        frame = await phone.recv()
        if getattr(frame, "stream_id", 0) == in_flight:
            assert isinstance(frame, frames.Error | frames.Payload)
            break
    assert await call(phone, "near.it") == b"hello"
    error = await refused(phone, "far.it")
    assert "uplink down since" in error.text
    assert (await refused(caller, "near.it")).code == frames.ErrorCode.REJECTED
    line.heal()
    assert await answers(phone, "far.it") == b"hello"
    assert await answers(caller, "near.it") == b"hello"


@pytest.mark.parametrize("told", ["central-1", "central-2"])
async def test_who_joins_at_one_central_is_known_to_all(twins: Cluster, told: str) -> None:
    """Whichever of two centrals dialled the other; edges hear of central nodes."""
    stranger = replace(twins["edge"].member, id=str(uuid.uuid4()), name="new", updated_at=time.time())
    late = replace(stranger, id=str(uuid.uuid4()), name="central-9", role=CENTRAL)
    control = twins[told].running.control
    assert control is not None
    for member in (stranger, late):
        await control.members.put(member)
    for name, members in ((other(told), (stranger, late)), ("edge", (late,))):
        elsewhere = twins[name].running.control
        assert elsewhere is not None
        for member in members:
            await until(lambda known=elsewhere.members, id=member.id: known.find(id))
