"""`gateway topology`, `latency` and `peer`: the tree for people, and the commands on a node that stands alone."""

from __future__ import annotations

import json
from typing import Any

from gateway import __version__
from gateway.cli.topology import tree
from tests.cli.conftest import Shell
from tests.cli.test_device import here

__all__ = ["here"]


FINE: dict[str, Any] = {"uplink_down_since": None, "unheard": [], "table": None}


def node(name: str, place: str, role: str = "edge", **more: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "role": role, "place": place, "via": None, "down_since": None, **more}


def link(target: str, kind: str, state: str = "active", **more: Any) -> dict[str, Any]:
    figures = {"rtt_ms": 1.25, "routes_in": 3, "routes_out": 4, "lag": 0, "reported": False}
    return {"source": "id-central-1", "target": f"id-{target}", "kind": kind, "state": state, **figures, **more}


def test_of_a_central_node() -> None:
    found = {
        **FINE,
        "nodes": [
            node("central-1", "itself", "central"),
            node("central-2", "peer", "central"),
            node("edge-1", "child"),
            node("edge-2", "behind", via="id-central-2"),
            node("edge-3\x1b", "apart", why="nothing heard for 2 s", down_since="2026-01-02T03:04:05Z"),
        ],
        "links": [
            link("central-2", "peer", rtt_ms=None, lag=2),
            link("edge-1", "downlink"),
            {**link("edge-2", "downlink"), "source": "id-central-2", "reported": True},
        ],
    }
    *lines, last = tree(found)
    assert lines == [
        "● central-1 (central)  this node",
        "↔ central-2 (central)  peer active, 3 routes in, 4 out, 2 to tell",
        "    ↓ edge-2 (edge)",
        "↓ edge-1 (edge)  downlink active, 1.2 ms, 3 routes in, 4 out",
    ]
    assert last.startswith("× edge-3\\x1b (edge)  not linked  nothing heard for 2 s, 2026-01-0")


def test_of_an_edge() -> None:
    found = {
        **FINE,
        "nodes": [
            node("central-1", "parent", "central"),
            node("central-2", "standby parent", "central"),
            node("edge-1", "itself"),
        ],
        "links": [link("central-1", "uplink"), link("central-2", "uplink", "standby")],
    }
    assert tree(found) == [
        "↑ central-1 (central)  uplink active, 1.2 ms, 3 routes in, 4 out",
        "↑ central-2 (central)  uplink standby, 1.2 ms, 3 routes in, 4 out",
        "● edge-1 (edge)  this node",
    ]
    cut = {**FINE, "uplink_down_since": "2026-01-02T03:04:05Z", "nodes": [node("edge-1", "itself")], "links": []}
    assert tree(cut)[0].startswith("↑ no uplink since 2026-01-0")


def test_what_nodes_tell_of_themselves() -> None:
    """One of before tells nothing."""
    found = {
        **FINE,
        "nodes": [
            node("central", "itself", "central", version="0.9.1", devices=0, ahead=False),
            node("edge-1", "child", version="0.10.0", devices=1, ahead=True),
            node("edge-2", "child", version=None, devices=None, ahead=False),
        ],
        "links": [],
    }
    assert tree(found) == [
        "● central (central, 0.9.1, 0 devices)  this node",
        "↓ edge-1 (edge, 0.10.0, newer than its central node, 1 device)",
        "↓ edge-2 (edge)",
    ]


def test_what_is_not_known() -> None:
    found = {
        **FINE,
        "unheard": [{"node": "central-2", "since": "2026-01-02T03:04:05Z"}],
        "table": {"fresh": False, "why": "no engine"},
        "nodes": [node("central-1", "itself", "central")],
        "links": [],
    }
    lines = tree(found)
    assert lines[1].startswith("‼ what central-2 revokes is not heard since 2026-01-0")
    assert lines[2] == "‼ the shared table is old: no engine"


async def test_of_a_node_that_stands_alone(here: Shell) -> None:
    shown = json.loads((await here.run("topology", "-o", "json")).out)
    ((itself,), links) = shown["nodes"], shown["links"]
    assert (itself["place"], links) == ("itself", [])
    assert (await here.run("topology")).out.decode() == f"● {itself['name']} (edge, {__version__})  this node\n"
    said = await here.run("latency", itself["name"], itself["id"], "-n", "1")
    assert (said.code, said.out) == (1, b"unreachable: this node stands alone\n")
    nobody = await here.run("latency", itself["name"], "nobody")
    assert nobody.code == 1
    assert "no node of the federation is called nobody" in nobody.err
    assert (await here.run("peer", "show", "nobody")).code == 1
