"""One flow log and one graph for all processes of a node."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.node_process import NodeProcess
from tests.workers.several import Clients, answered, eventually

pytestmark = pytest.mark.xdist_group("workers")


async def test_the_first_process_shows_the_flows_of_all(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        assert (await api.get("/flows")).status_code == 200  # from now on they are recorded
        await clients.serving(1, "seen")
        asking = [await clients.asking(process, f"flow-{process}") for process in (0, 1, 2)]

        async def all_seen() -> bool:
            # Where no route is known yet, that is a record, too.
            for client in asking:
                await answered(client, "seen.x")
            return await _sources(api) >= {"flow-0", "flow-1", "flow-2"}

        await eventually(all_seen)
        graph = (await api.get("/graph")).json()
        edges = [edge for edge in graph["edges"] if edge["service"] == "seen"]
        assert sum(edge["ok"] for edge in edges) >= 3
        assert {edge["node"] for edge in edges} == {""}


async def _sources(api: httpx.AsyncClient) -> set[str]:
    params: dict[str, Any] = {"filter": 'destination.service == "seen" && is_reply', "limit": 100}
    found = (await api.get("/flows", params=params)).json()["data"]
    return {each["source"]["id"] for each in found}
