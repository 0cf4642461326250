"""Fault 66 over links: a caller is judged by every node, by what its own node vouches for, live, open and from disk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import gateway.front
from gateway.control.members import CENTRAL
from gateway.forwarding.ending import RIGHTS_CHANGED
from gateway.wire import frames
from tests.bridges.peers import BY, answer, tagged
from tests.bridges.test_spool import spool
from tests.federation.links.cluster import Cluster
from tests.local_node import until

PLACES = ("central", "edge-b")


@pytest_asyncio.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A central node and two edges."""
    monkeypatch.setattr(gateway.front, "TICK_S", 0.02)
    cluster = Cluster(tmp_path / "cluster", tmp_path / "identities")
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b"):
        await cluster.add(edge, parents=("central",))
        await cluster.linked(edge)
    yield cluster
    await cluster.close()


async def apply(nodes: Cluster, place: str, *documents: dict[str, Any]) -> None:
    control = nodes[place].running.control
    assert control is not None
    await control.documents.apply("\n---\n".join(map(json.dumps, documents)), by=BY)


def access(source: dict[str, Any], action: str = "DENY", **more: Any) -> dict[str, Any]:
    rule = {"from": [source], "to": [{"services": ["echo"]}], **more}
    return {"kind": "Access", "name": "m", "action": action, "rules": [rule]}


async def test_every_node_judges_the_caller_that_the_other_vouches_for(nodes: Cluster) -> None:
    echo = await nodes.servant("edge-b")
    await nodes.knows("central", "echo")
    good = await nodes.client("edge-a", "good", groups=("ops",), labels={"site": "7"})
    bad = await nodes.client("edge-a", "bad", "user", labels={"site": "9"})
    rules = [
        access({"principals": ["bad"]}),
        access({"notGroups": ["ops"]}),
        access({"kinds": ["user"]}),
        access({"labels": {"site": "9"}}),
        access({"groups": ["ops"]}, "ALLOW"),
        # What good's connection is like is for its own node to judge.
        access({"groups": ["ops"]}, "ALLOW", when=[{"key": "source.ip", "values": ["10.0.0.0/8"]}]),
    ]
    calls = 0
    for place in PLACES:
        for document in rules:
            await apply(nodes, place, document)
            refused = await answer(bad, "echo", b"bad")
            assert isinstance(refused, frames.Error), document
            assert "Access/m" in refused.text
            assert (await answer(good, "echo", b"good")).data == b"good", document
            calls += 1
        await apply(nodes, place, access({"principals": ["nobody"]}))
    assert [frame.data for frame in echo.got(frames.RequestResponse)] == [b"good"] * calls
    # What is open ends at whichever node changes its mind.
    for place in PLACES:
        number = good.next_stream_id()
        good.send(frames.RequestStream(number, tagged("echo"), b"1", initial_n=1))
        assert isinstance(await good.recv(20), frames.Payload)
        await apply(nodes, place, access({"principals": ["good"]}))
        over = await good.recv(20)
        assert (over.stream_id, over.text) == (number, RIGHTS_CHANGED)  # type: ignore[union-attr]
        await apply(nodes, place, access({"principals": ["nobody"]}))
    await until(lambda: len(echo.got(frames.Cancel)) == len(PLACES))


async def test_what_another_node_hands_over_from_its_spool_is_judged_here(nodes: Cluster) -> None:
    await apply(nodes, "edge-a", spool("later", "echo"))
    await apply(nodes, "central", access({"principals": ["bad"]}))
    for name in ("bad", "good"):
        client = await nodes.client("edge-a", name)
        assert isinstance(await answer(client, "echo", name.encode()), frames.Payload)
    echo = await nodes.servant("central")
    depot = nodes["central"].running.depot
    await until(lambda: len(echo.got(frames.RequestResponse)) >= 1)
    await until(lambda: depot is not None and any(o.spool.lost for o in depot.outlets.values()))
    assert [frame.data for frame in echo.got(frames.RequestResponse)] == [b"good"]
    assert depot is not None
    assert [outlet.spool.lost for outlet in depot.outlets.values() if outlet.spool.lost] == [{"forbidden": 1}]
