"""What an operator sees of what waits, and does about it: API, command line, metrics, events, alarms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from gateway.control.roles import Role
from tests.admin.api import TESTER, Api, problem
from tests.local_node import fnf, until
from tests.rawclient import RawClient

WAIT = "kind: Spool\nname: wait\nmatch: [{service: historian}]\nminFree: 0%\nmaxBytes: 64KiB\nmaxMessage: 32KiB\n"


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    api = await Api.start(tmp_path / "data", {"telemetry.listen": "127.0.0.1:0"})
    await api.control.documents.apply(WAIT, by=TESTER)
    yield api
    await api.finish()


async def backlog(api: Api, count: int = 5, size: int = 10) -> RawClient:
    client = await api.local.client(subject="kitchen")
    client.send(*(fnf(client, "historian.write", b"%03d" % number + bytes(size)) for number in range(count)))
    await until(lambda: waiting(api) == count)
    return client


def waiting(api: Api) -> int:
    assert api.node.depot is not None
    return sum(spool.messages for spool in api.node.depot.spools().values())


async def test_ls_and_peek(api: Api) -> None:
    await backlog(api)
    (row,) = (await api.get("/spools"))["data"]
    assert (row["name"], row["document"], row["service"]) == ("wait/historian", "wait", "historian")
    assert (row["messages"], row["appended"], row["behind"], row["max_bytes"]) == (5, 5, True, 65536)
    assert (await api.get("/spools?q=other&sort=-messages"))["data"] == []
    page = await api.get("/spools/messages?spool=wait/historian&limit=3")
    assert [each["data"][:3] for each in page["data"]] == ["000", "001", "002"]
    assert {each["subject"] for each in page["data"]} == {"kitchen"}
    assert {each["route"] for each in page["data"]} == {"historian.write"}
    rest = await api.get(f"/spools/messages?spool=wait/historian&limit=3&cursor={page['meta']['next']}")
    assert [each["data"][:3] for each in rest["data"]] == ["003", "004"]
    problem(await api.http.get("/api/v1/spools/messages?spool=other"), 404, "not-found")


async def test_drop(api: Api) -> None:
    await backlog(api)
    page = await api.get("/spools/messages?spool=wait/historian")
    body = {"spool": "wait/historian", "ids": [page["data"][0]["id"]]}
    assert (await api.send("POST", "/spools:drop?dry_run=1", json=body))["messages"] == 1
    assert (await api.send("POST", "/spools:drop", json=body))["messages"] == 1
    assert waiting(api) == 4
    problem(await api.http.post("/api/v1/spools:drop", json={"spool": "wait/historian", "ids": ["x"]}), 422, "invalid")
    assert (await api.send("POST", "/spools:drop", json={"spool": "wait/historian", "key": "kitchen"}))["messages"] == 4
    assert (await api.get("/spools"))["data"][0]["lost"] == {"dropped": 5}
    assert [entry["action"] for entry in (await api.get("/audit"))["data"][:2]] == ["spool.drop", "spool.drop"]


async def test_replay(api: Api) -> None:
    await backlog(api)
    assert (await api.send("POST", "/spools:replay", json={"spool": "wait/historian"}))["messages"] == 5
    problem(await api.http.post("/api/v1/spools:replay", json={"spool": "other"}), 404, "not-found")


async def test_who_may(api: Api) -> None:
    """Whoever looks into messages sees what devices say: that takes more than looking at figures."""
    await backlog(api)
    path = "/api/v1/spools/messages?spool=wait/historian"
    async with await api.key(Role.VIEWER, ("routing",)) as viewer:
        assert (await viewer.get("/api/v1/spools")).status_code == 200
        problem(await viewer.get(path), 403, "forbidden")
    async with await api.key(Role.OPERATOR, ("routing",)) as operator:
        assert (await operator.get(path)).status_code == 200
        problem(await operator.post("/api/v1/spools:drop", json={"spool": "wait/historian"}), 403, "forbidden")


async def test_metrics(api: Api) -> None:
    await backlog(api)
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{api.node.addresses['telemetry']}/metrics")).text
    assert 'gateway_spool_messages{spool="wait"} 5.0' in text
    assert 'gateway_spool_appended_total{spool="wait"} 5.0' in text
    assert "historian" not in text


async def test_a_spool_that_fills_is_an_alarm_until_it_is_drained(api: Api) -> None:
    await backlog(api, 3, 20_000)
    await until(lambda: "spool_filling" in [alarm.slug for alarm in api.control.alarms])
    await api.local.servant(name="historian")
    await until(lambda: waiting(api) == 0 and "spool_filling" not in [alarm.slug for alarm in api.control.alarms])
    assert api.node.admin is not None
    kinds = [event.kind for event in api.node.admin.events.since(0, 1000)[0]]
    assert [kind for kind in kinds if kind.startswith("spool.")] == ["spool.filling", "spool.drained"]
