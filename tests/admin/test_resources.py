"""What the admin API shows and does on a live node, noun by noun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.control.roles import Role
from gateway.wire import frames
from gateway.wire.metadata import encode_composite, encode_routing
from gateway.wire.mimetypes import ROUTING
from tests.admin.api import Api, problem
from tests.local_node import until
from tests.rawclient import HandshakeRefused


async def test_the_node_says_what_it_is(api: Api) -> None:
    node = await api.get("/node")
    assert node["id"] == api.node.identity.node_id
    assert node["name"] == "edge-1"
    assert node["state"] == "ready"
    assert set(node["addresses"]) == {"admin", "tcp", "websocket"}
    assert node["addresses"]["admin"] == api.url
    assert set(node["checks"].values()) == {"ok"}
    assert node["uptime_s"] >= 0


async def test_figures_are_of_this_moment(api: Api) -> None:
    before = await api.get("/node/stats")
    echo = await api.local.servant()
    client = await api.local.client()
    await api.send("POST", "/services/echo:call", json={"data": "hello"})
    after = await api.get("/node/stats")
    assert after["connections"]["open"]["client"] == 2
    assert after["interactions"]["request_response"] > before["interactions"]["request_response"]
    assert after["requests"]["ok"] > before["requests"]["ok"]
    assert after["routes"] == before["routes"] + 2
    assert after["memory_bytes"] > 1_000_000
    assert echo.client is not client


async def test_draining_and_back(api: Api) -> None:
    """Told to go, a client goes; nobody new is let in; and then they are."""
    client = await api.local.client(subject="kitchen", kind="device")
    assert (await api.send("POST", "/node/drain?dry_run=1"))["state"] == "ready"
    assert (await api.send("POST", "/node/drain"))["state"] == "draining"
    goodbye = await client.recv()
    assert isinstance(goodbye, frames.Error)
    assert "draining" in goodbye.text
    await client.close()
    with pytest.raises(HandshakeRefused, match="503"):
        await api.local.connect()
    assert (await api.send("POST", "/node/undrain"))["state"] == "ready"
    await api.local.client(subject="kitchen", kind="device")
    assert [entry["action"] for entry in (await api.get("/audit"))["data"][:2]] == ["node.undrain", "node.drain"]


async def test_draining_to_the_end(api: Api) -> None:
    """Fault 95: whoever runs the node is told to stop it; that cannot be taken back."""
    assert (await api.send("POST", "/node/drain?exit=1&dry_run=1"))["state"] == "ready"
    assert not api.node.ending
    assert (await api.send("POST", "/node/drain?exit=1"))["state"] == "draining"
    await asyncio.wait_for(api.node.wait_for_end(), 30)
    await api.send("POST", "/node/undrain")
    assert api.node.ending
    (entry,) = (await api.get("/audit?action=node.drain"))["data"]
    assert entry["outcome"] == "ok"


# Connections


async def by_pages(api: Api, sort: str) -> list[str]:
    """The ids of the open connections in this order."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = await api.get("/connections", params={"sort": sort, "limit": 3, **more})
        found += [row["id"] for row in page["data"]]
        cursor = page["meta"]["next"]
    return found


async def test_open_connections_can_be_sorted_filtered_and_paged(api: Api) -> None:
    for name in ("anna", "bert", "carl"):
        await api.local.client(subject=name, kind="device")
    await api.local.servant()
    rows = (await api.get("/connections", params={"kind": "device", "sort": "-subject"}))["data"]
    assert [row["subject"] for row in rows] == ["carl", "bert", "anna"]
    row = rows[0]
    assert row["state"] == "open"
    assert row["principal_kind"] == "device"
    assert row["frames_in"] >= 2
    assert row["bytes_in"] > 100
    assert row["bytes_out"] > 10
    assert row["rtt_ms"] > 0
    assert 0 <= row["idle_s"] < 5
    every = sorted(row["id"] for row in (await api.get("/connections"))["data"])
    assert len(set(every)) == 4
    for sort in ("rtt", "-pending", "idle", "-bytes_in", "bytes_out", "outbox", "streams", "-opened_at", "id"):
        # What a row is sorted by may change between two pages; a quiet moment comes.
        async with asyncio.timeout(30):
            while sorted(await by_pages(api, sort)) != every:
                pass
    assert [row["subject"] for row in (await api.get("/connections?q=ber"))["data"]] == ["bert"]
    assert (await api.get(f"/connections/{row['id']}"))["subject"] == "carl"
    problem(await api.http.get("/api/v1/connections?sort=colour"), 422, "invalid")


async def test_a_kick_ends_a_connection_and_is_remembered_with_its_reason(api: Api) -> None:
    client = await api.local.client(subject="kitchen", kind="device")
    (row,) = (await api.get("/connections?subject=kitchen"))["data"]
    await api.send("DELETE", f"/connections/{row['id']}", 204)
    last = await client.recv()
    assert isinstance(last, frames.Error)
    assert last.text == "closed by an operator"
    closed = (await api.get("/connections?state=closed&reason=kicked"))["data"]
    assert [(each["id"], each["subject"], each["text"]) for each in closed] == [
        (row["id"], "kitchen", "closed by an operator")
    ]
    assert closed[0]["duration_s"] >= 0
    assert (await api.get(f"/connections/{row['id']}"))["state"] == "closed"
    problem(await api.http.delete(f"/api/v1/connections/{row['id']}"), 404, "not-found")
    assert (await api.get("/audit"))["data"][0]["action"] == "connection.kick"


async def test_streams_show_their_credit(api: Api) -> None:
    echo = await api.local.servant()
    client = await api.local.client()
    number = client.next_stream_id()
    metadata = encode_composite([(ROUTING, encode_routing(["echo.it"]))])
    client.send(frames.RequestStream(number, metadata, b"10", initial_n=3))
    for _ in range(3):
        await client.recv()
    (mine,) = (await api.get(f"/connections/{api.local.connection(client).number}/streams"))["data"]
    (its,) = (await api.get(f"/connections/{api.local.connection(echo.client).number}/streams"))["data"]
    assert (mine["id"], mine["direction"], mine["interaction"]) == (number, "requests", "request_stream")
    assert (its["direction"], its["other_subject"]) == ("serves", "tester")
    assert mine["credit"] == its["credit"] == 0
    problem(await api.http.get("/api/v1/connections/999/streams"), 404, "not-found")


# Routes and services


async def test_routes_are_listed(api: Api) -> None:
    echo = await api.local.servant()
    (route,) = (await api.get("/routes?service=echo"))["data"]
    assert route["subject"] == "svc-echo"
    assert route["connection"] == str(api.local.connection(echo.client).number)
    assert await api.get(f"/routes/{route['id']}") == route
    assert (await api.get("/routes?subject=svc-echo"))["data"] == [route]
    assert (await api.get("/routes?service=none"))["data"] == []
    problem(await api.http.get("/api/v1/routes/00000000-0000-0000-0000-000000000000"), 404, "not-found")


async def resolved(api: Api, **question: Any) -> Any:
    return await api.send("POST", "/routes:resolve", json=question)


async def test_a_request_is_explained(api: Api) -> None:
    """Which name matched, who could serve, who may be asked, whom the balancer would take; and why not."""
    await api.local.servant()
    (route,) = (await api.get("/routes?service=echo"))["data"]
    answer = await resolved(api, route="echo.it")
    assert (answer["verdict"], answer["service"], answer["chosen"]) == ("ok", "echo", route["id"])
    assert answer["method"] == "least-pending"
    assert [each["permitted"] for each in answer["candidates"]] == [True]
    assert (await resolved(api, route="nobody.here"))["verdict"] == "no_route"
    assert (await resolved(api))["verdict"] == "invalid"
    assert (await resolved(api, route="echo.it", tags={"sub": "other"}))["verdict"] == "no_route"
    assert (await resolved(api, route="echo.it", tags={"ShardKey": "sub", "sub": "svc-echo"}))["method"] == "shard"
    assert (await resolved(api, route="echo.it", multicast=True))["reason"] == "goes to all 1 that are permitted"
    by_tags = await resolved(api, route="it", tags={"io.rsocket.broker.ServiceName": "echo"}, by_tags=True)
    assert by_tags["verdict"] == "ok"


async def test_an_explanation_says_what_documents_do_with_the_request(api: Api) -> None:
    text = """
kind: Service
name: echo
routes: [{match: [{route: "it"}], timeout: 3s, name: short}]
---
kind: Spool
name: later
match: [{service: historian}]
"""
    await api.send("POST", "/documents:apply", json={"text": text})
    await api.local.servant()
    answer = await resolved(api, route="echo.it")
    assert (answer["governed"]["document"], answer["governed"]["rule"]) == ("Service/echo", "short")
    assert (answer["governed"]["timeout_s"], answer["spools"]) == (3.0, [])
    assert (await resolved(api, route="echo.other"))["governed"]["rule"] == ""
    waits = await resolved(api, route="historian.add", interaction="fireAndForget")
    assert (waits["verdict"], waits["governed"], waits["spools"]) == ("no_route", None, ["later/historian"])
    assert (await resolved(api, route="historian.add", interaction="requestStream"))["spools"] == []


async def test_a_request_is_explained_for_somebody_else(api: Api) -> None:
    await api.local.servant()
    await api.send("POST", "/devices", 201, json={"id": "kitchen", "routes": ["thermo.*"]})
    answer = await resolved(api, route="echo.it", caller="kitchen")
    assert (answer["verdict"], answer["caller"], answer["caller_kind"]) == ("not_permitted", "kitchen", "device")
    assert "thermo.*" in answer["candidates"][0]["why"]
    problem(await api.http.post("/api/v1/routes:resolve", json={"caller": "nobody"}), 422, "invalid")


async def test_services_are_called_through_the_node(api: Api) -> None:
    echo = await api.local.servant()
    answer = await api.send("POST", "/services/echo:call", json={"route": "it", "data": "hällo"})
    assert answer["outcome"] == "ok"
    assert answer["items"] == [{"data": "hällo", "encoding": "utf8"}]
    assert answer["route"] == "echo.it"
    binary = await api.send("POST", "/services/echo:call", json={"data": "/w==", "encoding": "base64"})
    assert binary["items"] == [{"data": "/w==", "encoding": "base64"}]
    stream = {"interaction": "request_stream", "data": "4", "items": 3}
    assert len((await api.send("POST", "/services/echo:call", json=stream))["items"]) == 3
    await api.send("POST", "/services/echo:call", json={"interaction": "fire_and_forget", "data": "x"})
    await until(lambda: echo.got(frames.RequestFnf))
    refused = await api.send("POST", "/services/nobody:call", json={})
    assert refused["outcome"] == "error"
    assert refused["error"]["text"] == "no route to nobody"
    (service,) = [each for each in (await api.get("/services"))["data"] if each["name"] == "echo"]
    assert service["instances"] == 1
    assert service["ok"] >= 3
    assert [c for c in api.node.plane.connections.values() if c.peer == "console"] == []


async def test_a_service_that_does_not_answer_is_given_up(api: Api) -> None:
    client = await api.local.client(serving=("mute",))
    answer = await api.send("POST", "/services/mute:call", json={"timeout_s": 0.1})
    assert answer["outcome"] == "timeout"
    assert isinstance(await client.recv(), frames.RequestResponse)
    assert isinstance(await client.recv(), frames.Cancel)


async def test_calling_needs_the_scope_and_the_role(api: Api) -> None:
    await api.local.servant()
    for role, scopes, status in (
        (Role.PUBLISHER, ("publish",), 200),
        (Role.VIEWER, ("publish",), 403),
        (Role.PUBLISHER, ("routing",), 403),
    ):
        async with await api.key(role, scopes) as key:
            assert (await key.post("/api/v1/services/echo:call", json={})).status_code == status


# Certificates and keys


async def test_certificates_are_shown_and_renewed(api: Api) -> None:
    before = {each["name"]: each for each in (await api.get("/certificates"))["data"]}
    assert set(before) == {"listener", "ca"}
    assert "localhost" in before["listener"]["names"]
    assert before["listener"]["days_left"] > 30
    after = {each["name"]: each for each in (await api.send("POST", "/certificates/renew"))["data"]}
    assert after["ca"] == before["ca"]
    assert after["listener"]["serial"] != before["listener"]["serial"]
    assert after["listener"]["names"] == before["listener"]["names"]


async def test_public_keys_are_for_everybody(api: Api) -> None:
    async with api.client() as stranger:
        (key,) = (await stranger.get("/.well-known/jwks.json")).json()["keys"]
        assert (key["kid"], key["alg"], key["kty"]) == (api.node.identity.kid, "EdDSA", "OKP")
        assert "d" not in key
        assert (await stranger.get("/ca.pem")).text.startswith("-----BEGIN CERTIFICATE-----")
        assert (await stranger.get("/healthz")).text == "ok\n"


async def test_several_at_once(api: Api) -> None:
    answers = await asyncio.gather(*(api.http.get("/api/v1/node/stats") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
