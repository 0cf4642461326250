"""A device that comes up elsewhere: its session of before is closed, on whichever node it is (fault 59)."""

from __future__ import annotations

import uuid

import pytest

from tests.federation.links.cluster import Cluster, until
from tests.rawclient import RawClient, route_setup

ELSEWHERE = (4409, "d-1 has connected to another node")


async def device(cluster: Cluster, at: str, route_id: bytes | None = None, kind: str = "device") -> RawClient:
    client = await cluster.client(at, "d-1", kind, (route_setup("d-1.lamp", route_id=route_id),))  # type: ignore[arg-type]
    await known(cluster, at)
    return client


async def known(cluster: Cluster, at: str) -> None:
    """Wait until the middle has heard of the device that is at a node."""
    table = cluster["central"].running.plane.table
    kinds = {"central": "client"}

    def heard() -> bool:
        routes = table.routes_of_subject("d-1")
        return any(
            route.owner.kind == kinds.get(at, "downlink")  # type: ignore[attr-defined]
            and route.owner.principal.subject in ("d-1", cluster[at].member.id)  # type: ignore[attr-defined]
            for route in routes
        )

    await until(heard)


@pytest.mark.parametrize("same_id", [True, False])
@pytest.mark.parametrize(("before", "after"), [("edge-a", "edge-b"), ("edge-a", "central"), ("central", "edge-b")])
async def test_the_later_session_stands(edges: Cluster, before: str, after: str, same_id: bool) -> None:
    route_id = uuid.uuid4().bytes if same_id else None
    old = await device(edges, before, route_id)
    new = await device(edges, after, route_id)
    assert await old.recv_close() == ELSEWHERE
    await new.ready()
    routes = edges["central"].running.plane.table.routes_of_subject
    await until(lambda: len(routes("d-1")) == 1)
    # And back again.
    assert await (await device(edges, before, route_id)).ready()
    assert await new.recv_close() == ELSEWHERE
    await until(lambda: len(routes("d-1")) == 1)


async def test_a_session_that_waits_for_its_link_goes_too(edges: Cluster) -> None:
    old = await edges.client("edge-a", "d-1", "device", setup={"resume_token": bytes(range(16))})
    await known(edges, "edge-a")
    old.abort()
    counters = edges["edge-a"].running.plane.counters
    await until(lambda: counters.sessions_parked == 1)
    await device(edges, "edge-b")
    await until(lambda: counters.sessions_parked == 0)
    assert counters.closes["taken_over"] == 1


async def test_who_was_cut_off_meanwhile_hears_of_it_later(edges: Cluster) -> None:
    old = await device(edges, "edge-a")
    uplink = edges["edge-a"].federation.uplink
    assert uplink is not None
    edges["edge-a"].running.links.membership.parents.set(())  # type: ignore[union-attr]
    await until(lambda: edges["edge-a"].federation.uplink is None)
    new = await device(edges, "edge-b")
    await old.ready()
    edges["edge-a"].running.links.membership.parents.set((edges["central"].url,))  # type: ignore[union-attr]
    assert await old.recv_close() == ELSEWHERE
    await new.ready()


@pytest.mark.parametrize("kind", ["service", "user"])
async def test_who_may_connect_more_than_once_does(edges: Cluster, kind: str) -> None:
    first, second = [await device(edges, at, kind=kind) for at in ("edge-a", "edge-b")]
    assert len(edges["central"].running.plane.table.routes_of_subject("d-1")) == 2
    await first.ready()
    await second.ready()


async def test_only_a_parent_says_so(edges: Cluster) -> None:
    client = await edges.client("edge-a")
    client.request("gateway.claimed", b'{"subject": "d-1", "kind": "device", "stamp": 1}')
    frame = await client.recv()
    assert "for nodes" in getattr(frame, "text", "")
