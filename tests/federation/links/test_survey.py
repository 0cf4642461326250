"""What a node says of its links: topology, round trips, metrics, events, alarms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.control.members import CENTRAL
from gateway.errors import FederationError
from gateway.federation.journal import MISMATCHES, MISMATCHES_S, UPLINK_DOWN_S, Journal
from gateway.wire import frames
from tests.federation.links.cluster import Cluster, refused, until


def topology(cluster: Cluster, name: str) -> dict[str, Any]:
    found = cluster[name].running.links.topology()
    assert found is not None
    return found


def places(cluster: Cluster, name: str) -> dict[str, str]:
    return {node["name"]: node["place"] for node in topology(cluster, name)["nodes"]}


async def test_what_each_node_sees(pair: Cluster) -> None:
    await until(lambda: places(pair, "central-1")["edge-2"] == "behind")
    assert places(pair, "central-1") == {
        "central-1": "itself",
        "central-2": "peer",
        "edge-1": "child",
        "edge-2": "behind",
    }
    found = topology(pair, "central-1")
    names = {node["id"]: node["name"] for node in found["nodes"]}
    assert {(names[link["source"]], names[link["target"]], link["kind"]) for link in found["links"]} == {
        ("central-1", "central-2", "peer"),
        ("central-1", "edge-1", "downlink"),
        ("central-2", "edge-2", "downlink"),
    }
    edge = places(pair, "edge-1")
    assert (edge["edge-1"], edge["central-1"]) == ("itself", "parent")
    assert found["uplink_down_since"] is None


async def test_both_ends_know_how_far_the_other_is(pair: Cluster) -> None:
    for name in pair.places:
        await until(lambda name=name: all(link.rtt_s > 0 for link in pair[name].federation.links.values()))


async def test_round_trips_between_any_two(pair: Cluster) -> None:
    """Asked of a third node, up, across and down; and from an edge of itself."""
    ids = {name: place.member.id for name, place in pair.places.items()}
    await until(lambda: places(pair, "central-1")["edge-2"] == "behind")
    links = pair["central-2"].running.links
    said = await links.latency(ids["edge-1"], ids["edge-2"], 5)
    assert said["path"] == ["edge-1", "central-1", "central-2", "edge-2"]
    assert (said["count"], said["lost"]) == (5, 0)
    assert 0 < said["min_ms"] <= said["p50_ms"] <= said["p99_ms"] <= said["max_ms"]
    assert (await pair["edge-1"].running.links.latency(ids["edge-1"], ids["central-1"], 1))["path"] == [
        "edge-1",
        "central-1",
    ]
    assert (await links.latency(ids["central-2"], ids["central-2"], 1))["path"] == ["central-2"]
    await pair.stop("edge-2")
    await until(lambda: places(pair, "central-1")["edge-2"] == "apart")
    with pytest.raises(FederationError, match="no link of central-"):
        await pair["edge-1"].running.links.latency(ids["edge-1"], ids["edge-2"], 1)


@pytest.mark.parametrize("route", ["gateway.ping", "gateway.latency"])
async def test_clients_do_not_probe(cluster: Cluster, route: str) -> None:
    await cluster.add("central", CENTRAL)
    client = await cluster.client("central")
    asked = json.dumps({"from": cluster["central"].member.id, "to": cluster["central"].member.id, "count": 1})
    error = await refused(client, route, asked.encode())
    assert (error.code, error.text) == (frames.ErrorCode.REJECTED, f"{route} is for nodes")


async def test_what_is_counted_outlives_a_link(pair: Cluster) -> None:
    central = pair["central-1"]
    for name, kind in (("(edges)", "downlink"), ("central-2", "peer")):
        (figures,) = [each for each in central.running.links.figures() if each.node == name]
        assert (figures.kind, figures.up, figures.active) == (kind, 1, 1)
        assert figures.bytes_in > 0
        assert figures.bytes_out > 0
    before = {each.node: each for each in central.running.links.figures()}
    await pair.stop("edge-1")
    await until(lambda: not any(link.kind == "downlink" for link in central.federation.links.values()))
    after = {each.node: each for each in central.running.links.figures()}
    assert after["(edges)"].up == after["(edges)"].active == 0
    assert after["(edges)"].bytes_in >= before["(edges)"].bytes_in
    ended = central.running.links.last_link(pair["edge-1"].member.id)
    assert ended is not None
    assert ended["kind"] == "downlink"
    assert ended["why"]
    (edge,) = [node for node in topology(pair, "central-1")["nodes"] if node["name"] == "edge-1"]
    assert (edge["place"], edge["down_since"], edge["why"]) == ("apart", ended["at"], ended["why"])
    await pair.start("edge-1")
    await pair.linked("edge-1")
    assert central.running.links.last_link(pair["edge-1"].member.id) is None


async def test_links_are_events(cluster: Cluster) -> None:
    await cluster.add("central", CENTRAL)
    central = cluster["central"]
    told: list[tuple[str, str, dict[str, object]]] = []
    central.federation.journal.tell = lambda kind, subject, **data: told.append((kind, subject, data))
    await cluster.add("edge", parents=("central",))
    edge_told: list[tuple[str, str]] = []
    cluster["edge"].federation.journal.tell = lambda kind, subject, **data: edge_told.append((kind, subject))
    await cluster.linked("edge")
    assert central.running.links.reconnect(cluster["edge"].member.id) == 1
    await until(lambda: [kind for kind, _, _ in told] == ["link.up", "link.down", "link.up"])
    assert {subject for _, subject, _ in told} == {"edge"}
    assert told[1][2]["why"] == "the link is to be made anew"
    await until(lambda: ("link.moved", "central") in edge_told)


async def test_processes_of_this_node_are_no_other_nodes(cluster: Cluster) -> None:
    """Their links go by the node's own name."""
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",))
    await cluster.linked("edge")
    central = cluster["central"]
    (link,) = central.federation.links.values()
    link.name = "central"
    assert [node["place"] for node in topology(cluster, "central")["nodes"]] == ["itself", "apart"]
    assert topology(cluster, "central")["links"] == []
    assert [each.up for each in central.running.links.figures()] == [0]
    told: list[str] = []
    central.federation.journal.tell = lambda kind, subject, **data: told.append(kind)
    central.federation.up(link)
    assert told == []
    link.name = "edge"


class Link:
    def __init__(self, name: str) -> None:
        self.name = name
        self.mismatches: list[float] = []


def test_what_lasts_too_long_is_an_alarm() -> None:
    now = 1000.0
    alarms: dict[str, str] = {}
    journal = Journal(lambda: now)
    journal.alarm = alarms.__setitem__
    journal.calm = lambda slug: alarms.pop(slug, None)  # type: ignore[assignment,return-value]
    journal.look((), now - UPLINK_DOWN_S)
    assert alarms == {}
    journal.look((), now - UPLINK_DOWN_S - 0.1)
    assert set(alarms) == {"uplink_down"}
    one, other = Link("edge-1"), Link("edge-2")
    one.mismatches = [now - MISMATCHES_S + 1] * MISMATCHES
    other.mismatches = [now - 1] * (MISMATCHES - 1)
    journal.look((one, other), None)  # type: ignore[arg-type]
    assert alarms == {"routes_differ": "what edge-1 tells of its routes does not add up again and again"}
    one.mismatches = [now - MISMATCHES_S] * MISMATCHES
    journal.look((one, other), None)  # type: ignore[arg-type]
    assert alarms == {}
