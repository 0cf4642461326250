"""MQTT bridges over the admin API. Their broker is not there: what they do with one is in tests/bridges."""

from __future__ import annotations

from typing import Any

import httpx

from gateway.observe.bridges import LOOPS, Loop
from tests.admin.api import Api, problem
from tests.local_node import until

BODY: dict[str, Any] = {
    "mqtt": {"address": ["mqtt://127.0.0.1:9"]},
    "topics": [
        {"pattern": "s/{device}/#", "direction": "in", "qos": 1, "route": "in.take", "tags": {"sub": "{device}"}},
        {"pattern": "r/{sub}", "route": "out.readings"},
    ],
    "rpc": [{"topic": "cmd/{device}/{method}", "route": "thermo.{method}", "tags": {"sub": "{device}"}}],
    "call": [{"topic": "old/{device}", "reply": "old/{device}/answer"}],
}


async def ask(api: Api, method: str, path: str, **more: Any) -> httpx.Response:
    return await api.http.request(method, f"/api/v1{path}", **more)


def states(api: Api) -> dict[str, str]:
    return {status.name: str(status.state) for status in api.node.bridges.statuses()}


async def make(api: Api, name: str = "plant", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.send("POST", "/mqtt/bridges", 201, json={"name": name, "body": BODY | more})
    return made


async def test_a_bridge_from_its_making_to_its_end(api: Api) -> None:
    dry = await api.send("POST", "/mqtt/bridges?dry_run=1", 201, json={"name": "plant", "body": BODY})
    assert dry["status"] is None
    assert (await api.get("/mqtt/bridges"))["data"] == []
    made = await make(api)
    assert (made["name"], made["version"], made["warnings"]) == ("plant", 1, [])
    assert made["body"] == {"kind": "Bridge", "name": "plant", **BODY}
    assert made["status"]["service"] == "mqtt.plant"
    (listed,) = (await api.get("/mqtt/bridges"))["data"]
    assert (listed["name"], listed["client_id"], listed["version"]) == ("plant", "gateway-plant", 5)
    assert listed["last_ack_age_s"] is None
    problem(await ask(api, "POST", "/mqtt/bridges", json={"name": "plant", "body": BODY}), 412, "precondition-failed")
    changed = await api.send("PUT", "/mqtt/bridges/plant", headers={"if-match": '"1"'}, json=BODY | {"enabled": False})
    assert changed["version"] == 2
    stale = await ask(api, "PUT", "/mqtt/bridges/plant", headers={"if-match": '"1"'}, json=BODY)
    problem(stale, 412, "precondition-failed")
    problem(await ask(api, "PUT", "/mqtt/bridges/other", headers={"if-match": "*"}, json=BODY), 404, "not-found")

    await until(lambda: states(api) == {"plant": "disabled"})
    await api.send("DELETE", "/mqtt/bridges/plant", 204, headers={"if-match": '"2"'})

    await until(lambda: states(api) == {})
    problem(await ask(api, "GET", "/mqtt/bridges/plant"), 404, "not-found")


async def test_what_makes_no_sense_is_said_by_code(api: Api) -> None:
    loop = BODY | {"topics": [{"pattern": "a/#", "direction": "in"}, {"pattern": "a/b"}]}
    answer = await ask(api, "POST", "/mqtt/bridges", json={"name": "plant", "body": loop})
    (error,) = problem(answer, 422, "invalid-document")["errors"]
    assert (error["code"], error["pointer"]) == ("GW0121", "/topics/1")
    assert "exclude it" in error["fix"]
    secret = {"mqtt": {"address": "mqtt://elsewhere", "username": "u", "passwordFile": "/x"}}
    made = await api.send("POST", "/mqtt/bridges", 201, json={"name": "plant", "body": secret | {"enabled": False}})
    assert [warning["code"] for warning in made["warnings"]] == ["GW0129"]


async def test_what_came_round_is_shown(api: Api) -> None:
    await make(api)
    assert (await api.get("/mqtt/bridges/plant/status"))["last_loops"] == []
    (status,) = api.node.bridges.statuses()
    for number in range(LOOPS + 1):
        status.counters.looped(Loop(float(number), f"a/{number}", "hops"))
    shown = await api.get("/mqtt/bridges/plant/status")
    assert shown["counters"]["loops"] == {"hops": LOOPS + 1}
    assert len(shown["last_loops"]) == LOOPS
    assert shown["last_loops"][-1] == {
        "at": "1970-01-01T00:00:32Z",
        "verdict": "LOOP",
        "topic": f"a/{LOOPS}",
        "reason": "hops",
    }


async def test_what_an_operator_tells_it(api: Api) -> None:
    await make(api)
    for what in ("stop", "start", "restart"):
        await api.send("POST", f"/mqtt/bridges/plant/{what}?dry_run=1")
    assert (await api.send("POST", "/mqtt/bridges/plant/stop"))["name"] == "plant"

    await until(lambda: states(api) == {"plant": "stopped"})
    await api.send("POST", "/mqtt/bridges/plant/start")

    await until(lambda: states(api)["plant"] in ("connecting", "waiting"))
    await api.send("POST", "/mqtt/bridges/plant/restart")
    actions = {row["action"] for row in (await api.get("/audit?limit=50"))["data"]}
    assert {"bridge.stop", "bridge.start", "bridge.restart"} <= actions
    kinds = [row["kind"] for row in (await api.get("/events?limit=100"))["data"]]
    assert [kind for kind in reversed(kinds) if kind.startswith("bridge.")] == [
        "bridge.stopped",
        "bridge.started",
        "bridge.restarted",
    ]
    tried = await api.send("POST", "/mqtt/bridges/plant/test")
    assert (tried["reachable"], tried["refused"]) == (False, [])
    assert tried["reason"]
    queue = await api.get("/mqtt/bridges/plant/queue")
    assert (queue["queued"], queue["spools"]) == (0, {})
    for path in ("start", "stop", "restart", "test"):
        problem(await ask(api, "POST", f"/mqtt/bridges/nobody/{path}"), 404, "not-found")


async def test_rules_one_by_one(api: Api) -> None:
    await make(api)
    rows = (await api.get("/mqtt/mappings"))["data"]
    assert [(row["id"], row["direction"], row["topic"], row["route"]) for row in rows] == [
        ("plant:topics:0", "in", "s/+/#", "in.take"),
        ("plant:topics:1", "out", "r/+", "out.readings"),
        ("plant:rpc:0", "rpc", "cmd/+/+", "thermo.{method}"),
        ("plant:call:0", "call", "old/+", "mqtt.plant.call"),
    ]
    assert rows[0]["rule"] == BODY["topics"][0]
    assert (await api.get("/mqtt/mappings?bridge=other"))["data"] == []
    rule = {"pattern": "t/#", "direction": "in"}
    made = await api.send("POST", "/mqtt/mappings", 201, json={"bridge": "plant", "rule": rule, "at": 0})
    assert (made["id"], made["topic"], made["route"]) == ("plant:topics:0", "t/#", "t/#")
    assert (await api.get("/mqtt/mappings/plant:topics:1"))["topic"] == "s/+/#"
    changed = await api.send(
        "PUT", "/mqtt/mappings/plant:topics:0", headers={"if-match": '"2"'}, json=rule | {"qos": 2}
    )
    assert changed["qos"] == 2
    stale = await ask(api, "DELETE", "/mqtt/mappings/plant:topics:0", headers={"if-match": '"2"'})
    problem(stale, 412, "precondition-failed")
    await api.send("DELETE", "/mqtt/mappings/plant:topics:0", 204, headers={"if-match": '"3"'})
    assert (await api.get("/mqtt/bridges/plant"))["body"]["topics"] == BODY["topics"]
    wrong = await ask(api, "POST", "/mqtt/mappings", json={"bridge": "plant", "rule": {"pattern": "a+"}})
    problem(wrong, 422, "invalid-document")
    for path in ("plant:topics:9", "nobody:topics:0"):
        problem(await ask(api, "GET", f"/mqtt/mappings/{path}"), 404, "not-found")
    problem(await ask(api, "POST", "/mqtt/mappings", json={"bridge": "nobody", "rule": rule}), 404, "not-found")


async def test_what_becomes_of_a_topic(api: Api) -> None:
    await make(api)
    (found,) = (await api.send("POST", "/mqtt/mappings:test", json={"topic": "s/oven/temp"}))["data"]
    assert (found["bridge"], found["rule"], found["route"]) == ("plant", "s/{device}/#", "in.take")
    assert found["tags"] == found["selecting"] == {"sub": "oven"}
    assert [(step["rule"], step["took"]) for step in found["steps"]] == [("s/{device}/#", True), ("r/{sub}", False)]
    (call,) = (await api.send("POST", "/mqtt/mappings:test", json={"topic": "cmd/t/read", "answer": True}))["data"]
    assert call["route"] == "thermo.read"
    (none,) = (await api.send("POST", "/mqtt/mappings:test", json={"topic": "other", "bridge": "plant"}))["data"]
    assert none["route"] is None
    problem(await ask(api, "POST", "/mqtt/mappings:test", json={"topic": "a/#"}), 422, "invalid")
    problem(await ask(api, "POST", "/mqtt/mappings:test", json={"topic": "a", "bridge": "b"}), 404, "not-found")
