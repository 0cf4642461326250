"""Issue 8: canary 5 % by firmware label, over real sockets and over a link: the parent splits, not the edge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.control.members import CENTRAL
from gateway.documents.validation import understand
from gateway.wire import frames
from tests.federation.links.cluster import Cluster, until
from tests.local_node import Servant
from tests.rawclient import RawClient, composite, route_setup

DOCUMENT: dict[str, Any] = {
    "kind": "Service",
    "name": "thermostat",
    "subsets": {"stable": {"firmware": "1"}, "canary": {"firmware": "2"}},
    "routes": [{"to": [{"subset": "stable", "weight": 95}, {"subset": "canary", "weight": 5}]}],
}
#: Requests that are open at once.
AT_ONCE = 64


class Counting(Servant):
    """Answers, and keeps nothing."""

    def __init__(self, client: RawClient) -> None:
        self.asked = 0
        super().__init__(client, "thermostat")

    async def _serve(self) -> None:
        while True:
            frame = await self.client.recv(3600)
            if isinstance(frame, frames.RequestResponse):
                self.asked += 1
                self.client.send(frames.Payload(frame.stream_id, None, b"", next=True, complete=True))
            elif isinstance(frame, frames.KeepAlive) and frame.respond:
                self.client.send(frames.KeepAlive(False, 0, frame.data))


async def instance(cluster: Cluster, at: str, firmware: str) -> Counting:
    registration: Any = route_setup("thermostat", firmware=firmware)
    client = await cluster.client(at, f"thermostat-{firmware}-at-{at}", serving=(registration,))
    servant = Counting(client)
    cluster.servants.append(servant)
    return servant


async def ask(client: RawClient, times: int) -> None:
    """Ask so often, some at once; every answer must be one."""
    left, open_now = times, 0
    metadata = composite("thermostat.get")
    async with asyncio.timeout(600):
        while left or open_now:
            while left and open_now < AT_ONCE:
                client.send(frames.RequestResponse(client.next_stream_id(), metadata, b""))
                left, open_now = left - 1, open_now + 1
            frame = await client.recv(60)
            if isinstance(frame, frames.KeepAlive):
                continue
            assert isinstance(frame, frames.Payload), frame
            open_now -= frame.complete


def govern(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster[name].running.govern((understand(DOCUMENT),))


async def canary_over_a_link(cluster: Cluster, times: int, tolerance: float) -> None:
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    stable, canary = await instance(cluster, "central", "1"), await instance(cluster, "edge-b", "2")
    await until(lambda: len(cluster["central"].running.plane.table.service("thermostat") or ()) == 2)
    govern(cluster, "central", "edge-a", "edge-b")
    caller = await cluster.client("edge-a")
    await ask(caller, times)
    assert stable.asked + canary.asked == times
    assert canary.asked == pytest.approx(times // 20, abs=tolerance)


async def test_the_parent_splits_what_comes_from_an_edge(cluster: Cluster) -> None:
    await canary_over_a_link(cluster, 400, 3)


@pytest.mark.soak
async def test_five_percent_of_a_hundred_thousand_over_a_link(cluster: Cluster) -> None:
    """Within half a percent is asked for; evenly drawn, it is within a few requests."""
    await canary_over_a_link(cluster, 100_000, 20)


async def test_an_edge_draws_for_its_own_and_its_parent_narrows(cluster: Cluster) -> None:
    """The stable part is at the edge, the canary at its parent, who has the document, too, and does not draw again."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge-a", parents=("central",))
    await cluster.linked("edge-a")
    canary, also = await instance(cluster, "central", "2"), await instance(cluster, "central", "1")
    caller = await cluster.client("edge-a")
    await ask(caller, 1)
    stable = await instance(cluster, "edge-a", "1")
    await until(lambda: len(cluster["edge-a"].running.plane.table.service("thermostat") or ()) == 3)
    govern(cluster, "central", "edge-a")
    before = canary.asked, also.asked
    await ask(caller, 400)
    assert (stable.asked, also.asked - before[1]) == (pytest.approx(380, abs=3), 0)
    assert canary.asked - before[0] == pytest.approx(20, abs=3)
