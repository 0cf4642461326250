"""`gateway topology`, `gateway latency`: the federation as a node sees it, and how far apart its nodes are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.call import Query, register
from gateway.cli.table import Document, printable, shown

UNHEALTHY = 3


def attach(app: typer.Typer) -> None:
    register(app, topology)
    register(app, latency)


def topology(call: Query) -> None:
    """Show the nodes of the federation and their links, as one node sees them. Ends with 3 when it has no uplink."""
    found = call.api.get("/topology")
    if not call.for_people:
        call.show(found)
    else:
        for line in tree(found):
            typer.echo(line)
    raise typer.Exit(UNHEALTHY if found["uplink_down_since"] else 0)


def latency(
    call: Query,
    source: Annotated[str, typer.Argument(metavar="A", help="Name or id of a node.")],
    target: Annotated[str, typer.Argument(metavar="B", help="Name or id of another one.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=200, help="How often.")] = 20,
) -> None:
    """Measure round trips between two nodes of the federation, over its links. Ends with 1 when there is none."""
    measured(call, {"source": source, "target": target, "count": count})


def measured(call: Query, probe: dict[str, Any]) -> None:
    """Measure, print, and end the command."""
    said = call.api.send("POST", "/topology:latency", probe)
    if not call.for_people:
        call.show(said)
    elif said["outcome"] == "ok":
        typer.echo(printable(" → ".join(said["path"])))
        figures = ", ".join(f"{name} {said[f'{name}_ms']:.2f} ms" for name in ("min", "p50", "p99", "max"))
        typer.echo(f"{figures}; {said['lost']} of {said['count']} lost")
    else:
        typer.echo(printable(f"unreachable: {said['error']}"))
    raise typer.Exit(0 if said["outcome"] == "ok" else 1)


def tree(found: Document) -> list[str]:
    """What a person reads: parents first, then this node with its peers and children, those behind them below them."""
    links: dict[str, list[Document]] = {}
    for link in found["links"]:
        links.setdefault(link["target"], []).append(link)
    by_place: dict[str, list[Document]] = {}
    below: dict[str, list[Document]] = {}
    for node in found["nodes"]:
        by_place.setdefault(node["place"], []).append(node)
        if node["via"]:
            below.setdefault(node["via"], []).append(node)
    lines = []
    for node in [*by_place.get("parent", ()), *by_place.get("standby parent", ())]:
        lines.append(f"↑ {_node(node)}  {_links(links, node)}".rstrip())
        lines += [f"    {_node(each)}" for each in below.get(node["id"], ())]
    if found["uplink_down_since"]:
        lines.append(f"↑ no uplink since {shown(found['uplink_down_since'], 'since')}")
    lines += [f"● {_node(node)}  this node" for node in by_place.get("itself", ())]
    for each in found["unheard"]:
        since = shown(each["since"], "since")
        lines.append(f"‼ what {printable(each['node'])} revokes is not heard since {since}")
    if found["table"] and not found["table"]["fresh"]:
        lines.append(f"‼ the shared table is old: {printable(found['table']['why'])}")
    for place, sign in (("peer", "↔"), ("child", "↓")):
        for node in by_place.get(place, ()):
            lines.append(f"{sign} {_node(node)}  {_links(links, node)}".rstrip())
            lines += [f"    ↓ {_node(each)}" for each in below.get(node["id"], ())]
    for node in by_place.get("apart", ()):
        why = f"  {node['why']}, {shown(node['down_since'], 'since')}" if node["down_since"] else ""
        lines.append(f"× {_node(node)}  not linked{printable(why)}")
    return lines


def _node(node: Document) -> str:
    """A node of before tells neither its version nor how many devices it has."""
    parts = [node["role"]]
    if node.get("version"):
        parts.append(f"{node['version']}, newer than its central node" if node.get("ahead") else node["version"])
    if node.get("devices") is not None:
        parts.append(f"{node['devices']} device{'' if node['devices'] == 1 else 's'}")
    return printable(f"{node['name']} ({', '.join(parts)})")


def _links(links: dict[str, list[Document]], node: Document) -> str:
    return "; ".join(_link(link) for link in links.get(node["id"], ()) if not link["reported"])


def _link(link: Document) -> str:
    parts = [f"{link['kind']} {link['state']}"]
    if link["rtt_ms"] is not None:
        parts.append(f"{link['rtt_ms']:.1f} ms")
    parts.append(f"{link['routes_in']} routes in, {link['routes_out']} out")
    if link["lag"]:
        parts.append(f"{link['lag']} to tell")
    return ", ".join(parts)
