"""What a child has asked its parent for, when it is not used any more, or is too much."""

from __future__ import annotations

import asyncio

import pytest

from gateway.federation import interests
from gateway.federation.interests import encode
from tests.federation.links.cluster import Cluster, answers, call, until


def wanted(cluster: Cluster) -> int:
    """What the central node keeps of the first edge."""
    (link,) = [link for link in cluster["central"].federation.links.values() if link.name == "edge-a"]
    assert link.interests is not None
    return len(link.interests)


async def test_what_nobody_uses_is_not_told_any_more(edges: Cluster) -> None:
    """Two addresses, one of which is used on; the other one is found again when it is."""
    for name in ("one", "two"):
        await edges.servant("edge-b", name)
        await edges.knows("central", name)
    phone = await edges.client("edge-a")
    assert await call(phone, "one.it") == await call(phone, "two.it") == b"hello"
    assert wanted(edges) == 2
    edge = edges["edge-a"]
    asked = edge.federation._asked
    asked._used["two.it", ()] -= interests.IDLE_S
    asked._used.move_to_end(("two.it", ()), last=False)
    await until(lambda: wanted(edges) == 1)
    await until(lambda: edge.running.plane.table.service("two") is None)
    assert edge.running.plane.table.service("one") is not None
    assert await answers(phone, "two.it") == b"hello"
    assert wanted(edges) == 2


async def test_too_many_addresses(edges: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge forgets by itself what is too much; one that does not is refused, with the reason, and counted."""
    monkeypatch.setattr(interests, "CAPACITY", 2)
    uplink = edges["edge-a"].federation.uplink
    assert uplink is not None
    said: list[str] = []
    over = asyncio.Event()
    for route in ("a", "b", "c"):
        uplink.ask(
            "gateway.resolve",
            encode((route, ())),
            lambda document: said.append("ok"),
            lambda text: (said.append(text), over.set()),  # type: ignore[arg-type,return-value]
        )
    await asyncio.wait_for(over.wait(), 30)
    assert said == ["ok", "ok", "over 2 addresses asked for within 60 s"]
    assert edges["central"].running.plane.counters.refusals["interests"] == 1
    monkeypatch.setattr(interests, "KEPT_S", 0.0)
    for name in ("one", "two", "three"):
        await edges.servant("edge-b", name)
        await edges.knows("central", name)
    phone = await edges.client("edge-a")
    for name in ("one", "two", "three"):
        assert await answers(phone, f"{name}.it") == b"hello"
    await until(lambda: edges["edge-a"].running.plane.table.service("one") is None)
    assert wanted(edges) == 2
