"""The links of one node and what lies behind them, for people and for a scrape. Reads, and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.control.members import CENTRAL, Member
from gateway.federation.census import UNKNOWN
from gateway.federation.releases import is_newer
from gateway.forwarding.links import DOWNLINK, PEER, UPLINK
from gateway.observe.links import LinkFigures, TableFigures

if TYPE_CHECKING:
    from gateway.federation.federation import Federation
    from gateway.federation.items import About
    from gateway.federation.link import Link
    from gateway.federation.table.shared import TableStatus

#: What a node is to the other end of a link.
_PLACES: Final = {UPLINK: "parent", DOWNLINK: "child", PEER: "peer"}


def in_use(federation: Federation, link: Link) -> bool:
    """Whether requests go over a link; one that is kept warm carries none."""
    return link is federation.uplink if link.side == UPLINK else link.intake.active


def shown(federation: Federation, link: Link) -> dict[str, Any]:
    """One link, for people. Times are Unix seconds, seconds or, with `_ms`, milliseconds."""
    connection, feed = link.connection, link.feed
    principal = connection.principal
    return {
        "kind": link.kind,
        "state": "active" if in_use(federation, link) else "standby",
        "address": link.url or connection.peer,
        "dialled": link.dialled,
        "since": link.up_since,
        "rtt_ms": round(link.rtt_s * 1000, 2) if link.rtt_s else None,
        "routes_in": len(link.intake),
        "routes_out": 0 if feed is None else feed.routes,
        "refused": link.intake.refused,
        "lag": 0 if feed is None else feed.lag,
        "lag_s": 0.0 if feed is None else round(feed.lag_s, 3),
        "whole": link.intake.whole,
        "items_in": link.intake.heard,
        "items_out": 0 if feed is None else feed.told,
        "restarts": link.restarts,
        "mismatches": link.mismatched,
        "interests": 0 if link.interests is None else len(link.interests),
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.outbox.bytes_sent,
        "pending": connection.pending,
        "services": list(principal.services),
        "routes": list(principal.routes),
    }


def topology(federation: Federation, members: Iterable[Member]) -> dict[str, Any]:
    """Every node that this one knows, with what it is to this one, and all links that it knows of."""
    own = federation.plane.node_id
    standing = {uuid.UUID(member.id).bytes: member for member in members}
    direct: dict[bytes, Link] = {}
    behind: dict[bytes, Link] = {}
    outward = _outward(federation)
    for link in outward:
        if link.connection.closed:
            continue
        if link.node not in direct or in_use(federation, link):
            direct[link.node] = link
        for node in link.intake.names:
            if node not in (own, link.node):
                behind.setdefault(node, link)
    nodes = [_place(federation, node, member, direct, behind) for node, member in standing.items()]
    links = [
        {"source": _text(own), "target": _text(link.node), "reported": False, **shown(federation, link)}
        for link in outward
    ]
    links += [
        {"source": _text(link.node), "target": _text(node), "reported": True, "kind": "downlink", "state": "active"}
        for node, link in behind.items()
        if node not in direct
    ]
    down = federation.parents and federation.uplink is None
    return {
        "node": _text(own),
        "uplink_down_since": federation.down_since if down else None,
        "nodes": sorted(nodes, key=lambda node: (_RANK[node["place"]], node["name"])),
        "links": links,
    }


#: In which order people see nodes.
_RANK: Final = {"itself": 0, "parent": 1, "standby parent": 2, "peer": 3, "child": 4, "behind": 5, "apart": 6}


def _place(
    federation: Federation, node: bytes, member: Member, direct: dict[bytes, Link], behind: dict[bytes, Link]
) -> dict[str, Any]:
    link = direct.get(node)
    via = behind.get(node)
    ended = federation.journal.ended.get(node)
    if node == federation.plane.node_id:
        place = "itself"
    elif link is not None:
        place = _PLACES[link.side]
        if link.side == UPLINK and link is not federation.uplink:
            place = "standby parent"
    else:
        place = "behind" if via is not None else "apart"
    about = _said_over(link or via, node) if place != "itself" else federation.census.about
    return {
        "id": member.id,
        "name": member.name,
        "role": member.role,
        "place": place,
        "via": None if via is None or link is not None else _text(via.node),
        "urls": list(member.urls),
        "version": about.version,
        "devices": about.devices,
        "ahead": member.role != CENTRAL and _is_ahead(federation, about, place, via),
        "down_since": None if ended is None or link is not None else ended.at,
        "why": "" if ended is None or link is not None else ended.why,
    }


def about(federation: Federation, member: Member) -> dict[str, Any]:
    """What a node is said to be, by itself sooner than by others, as `_place` shows it."""
    node = uuid.UUID(member.id).bytes
    telling = [link for link in _outward(federation) if node in link.intake.about]
    direct = {link.node: link for link in telling}
    behind = {} if node in direct or not telling else {node: telling[0]}
    shown = _place(federation, node, member, direct, behind)
    return {name: shown[name] for name in ("version", "devices", "ahead")}


def _said_over(link: Link | None, node: bytes) -> About:
    return UNKNOWN if link is None else link.intake.about.get(node, UNKNOWN)


def _is_ahead(federation: Federation, about: About, place: str, via: Link | None) -> bool:
    """Whether an edge is newer than the central node that it is linked to."""
    if place == "child":
        central = federation.census.about
    else:
        link = via if place == "behind" else federation.uplink if place == "itself" else None
        central = UNKNOWN if link is None else _said_over(link, link.node)
    return is_newer(about.version or "", central.version or "")


def figures(federation: Federation) -> list[LinkFigures]:
    """One for each label; 0 are up of a node whose links are over."""
    journal = federation.journal
    found = {
        (kind, node): LinkFigures(kind, node, **past._asdict()) for (kind, node), past in list(journal.past.items())
    }
    for link in _outward(federation):
        key = (link.kind, journal.label(link))
        if key in found:
            found[key] = _and_of(found[key], federation, link)
    return list(found.values())


def _and_of(sum: LinkFigures, federation: Federation, link: Link) -> LinkFigures:
    feed, connection = link.feed, link.connection
    return sum._replace(
        up=sum.up + 1,
        active=sum.active + in_use(federation, link),
        rtt_s=max(sum.rtt_s, link.rtt_s),
        routes_in=sum.routes_in + len(link.intake),
        routes_out=sum.routes_out + (0 if feed is None else feed.routes),
        lag=sum.lag + (0 if feed is None else feed.lag),
        lag_s=max(sum.lag_s, 0.0 if feed is None else feed.lag_s),
        restarts=sum.restarts + link.restarts,
        mismatches=sum.mismatches + link.mismatched,
        bytes_in=sum.bytes_in + connection.bytes_in,
        bytes_out=sum.bytes_out + connection.outbox.bytes_sent,
    )


def _outward(federation: Federation) -> list[Link]:
    """Links to other nodes, once it is known which; not those between the processes of this one."""
    return [link for link in federation.links.values() if link.node and link.name != federation.plane.node]


def table(status: TableStatus) -> TableFigures:
    """Of the shared table what a scrape and people read."""
    return TableFigures(**{name: getattr(status, name) for name in TableFigures._fields})


def _text(node: bytes) -> str:
    return str(uuid.UUID(bytes=node))
