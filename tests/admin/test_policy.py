"""What `Access` documents say of a request, over the API."""

from __future__ import annotations

import json
from typing import Any

from tests.admin.api import Api, problem
from tests.local_node import call

DOCUMENTS = """
kind: Access
name: ops-only
action: DENY
rules:
  - from: [{notGroups: [ops]}]
    to: [{services: [thermostat], routes: ["set.*"]}, {topics: ["cmd/#"]}]
---
kind: Access
name: readers
action: ALLOW
rules:
  - from: [{groups: [staff]}]
    to: [{services: [thermostat]}]
---
kind: Access
name: soon
action: DENY
dryRun: true
rules:
  - to: [{services: [lamp]}]
"""


async def test_a_decision_is_explained(api: Api) -> None:
    await api.send("POST", "/documents:apply", json={"text": DOCUMENTS})

    async def check(**asked: Any) -> Any:
        return await api.send("POST", "/policy:check", json={"subject": "d1", **asked})

    denied = await check(service="thermostat", route="set.target")
    assert (denied["allowed"], denied["policy"], denied["rule"], denied["granted"]) == (False, "ops-only", 0, None)
    assert [(step["policy"], step["fits"]) for step in denied["steps"]] == [
        ("ops-only", True),
        ("soon", False),
        ("readers", False),
    ]
    assert denied["steps"][2]["why"] == "d1 is in none of the groups staff"
    unlisted = await check(service="thermostat", route="get")
    assert (unlisted["allowed"], unlisted["policy"], unlisted["rule"]) == (False, "readers", -1)
    assert (await check(service="thermostat", route="get", groups=["staff"]))["policy"] == "readers"
    assert (await check(service="lamp"))["dry_run_denied"] == "soon"
    assert (await check(topic="cmd/1"))["policy"] == "ops-only"
    assert (await check(topic="cmd/1", groups=["ops"]))["allowed"]
    assert (await check(service="gateway", route="gateway.renew"))["allowed"]
    for wrong in ({}, {"service": "a", "topic": "b"}, {"topic": "a/+/b#"}, {"service": "a", "interaction": "publish"}):
        problem(await api.http.post("/api/v1/policy:check", json={"subject": "d1", **wrong}), 422, "invalid")


async def test_what_the_token_of_the_caller_allows_is_said_besides(api: Api) -> None:
    client = await api.local.connect()
    client.setup(api.local.token("d7", "device", routes=("lamp",)))
    await client.ready()
    for service, granted in (("lamp", True), ("thermostat", False)):
        said = await api.send("POST", "/policy:check", json={"subject": "d7", "service": service})
        assert (said["granted"], said["allowed"]) == (granted, granted)


async def test_one_name_alone_is_looked_up_as_that_of_a_request(api: Api) -> None:
    """What is explained is what would happen: the service that serves it, then the route."""
    rule = {"to": [{"services": ["echo"], "routes": ["set*"]}]}
    document = {"kind": "Access", "name": "nobody-sets", "action": "DENY", "rules": [rule]}
    await api.send("POST", "/documents:apply", json={"text": json.dumps(document)})
    await api.local.servant()
    for asked in ({"service": "echo.set.target"}, {"service": "echo", "route": "set.target"}):
        assert not (await api.send("POST", "/policy:check", json={"subject": "d1", **asked}))["allowed"]
    assert (await api.send("POST", "/policy:check", json={"subject": "d1", "service": "echo.get"}))["allowed"]


async def test_a_draft_of_what_the_flow_log_remembers(api: Api) -> None:
    await api.send("POST", "/documents:apply", json={"text": "kind: Telemetry\nname: flows\nflowLog: {}\n"})
    await api.local.servant()
    client = await api.local.client("ws", "phone-1")
    await call(client, "echo", b"?")
    drafted = await api.get("/policy:draft")
    (document,) = drafted["documents"]
    assert (document["name"], document["rules"][0]["from"]) == ("allow-echo", [{"principals": ["phone-1"]}])


async def test_a_draft_over_the_api_can_be_applied(api: Api) -> None:
    flows = [{"subject": "d1", "groups": ["ops"], "service": "thermostat", "route": "get"}]
    drafted = await api.send("POST", "/policy:draft", json={"flows": flows})
    await api.send("POST", "/documents:apply", json={"text": "---\n".join(map(json.dumps, drafted["documents"]))})
    for groups, allowed in (["ops"], True), ([], False):
        asked = {"subject": "d2", "groups": groups, "service": "thermostat", "route": "get"}
        assert (await api.send("POST", "/policy:check", json=asked))["allowed"] is allowed
