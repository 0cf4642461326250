"""The checks of `gateway doctor` on links to other nodes, as the running node itself sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli.contexts import Context
from gateway.cli.diagnosis import Finding, error, ok, skipped, warning
from gateway.cli.table import Document, shown
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.cli.checks import Scene

#: Changes that are told within so many seconds are no lag.
LAG_S = 5.0


def links(scene: Scene) -> Iterator[Finding]:
    """Links, what was revoked elsewhere, and the shared table."""
    runtime = scene.runtime
    if runtime is None or not runtime.admin:
        yield skipped("links-up", "no node runs here that could be asked" if runtime is None else "it has no admin API")
        return
    from gateway.cli.api import Api

    try:
        with Api(Context("doctor", data=scene.data)) as api:
            found = api.get("/topology")
    except GatewayError as problem:
        yield skipped("links-up", f"the node cannot be asked: {problem}")
        return
    if len(found["nodes"]) < 2:
        yield skipped("links-up", "this node stands alone")
        return
    yield _up(found)
    yield _heard(found)
    table = found["table"]
    if table is not None and table["fresh"]:
        yield ok("table-followed", f"{table['devices']} devices of {table['nodes']} central nodes are known")
    elif table is not None:
        yield warning("table-followed", f"the shared table is old: {table['why']}", "gateway engine check")


def _up(found: Document) -> Finding:
    if found["uplink_down_since"]:
        since = shown(found["uplink_down_since"], "since")
        return error("links-up", f"no uplink since {since}", "gateway topology says why; is a central node up?")
    apart = [node["name"] for node in found["nodes"] if node["place"] == "apart" and node["role"] == "central"]
    if apart and any(node["place"] == "itself" and node["role"] == "central" for node in found["nodes"]):
        return warning("links-up", f"not linked to {', '.join(apart)}", "gateway topology says since when and why")
    late = [link["target"] for link in found["links"] if (link["lag_s"] or 0.0) > LAG_S]
    if late:
        return warning("links-up", f"behind in telling routes to {', '.join(late)}", "gateway peer show NODE")
    return ok("links-up", f"{sum(not link['reported'] for link in found['links'])} links are up")


def _heard(found: Document) -> Finding:
    missing = [f"{each['node']} since {shown(each['since'], 'since')}" for each in found["unheard"]]
    if missing:
        text = f"what is revoked elsewhere is not heard: {'; '.join(missing)}"
        return warning("revocations-heard", text, "bring the link up: gateway topology says why it is down")
    return ok("revocations-heard", "what is revoked elsewhere is known here")
