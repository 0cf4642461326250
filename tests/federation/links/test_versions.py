"""What nodes tell each other of themselves: version and devices; and nodes of before, which tell neither."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

import gateway.federation.census
from gateway import __version__
from gateway.control.members import CENTRAL
from gateway.federation import items
from gateway.federation.items import About
from gateway.federation.releases import is_newer
from gateway.wire import brokering
from tests.federation.links.cluster import Cluster, until

Known = tuple[str | None, int | None]


def known(cluster: Cluster, at: str) -> dict[str, Known]:
    found = cluster[at].running.links.topology()
    assert found is not None
    return {node["name"]: (node["version"], node["devices"]) for node in found["nodes"]}


def ahead(cluster: Cluster, at: str) -> list[str]:
    found = cluster[at].running.links.topology()
    assert found is not None
    return sorted(node["name"] for node in found["nodes"] if node["ahead"])


@pytest.fixture
def counting_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.federation.census, "COUNT_S", 0.05)


@pytest.mark.usefixtures("counting_often")
async def test_each_node_hears_of_those_that_it_reaches(pair: Cluster) -> None:
    """Up, down, across, and of what is behind the other central node; devices as they come and go."""
    mine = (__version__, 0)
    everybody = {"central-1": mine, "central-2": mine, "edge-1": mine, "edge-2": mine}
    await until(lambda: known(pair, "central-1") == known(pair, "central-2") == everybody)
    nobody: Known = (None, None)
    await until(lambda: known(pair, "edge-1") == everybody | {"central-2": nobody, "edge-2": nobody})
    device = await pair.client("edge-2", "kitchen", "device")
    await pair.client("edge-2", "panel", "user")
    for name in ("edge-2", "central-2", "central-1"):
        await until(lambda name=name: known(pair, name)["edge-2"] == (__version__, 1))
    about = pair["central-1"].running.links.about
    assert about(pair["edge-2"].member) == {"version": __version__, "devices": 1, "ahead": False}
    assert about(pair["central-1"].member) == {"version": __version__, "devices": 0, "ahead": False}
    await device.close()
    await until(lambda: known(pair, "central-1")["edge-2"] == mine)
    await pair.stop("edge-2")
    await until(lambda: known(pair, "central-1")["edge-2"] == nobody)
    assert about(pair["edge-2"].member) == {"version": None, "devices": None, "ahead": False}


async def test_an_edge_that_is_newer_than_its_central_node(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its central node says so, it does itself, and so does the other central node's topology."""
    assert ahead(pair, "central-1") == ahead(pair, "edge-1") == []
    federation = pair["edge-1"].federation
    monkeypatch.setattr(federation, "options", replace(federation.options, version="99.0"))
    pair["central-1"].running.links.reconnect(pair["edge-1"].member.id)
    for name in ("central-1", "central-2", "edge-1"):
        await until(lambda name=name: ahead(pair, name) == ["edge-1"])
    assert known(pair, "central-2")["edge-1"][0] == "99.0"
    said = pair["central-2"].running.links.about(pair["edge-1"].member)
    assert (said["version"], said["ahead"]) == ("99.0", True)


async def test_a_node_of_before_tells_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all else goes on: what it does not say is not known."""
    monkeypatch.setattr(gateway.federation.census.Census, "nodes", lambda self, link: {})
    await cluster.add("central", CENTRAL)
    await cluster.add("edge", parents=("central",))
    await cluster.linked("edge")
    await cluster.servant("edge")
    await cluster.knows("central", "echo")
    assert known(cluster, "central")["edge"] == (None, None)
    assert ahead(cluster, "central") == []


def test_a_node_of_before_reads_over_it() -> None:
    """What it goes by: a digest, a state or a name. Of the teller itself there is none of them, and behind it the name
    is what it was."""
    node = uuid.uuid4().bytes
    own = items.node_info(node, 1, None, About("1.0", 3))
    assert dict(own.tags).keys().isdisjoint({items.DIGEST, items.STATE, items.NAME})
    behind = items.node_info(node, 1, "edge", About("1.0", 3))
    assert behind.tags[0] == (items.NAME, "edge")
    assert items.node_info(node, 1, "", About()).tags == ((items.NAME, ""),)
    for info in (own, behind):
        assert brokering.decode(brokering.encode(info)) == info


@pytest.mark.parametrize("said", ["", "-1", "1.5", "x", "٣", "1" * 10])
def test_a_count_that_is_none_is_not_known(said: str) -> None:
    assert About.of({items.VERSION: "1.0", items.DEVICES: said}) == About("1.0", None)
    assert About.of({items.VERSION: "1.0", items.DEVICES: "12"}) == About("1.0", 12)


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("0.10.0", "0.9.9", True),
        ("0.9.9", "0.10.0", False),
        ("1.0", "1.0.0", False),
        ("1.0.1", "1.0", True),
        ("1.1.0rc1", "1.0.9", True),
        ("1.1.0", "1.1.0rc1", False),
        ("", "1.0", False),
        ("1.0", "", False),
        ("dev", "0.1", False),
        ("9" * 5000, "1", False),
    ],
)
def test_which_version_is_newer(version: str, than: str, newer: bool) -> None:
    assert is_newer(version, than) is newer
