"""One admin API and one metrics page for all processes of a node."""

from __future__ import annotations

import httpx
import pytest

from gateway.forwarding.numbers import process_of
from tests.faults.node_process import NodeProcess
from tests.workers.several import Clients, answered, eventually, worker_pids

pytestmark = pytest.mark.xdist_group("workers")


async def test_connections_of_all_processes(node: NodeProcess) -> None:
    """Listed, filtered, ordered and paged as one; shown and kicked at any of them; kept when they have ended."""
    async with node.operator() as api, Clients(node) as clients:
        where = (0, 1, 2, 1, 2, 0)
        listed = [await clients.asking(process, f"listed-{at}") for at, process in enumerate(where)]
        numbers = [clients.ready[client]["session"] for client in listed]
        for sort, expected in (("subject", numbers), ("-subject", numbers[::-1])):
            found, cursor = [], None
            while cursor is not None or not found:
                params = {"q": "listed-", "limit": 4, "sort": sort, **({"cursor": cursor} if cursor else {})}
                page = (await api.get("/connections", params=params)).json()
                found += page["data"]
                cursor = page["meta"]["next"]
            assert [each["id"] for each in found] == expected
            assert sorted(each["worker"] for each in found) == sorted(where)
        everything = (await api.get("/connections", params={"limit": 1000})).json()["data"]
        assert {each["kind"] for each in everything} == {"client"}
        only = (await api.get("/connections", params={"subject": "listed-3"})).json()["data"]
        assert [each["worker"] for each in only] == [1]

        for at in (0, 1):
            number = numbers[at]
            assert (await api.get(f"/connections/{number}")).json()["subject"] == f"listed-{at}"
            assert (await api.get(f"/connections/{number}/streams")).json()["data"] == []
            assert (await api.delete(f"/connections/{number}")).status_code == 204
            await listed[at].recv_close()
            await eventually(lambda: _closed(api, number))  # noqa: B023
            params = {"state": "closed", "subject": f"listed-{at}", "reason": "kicked"}
            closed = (await api.get("/connections", params=params)).json()
            assert [(each["reason"], each["worker"]) for each in closed["data"]] == [("kicked", where[at])]
        assert (await api.get(f"/connections/{int(numbers[1]) + 10**6}")).status_code == 404


async def _closed(api: httpx.AsyncClient, number: str) -> bool:
    return bool((await api.get(f"/connections/{number}")).json().get("state") == "closed")


async def test_figures_of_all_processes_together(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:

        async def clients_open() -> int:
            stats = (await api.get("/node/stats")).json()
            return int(stats["connections"]["open"].get("client", 0))

        before = await clients_open()
        for process in (0, 1, 2):
            await clients.asking(process, f"counted-{process}")
        assert await clients_open() == before + 3
        stats = (await api.get("/node/stats")).json()
        # Each has asked whether it is ready.
        assert stats["interactions"]["request_response"] >= 3
        assert stats["memory_bytes"] > 100 << 20, "three processes"

        async def in_history() -> bool:
            history = (await api.get("/node/history")).json()
            return bool(history["connections"]) and int(history["connections"][-1]) == before + 3

        await eventually(in_history)
        assert (await api.get("/health")).json()["state"] != "down"


async def test_a_device_is_kicked_wherever_it_is(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        client = await clients.at(2, node.token("kicked-1", "device"))
        sessions = (await api.get("/devices/kicked-1/sessions")).json()["data"]
        assert [each["id"] for each in sessions if each["state"] == "open"] == [clients.ready[client]["session"]]
        assert (await api.post("/devices/kicked-1/kick")).json() == {"kicked": 1}
        await client.recv_close()


async def test_figures_of_all_processes(node: NodeProcess) -> None:
    async with node.operator() as api, Clients(node) as clients:
        await clients.serving(1, "counted")
        asking = await clients.asking(2)
        await eventually(lambda: answered(asking, "counted.it"))
        async with httpx.AsyncClient(timeout=20) as telemetry:
            text = (await telemetry.get(f"{node.runtime.telemetry}/metrics")).text
        outcomes = [line for line in text.splitlines() if line.startswith("gateway_requests_total{")]
        # What a link serves has one label for all, as what devices serve.
        for process, service in (("1", "counted"), ("2", "(devices)")):
            wanted = f'{{outcome="ok",service="{service}",worker="{process}"}}'
            assert any(wanted in line for line in outcomes), outcomes
        assert sum(line.startswith("process_start_time_seconds") for line in text.splitlines()) == 3

        shown = (await api.get("/node")).json()
        pids = worker_pids(node)
        assert [(each["index"], each["state"], each["pid"]) for each in shown["workers"]] == [
            (index, "ready", pids[index]) for index in sorted(pids)
        ]
        assert shown["checks"]["workers"] == "ok"
        events = (await api.get("/events", params={"kind": "connection.opened"})).json()["data"]
        assert {1, 2} <= {process_of(int(each["data"]["connection"])) for each in events}
