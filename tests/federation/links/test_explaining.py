"""Why a request goes over a link or does not: what `gateway route resolve` says on an edge and in the middle."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from gateway.control.members import CENTRAL
from gateway.policy.principal import Kind
from tests.federation.links.cluster import Cluster, call, until

ADMIN = {"admin.listen": "127.0.0.1:0"}


async def resolved(cluster: Cluster, name: str, route: str, **more: Any) -> dict[str, Any]:
    node = cluster[name].running
    token = node.identity.mint("operator", Kind.ADMIN, (), ("*",), 900, time.time(), audience="gateway-admin")
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/routes:resolve"
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(url, json={"route": route, **more}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
async def places(cluster: Cluster) -> Cluster:
    """Two central nodes; one edge that has both for parents, and one of the first that may serve little."""
    await cluster.add("central-1", CENTRAL, more=ADMIN)
    await cluster.add("central-2", CENTRAL)
    await cluster.introduce_addresses()
    await cluster.meshed("central-1", "central-2")
    await cluster.add("edge-1", parents=("central-1", "central-2"), more=ADMIN)
    await cluster.linked("edge-1")
    await cluster.add("edge-2", parents=("central-1",), services=("lamp",))
    await cluster.linked("edge-2")
    await until(lambda: len(cluster["edge-1"].federation.links) == 2)
    return cluster


async def test_why_a_request_goes_where(places: Cluster) -> None:
    for at in ("edge-2", "central-1"):
        await places.servant(at, "lamp", f"lamp-{at}")
    await places.servant("edge-2", "vault")
    central = places["central-1"].running
    await until(lambda: len(central.plane.table.service("lamp") or ()) == 2)
    await until(lambda: central.plane.counters.refusals.get("route_not_granted"))
    near = await resolved(places, "central-1", "lamp.on")
    found = {candidate["node"]: candidate for candidate in near["candidates"]}
    assert {name: candidate["link"] for name, candidate in found.items()} == {
        "central-1": "local",
        "edge-2": "downlink",
    }
    assert near["chosen"] == found["central-1"]["route"]
    assert (found["central-1"]["why"], found["edge-2"]["why"][:24]) == ("", "another one is nearer: h")
    # A grant that does not allow it, and the direction.
    refused = await resolved(places, "central-1", "vault.open")
    assert (refused["verdict"], refused["reason"]) == ("no_route", "no route to vault.open")
    (unused,) = refused["unused"]
    assert (unused["node"], unused["link"], unused["why"]) == (
        "edge-2",
        "downlink",
        "the grant of the link does not allow it",
    )
    # From a parent or a peer it comes down and goes no other way.
    await places.servant("central-2", "clock")
    await places.knows("central-1", "clock")
    assert (await resolved(places, "central-1", "clock.now"))["verdict"] == "ok"
    across = await resolved(places, "central-1", "clock.now", came_from="peer")
    assert across["verdict"] == "no_route"
    assert across["candidates"][0]["why"] == "a request from a peer does not go to peer: it could come back"


async def test_what_an_edge_knows(places: Cluster) -> None:
    await places.servant("edge-2", "lamp")
    for parent in ("central-1", "central-2"):
        await places.knows(parent, "lamp")
    edge = places["edge-1"]
    uplink = edge.federation.uplink
    assert uplink is not None
    unknown = await resolved(places, "edge-1", "lamp.on")
    assert unknown["reason"] == f"no route to lamp.on; {uplink.name} would be asked first"
    assert await call(await places.client("edge-1"), "lamp.on") == b"hello"
    known = await resolved(places, "edge-1", "lamp.on")
    assert [(each["node"], each["link"]) for each in known["candidates"]] == [("edge-2", "uplink")]
    for parent in ("central-1", "central-2"):
        await places.kill(parent)
    await until(lambda: edge.federation.uplink is None)
    cut = await resolved(places, "edge-1", "lamp.on")
    assert cut["reason"].startswith("no route to lamp.on; uplink down since 20")
