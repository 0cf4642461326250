"""Bundles on real nodes: who gets what, what a bad one changes (nothing), cuts, rollouts, nodes that go back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

import gateway.front
from gateway.control.audit import SYSTEM
from gateway.control.bundle_standing import Bundle, BundleNode
from gateway.control.bundles import NewBundle
from gateway.control.held_bundles import Parcel
from gateway.control.plane import ControlPlane
from gateway.control.rollout_steps import Phase
from gateway.documents.bundles import Facts
from gateway.documents.model import Site
from tests.federation.links.cluster import CENTRAL, Cluster, answers, call, refused, until
from tests.federation.links.proxy import Line

LABELS = {"edge-a": "site=north", "edge-b": "site=south"}


def spool(name: str, nodes: Mapping[str, Any] | None = None, **body: Any) -> str:
    document = {"kind": "Spool", "name": name, "match": [{"service": name}], **body}
    return json.dumps(document | ({} if nodes is None else {"nodes": nodes}))


def control(cluster: Cluster, name: str) -> ControlPlane:
    found = cluster[name].running.control
    assert found is not None
    return found


async def publish(cluster: Cluster, *texts: str, at: str = "central", **options: Any) -> Bundle:
    options.setdefault("trial_s", 0)
    bundle, _ = await control(cluster, at).bundles.publish(NewBundle(texts, **options), by=SYSTEM)
    return bundle


def names(cluster: Cluster, node: str) -> set[str]:
    return {document.name for document in control(cluster, node).documents.standing("Spool")}


def acts_by(cluster: Cluster, node: str) -> int:
    held = control(cluster, node).held_bundles.active
    return 0 if held is None else held.number


async def all_act_by(cluster: Cluster, number: int, *nodes: str) -> None:
    await until(lambda: all(acts_by(cluster, node) == number for node in nodes))


async def test_each_node_gets_what_it_uses(cluster: Cluster) -> None:
    """One central, two edges: by name, by role, by label; and the central hears how each stands."""
    await cluster.add("central", CENTRAL)
    for edge, label in LABELS.items():
        await cluster.add(edge, parents=("central",), more={"node.labels": label})
    bundle = await publish(
        cluster,
        spool("all"),
        spool("north", {"labels": {"site": "north"}}),
        spool("edges", {"roles": ["edge"]}),
        spool("named", {"names": ["edge-b"]}),
    )
    await all_act_by(cluster, bundle.number, "central", *LABELS)
    assert names(cluster, "central") == {"all"}
    assert names(cluster, "edge-a") == {"all", "north", "edges"}
    assert names(cluster, "edge-b") == {"all", "edges", "named"}
    # What is for others is not even on disk.
    row = await control(cluster, "edge-a").database.read(
        lambda connection: connection.execute("SELECT bodies FROM held_bundles").fetchone()
    )
    assert len(json.loads(row["bodies"])) == 3
    bundles = control(cluster, "central").bundles
    await until(
        lambda: (
            {said.name: said.active for said in bundles.nodes.values()}
            == dict.fromkeys(("central", *LABELS), bundle.id)
        )
    )
    assert {said.name: said.labels for said in bundles.nodes.values()}["edge-a"] == {"site": "north"}


Spoil = Callable[[Parcel], Parcel]


def body_of(parcel: Parcel) -> str:
    return parcel.bodies[0]


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("as it was signed", lambda it: replace(it, bodies=(body_of(it).replace("new", "nev"),))),
        ("as it was signed", lambda it: replace(it, bodies=())),
        ("signature", lambda it: replace(it, signature="A" + it.signature[1:] if it.signature[0] != "A" else "B")),
        ("signature", lambda it: replace(it, text=it.text.replace('"version":2', '"version":9'))),
    ],
)
async def test_a_bundle_that_was_changed_on_its_way_changes_nothing(
    edges: Cluster, monkeypatch: pytest.MonkeyPatch, reason: str, spoil: Spoil
) -> None:
    """One of two parents of the world sends what its maker has not made: the edge says so, and stays as it is."""
    good = await publish(edges, spool("good"))
    await all_act_by(edges, good.number, "central", *LABELS)
    bundles = control(edges, "central").bundles
    send = bundles.parcel

    async def spoilt(bundle: Bundle, node: Facts | None) -> Parcel:
        found = await send(bundle, node)
        return spoil(found) if node is not None and node.name == "edge-a" else found

    monkeypatch.setattr(bundles, "parcel", spoilt)
    new = await publish(edges, spool("new"), max_failures=9)
    await all_act_by(edges, new.number, "central", "edge-b")
    await until(lambda: said_of(edges, "edge-a").state == "rejected")
    assert reason in said_of(edges, "edge-a").reason
    assert names(edges, "edge-a") == {"good"}
    # Asked for again, from a parent that does as it should.
    monkeypatch.undo()
    activating = edges["edge-a"].running.activating
    assert activating is not None
    activating.again()
    await all_act_by(edges, new.number, "edge-a")
    await until(lambda: said_of(edges, "edge-a").state == "active")


def said_of(cluster: Cluster, node: str, at: str = "central") -> BundleNode:
    return next(said for said in control(cluster, at).bundles.nodes.values() if said.name == node)


async def test_what_one_node_cannot_act_by_does_not_reach_the_next_one(cluster: Cluster) -> None:
    """A document that is good anywhere else, and too large for the disk of one node: it stays as it is, says why, and
    the rollout stops by itself."""
    await cluster.add("central", CENTRAL)
    for edge in ("edge-a", "edge-b", "edge-c"):
        await cluster.add(edge, parents=("central",), more={"node.labels": "kind=shop"})
        await cluster.linked(edge)
    good = await publish(cluster, spool("good"))
    await all_act_by(cluster, good.number, "central", "edge-a", "edge-b", "edge-c")
    bundles = control(cluster, "central").bundles
    for edge in ("edge-a", "edge-b", "edge-c"):
        # Each of them is small.
        control(cluster, edge).documents.site = lambda: Site(2**20, 2**21)
    await until(lambda: len(bundles.nodes) == 4)
    big = await publish(cluster, spool("big", maxBytes="1GiB"), labels=["kind=shop"], percentage=33)
    await until(lambda: bundles.known[big.id].state is Phase.PAUSED)
    failed = [said for said in bundles.nodes.values() if said.tried == big.id]
    assert len(failed) == 1
    assert failed[0].state == "rejected"
    assert "GW0111" in failed[0].reason
    assert "1 of its nodes have failed" in bundles.known[big.id].reason
    for edge in ("edge-a", "edge-b", "edge-c"):
        assert names(cluster, edge) == {"good"}
    # To let it go on is to try it with those that have not failed.
    control(cluster, failed[0].name).documents.site = lambda: None
    await bundles.resume(big.number, retry=True, by=SYSTEM)
    await all_act_by(cluster, big.number, failed[0].name)
    assert names(cluster, failed[0].name) == {"big"}


async def test_33_percent_of_three_nodes_with_a_label_are_one(cluster: Cluster) -> None:
    await cluster.add("central", CENTRAL)
    shops = ("edge-a", "edge-b", "edge-c")
    for edge in (*shops, "edge-d"):
        label = "kind=shop" if edge in shops else "kind=depot"
        await cluster.add(edge, parents=("central",), more={"node.labels": label})
        await cluster.linked(edge)
    bundles = control(cluster, "central").bundles
    await until(lambda: len(bundles.nodes) == 5)
    base = await publish(cluster, spool("base"))
    await all_act_by(cluster, base.number, "central", *shops, "edge-d")
    new = await publish(cluster, spool("new"), labels=["kind=shop"], percentage=33)

    def with_it() -> set[str]:
        return {edge for edge in ("central", *shops, "edge-d") if acts_by(cluster, edge) == new.number}

    await until(lambda: len(with_it()) == 1)
    (first,) = with_it()
    await until(lambda: said_of(cluster, first).active == new.id)
    assert bundles.counts(bundles.known[new.id]) == {"waiting": 0, "active": 1, "rejected": 0, "rolled_back": 0}
    await bundles.pause(new.number, by=SYSTEM)
    await bundles.update(new.number, percentage=66, max_failures=None, by=SYSTEM, expect=None)
    assert with_it() == {first}
    await bundles.resume(new.number, by=SYSTEM)
    await until(lambda: len(with_it()) == 2)
    assert first in with_it()
    await bundles.update(new.number, percentage=100, max_failures=None, by=SYSTEM, expect=None)
    await until(lambda: with_it() == set(shops))
    # Whoever is left out keeps what is for all; what is aborted is replaced by that everywhere.
    assert names(cluster, "edge-d") == names(cluster, "central") == {"base"}
    _, instead = await bundles.abort(new.number, by=SYSTEM)
    await all_act_by(cluster, instead.number, "central", *shops, "edge-d")
    assert all(names(cluster, node) == {"base"} for node in ("central", *shops, "edge-d"))


async def test_an_edge_that_is_cut_off_keeps_what_it_has_and_catches_up(cluster: Cluster) -> None:
    """Over a restart without an uplink, too."""
    await cluster.add("central", CENTRAL)
    line = await Line.to(cluster["central"].running.websocket_port)
    await cluster.add("edge", parents=(line.url,))
    await cluster.linked("edge")
    first = await publish(cluster, spool("first"))
    await all_act_by(cluster, first.number, "edge")
    line.cut()
    line.reset()
    await until(lambda: cluster["edge"].federation.uplink is None)
    await publish(cluster, spool("second"))
    third = await publish(cluster, spool("third"))
    assert names(cluster, "edge") == {"first"}
    await cluster.kill("edge")
    await cluster.start("edge")
    assert cluster["edge"].federation.uplink is None
    assert names(cluster, "edge") == {"first"}
    line.heal()
    await all_act_by(cluster, third.number, "edge")
    assert names(cluster, "edge") == {"third"}
    await until(lambda: said_of(cluster, "edge").active == third.id)
    await line.close()


async def test_any_central_answers_the_same(pair: Cluster) -> None:
    """Published at either of two centrals, at once, by each that does not know of the other's: one of them holds, and
    all four nodes agree on it. What one is told of a rollout, and of nodes, the other one knows."""
    first = await publish(pair, spool("first"), at="central-1")
    nodes = ("central-1", "central-2", "edge-1", "edge-2")
    await all_act_by(pair, first.number, *nodes)
    await until(lambda: all(len(control(pair, each).bundles.nodes) == 4 for each in nodes[:2]))
    for each in nodes[:2]:
        for link in pair[each].federation.links.values():
            if link.kind == "peer":
                link.connection.carrier.abort()
    made = [await publish(pair, spool(f"by-{at}"), at=at) for at in nodes[:2]]
    newest = max(made, key=lambda bundle: bundle.id)
    await until(lambda: all(control(pair, each).bundles.known.keys() >= {it.id for it in made} for each in nodes[:2]))
    await until(lambda: all(held_id(pair, each) == newest.id for each in nodes))
    assert all(len(names(pair, each)) == 1 for each in nodes)
    await control(pair, "central-2").bundles.pause(newest.number, by=SYSTEM)
    await until(lambda: control(pair, "central-1").bundles.known[newest.id].state is Phase.PAUSED)
    for each in nodes[:2]:
        said = control(pair, each).bundles.nodes.values()
        await until(lambda said=said: all(it.active == newest.id for it in said))  # type: ignore[misc]


def held_id(cluster: Cluster, node: str) -> str:
    held = control(cluster, node).held_bundles.active
    return "" if held is None else held.id


async def test_a_node_goes_back_by_itself(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle has an `Access` document that refuses what was served: within the trial the node sees that, acts by the
    bundle before and says why; nobody else is offered it."""
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.05)
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",))
    await cluster.linked("edge")
    good = await publish(cluster, spool("good"))
    await all_act_by(cluster, good.number, "edge")
    await cluster.servant("edge")
    client = await cluster.client("edge")
    for _ in range(20):
        assert await call(client, "echo.it") == b"hello"
    nobody = {"kind": "Access", "name": "nobody", "action": "DENY", "rules": [{"to": [{"services": ["echo"]}]}]}
    bad = await publish(cluster, spool("bad"), json.dumps(nobody), trial_s=600)
    await all_act_by(cluster, bad.number, "edge")
    await until(lambda: said_of(cluster, "edge").reason == "on trial")
    assert "Access/nobody" in (await refused(client, "echo.it")).text
    async with asyncio.timeout(30):
        while acts_by(cluster, "edge") == bad.number:
            with suppress(AssertionError):
                # It may go back between two of them.
                await refused(client, "echo.it")
    assert acts_by(cluster, "edge") == good.number
    assert names(cluster, "edge") == {"good"}
    assert await answers(client, "echo.it") == b"hello"
    await until(lambda: said_of(cluster, "edge").state == "rolled_back")
    assert "requests refused" in said_of(cluster, "edge").reason
    bundles = control(cluster, "central").bundles
    await until(lambda: bundles.known[bad.id].state is Phase.PAUSED)
    # It is not offered to it again, however often it asks.
    await cluster.stop("edge")
    await cluster.start("edge")
    await cluster.linked("edge")
    await until(lambda: said_of(cluster, "edge").active == good.id)
    assert acts_by(cluster, "edge") == good.number


async def test_what_nothing_got_worse_by_is_good(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.front, "CHECK_S", 0.05)
    await cluster.add("central", CENTRAL)
    bundle = await publish(cluster, spool("good"), trial_s=1)
    await all_act_by(cluster, bundle.number, "central")
    await until(lambda: said_of(cluster, "central").reason == "on trial")
    await until(lambda: said_of(cluster, "central").reason == "")
    assert acts_by(cluster, "central") == bundle.number
