"""Audit, backups and streams over HTTP; settings that the environment holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest

from gateway.control.roles import Role
from tests.admin.api import TESTER, Api, problem
from tests.admin.test_events import Listening
from tests.local_node import until


async def test_the_audit_is_searched_and_exported(api: Api) -> None:
    for name in ("a", "b"):
        await api.send("POST", "/devices", 201, json={"id": name}, headers={"x-request-id": f"trace-{name}"})
    await api.send("POST", "/devices/a/disable")
    for query, expected in (
        ({"action": "device."}, ["device.disable", "device.create", "device.create"]),
        ({"action": "device.create", "object": "device:b"}, ["device.create"]),
        ({"actor": "nobody"}, []),
        ({"q": "disable"}, ["device.disable"]),
        ({"sort": "id", "action": "device."}, ["device.create", "device.create", "device.disable"]),
        ({"since": "2100-01-01T00:00:00Z"}, []),
        ({"until": "2020-01-01T00:00:00Z"}, []),
    ):
        assert [row["action"] for row in (await api.get("/audit", params=query))["data"]] == expected, query
    row = (await api.get("/audit", params={"object": "device:b"}))["data"][0]
    assert (row["actor_type"], row["ip"], row["request_id"]) == ("cli", "127.0.0.1", "trace-b")
    (changed,) = (await api.get("/audit", params={"action": "device.disable"}))["data"]
    assert changed["diff"]["enabled"] == [True, False]
    assert (await api.send("POST", "/audit/verify"))["ok"]
    lines = (await api.http.get("/api/v1/audit/export", params={"object": "device:a"})).text.splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["device.create", "device.disable"]
    table = (await api.http.get("/api/v1/audit/export", params={"format": "csv", "action": "device.disable"})).text
    header, cells = csv.reader(io.StringIO(table))
    assert dict(zip(header, cells, strict=True))["object"] == "device:a"
    for wrong in ({"since": "yesterday"}, {"outcome": "perhaps"}, {"sort": "x"}, {"cursor": "x"}):
        problem(await api.http.get("/api/v1/audit", params=wrong), 422, "invalid")


async def test_an_export_of_many_is_whole(api: Api) -> None:
    """More than is read at once, and than one piece has."""
    lines = b"".join(b'{"id":"d%04d"}\n' % number for number in range(1100))
    await api.send("POST", "/devices:bulk", content=lines, headers={"content-type": "application/x-ndjson"})
    for number in range(250):
        await api.control.audit.record(TESTER, "test.done", f"test:{number}")
    exported = (await api.http.get("/api/v1/devices/export?format=jsonl")).text.splitlines()
    assert [json.loads(line)["id"] for line in exported] == [f"d{number:04}" for number in range(1100)]
    table = (await api.http.get("/api/v1/devices/export")).text.splitlines()
    assert [line.partition(",")[0] for line in table] == ["id", *(f"d{number:04}" for number in range(1100))]
    rows = (await api.http.get("/api/v1/audit/export?action=test.done")).text.splitlines()
    assert [json.loads(row)["object"] for row in rows] == [f"test:{number}" for number in range(250)]


async def test_a_backup_is_made_fetched_checked_and_removed(api: Api) -> None:
    await api.send("POST", "/devices", 201, json={"id": "kitchen"})
    made = await api.send("POST", "/backups", 201)
    second = await api.send("POST", "/backups", 201)
    assert [row["id"] for row in (await api.get("/backups"))["data"]] == [second["id"], made["id"]]
    page = await api.get("/backups?limit=1")
    assert [row["id"] for row in (await api.get("/backups", params={"cursor": page["meta"]["next"]}))["data"]] == [
        made["id"]
    ]
    path = f"/backups/{made['id']}"
    fetched = await api.http.get(f"/api/v1{path}/download")
    assert hashlib.sha256(fetched.content).hexdigest() == made["sha256"]
    assert len(fetched.content) == made["bytes"]
    good = await api.send("POST", f"{path}/verify")
    assert good["ok"]
    assert {"gateway.db", "identity/signing-key.pem"} <= set(good["entries"])
    file = api.node.config.node.data / "backups" / made["id"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    bad = await api.send("POST", f"{path}/verify")
    assert (bad["ok"], bad["entries"]) == (False, [])
    assert (await api.get("/backups"))["data"][1]["sha256"] == hashlib.sha256(content).hexdigest()
    assert sorted(each.name for each in file.parent.iterdir()) == sorted((made["id"], second["id"]))
    await api.send("DELETE", path, 204)
    for method, rest in (("GET", "/download"), ("POST", "/verify"), ("DELETE", "")):
        problem(await api.http.request(method, f"/api/v1{path}{rest}"), 404, "not-found")
    problem(await api.http.delete("/api/v1/backups/..%2fgateway.db"), 404, "not-found")


@pytest.mark.parametrize(("given", "expected"), [("0", 3), ("1", 2), ("3", 0), ("99", 3), ("x", 0), ("-1", 0)])
async def test_a_stream_begins_where_it_is_told_to(api: Api, given: str, expected: int) -> None:
    """Behind that event; all, of an id from another run; from now on, when it is no id."""
    for name in "abc":
        await api.send("POST", "/devices", 201, json={"id": name})
    path = "/api/v1/stream/events?ttl=0&kind=device."
    listening = Listening(api.http, path, {"last-event-id": given})
    await listening.ended()
    assert [event["subject"] for event in listening.events] == ["a", "b", "c"][3 - expected :]


async def test_a_stream_of_forgotten_events_says_so(api: Api) -> None:
    assert api.node.admin is not None
    for number in range(10_005):
        api.node.admin.events.add("test.happened", "", number=number)
    listening = Listening(api.http, "/api/v1/stream/events?ttl=0&kind=none", {"last-event-id": "1"})
    await listening.ended()
    assert listening.events == [{"missed": 4}]
    problem(await api.http.get("/api/v1/stream/events", headers={"last-event-id": "1" * 21}), 422, "invalid")
    problem(await api.http.get("/api/v1/stream/stats?interval_s=0"), 422, "invalid")


@pytest.mark.parametrize("stream", ["events", "stats?interval_s=60"])
@pytest.mark.parametrize("how", ["key disabled", "key rotated", "scope taken", "logged out"])
async def test_a_stream_ends_with_the_rights_of_who_opened_it(
    api: Api, monkeypatch: pytest.MonkeyPatch, stream: str, how: str
) -> None:
    """Fault 98: it does not go on for a day because it was open already."""
    monkeypatch.setattr("gateway.admin.server_sent.JUDGED_S", 0.05)
    change = {"enabled": False} if how == "key disabled" else {"scopes": []}
    if how == "logged out":
        somebody = await api.user(Role.VIEWER)
    else:
        body = {"name": "ci", "role": "viewer", "scopes": ["monitoring"]}
        made = await api.send("POST", "/api-keys", 201, json=body)
        somebody = api.client(made["secret"])
    async with somebody:
        listening = Listening(somebody, f"/api/v1/stream/{stream}")
        await until(lambda: listening.status == 200)
        if how == "logged out":
            assert (await somebody.post("/api/v1/auth/logout")).status_code == 204
        elif how == "key rotated":
            await api.send("POST", f"/api-keys/{made['api_key']['id']}/rotate", json={})
        else:
            path = f"/api-keys/{made['api_key']['id']}"
            await api.send("PATCH", path, json=change, headers={"if-match": "*"})
        await listening.ended()


async def test_what_the_environment_holds_is_not_set_here(tmp_path: Path) -> None:
    """409, and it says which source holds it; the level of the log as any other."""
    api = await Api.start(tmp_path / "data", {"log.level": "warning"})
    answer = problem(await api.http.post("/api/v1/node/log-level", json={"level": "debug"}), 409, "config-locked")
    assert "log.level" in answer["detail"] + json.dumps(answer["errors"])
    body = {"changes": {"log.level": "debug"}}
    problem(await api.http.post("/api/v1/config/validate", json=body), 409, "config-locked")
    (setting,) = (await api.get("/config?prefix=log.level"))["settings"]
    assert (setting["value"], setting["locked"]) == ("warning", True)
    await api.finish()
