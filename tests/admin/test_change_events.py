"""What the control plane changes, as events: each once, named, and without anything secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.admin.events import HAPPENED
from gateway.control.roles import Role
from tests.admin.api import PASSWORD, Api, problem
from tests.admin.test_events import Listening
from tests.local_node import until

#: Audited, but no event, or one that its resource tells once it is done.
OTHERWISE = {
    "audit.export",
    "backup.create",
    "backup.delete",
    "backup.download",
    "certificate.renew",
    "config.change",
    "connection.kick",
    "console.open",
    "device.export",
    "device.kick",
    "node.drain",
    "peer.leave",
    "peer.reconnect",
    "spool.drop",
    "spool.replay",
    "node.reload",
    "node.undrain",
    "service.call",
    "session.code",
    "session.refresh",
    "support_bundle.create",
}


def test_every_audited_action_is_an_event_or_is_known_to_be_none() -> None:
    root = Path(gateway.__file__).parent
    text = "\n".join(path.read_text() for part in ("control", "admin") for path in sorted((root / part).rglob("*.py")))
    calls = re.findall(r"(?:\.make|\.record)\(\s*[\w.]+,\s*\"(\w+\.\w+)\"|action=\"(\w+\.\w+)\"", text)
    actions = {first or second for first, second in calls}
    assert {"device.create", "device.disable", "session.login", "backup.create"} <= actions
    assert actions <= set(HAPPENED) | OTHERWISE
    assert not set(HAPPENED) & OTHERWISE


def test_every_event_is_described() -> None:
    page = (Path(gateway.__file__).parents[1] / "docs" / "events.md").read_text()
    assert [kind for kind in HAPPENED.values() if f"`{kind}`" not in page] == []


async def told(api: Api, **filters: str) -> list[dict[str, Any]]:
    """The events of changes so far, oldest first."""
    rows = (await api.get("/events", params={"limit": 1000, **filters}))["data"]
    return [row for row in reversed(rows) if not row["kind"].startswith(("connection.", "route."))]


async def test_what_becomes_of_a_device_is_told(api: Api) -> None:
    """In order, by whom, and which values changed; over the stream as in the list, and on the device's page."""
    listening = Listening(api.http, "/api/v1/stream/events?subject=kitchen")
    await until(lambda: listening.status == 200)
    made = await api.send("POST", "/devices", 201, json={"id": "kitchen", "issue": {}})
    tag = {"if-match": f'"{made["device"]["version"]}"'}
    await api.send("PATCH", "/devices/kitchen", json={"profile": "thermo", "notes": "by the window"}, headers=tag)
    rotated = await api.send("POST", "/devices/kitchen/rotate", json={})
    await api.send("POST", "/devices/kitchen/disable")
    await api.send("POST", "/devices/kitchen/enable")
    await api.send("DELETE", "/devices/kitchen", 204, headers={"if-match": "*"})
    expected = ["created", "changed", "disabled", "enabled", "deleted"]
    await until(lambda: any(event["kind"] == "device.deleted" for event in listening.events))
    await listening.stop()
    events = await told(api, subject="kitchen")
    assert listening.events == events
    assert [event["kind"] for event in events if event["kind"].startswith("device.")] == [
        f"device.{what}" for what in expected
    ]
    assert [event["kind"] for event in events if event["kind"].startswith("credential.")] == [
        "credential.issued",
        "credential.rotated",
    ]
    changed = next(event for event in events if event["kind"] == "device.changed")
    assert changed["data"] == {"object": "device:kitchen", "by": "cli:operator", "changed": ["notes", "profile"]}
    assert (await api.get("/devices/kitchen/events", params={"limit": 100}))["data"] == events[::-1]
    written = json.dumps(events)
    for secret in (made["credential"]["token"], rotated["token"], "by the window"):
        assert secret not in written


async def test_many_devices_are_one_event(api: Api) -> None:
    lines = b"".join(b'{"id":"d%d"}\n' % number for number in range(1200))
    await api.send("POST", "/devices:bulk", content=lines, headers={"content-type": "application/x-ndjson"})
    (event,) = await told(api, kind="device.imported")
    assert event["data"] == {"object": "devices", "by": "cli:operator", "count": 1200}


async def test_users_keys_issuers_and_settings_are_told_without_secrets(api: Api) -> None:
    user = await api.send("POST", "/users", 201, json={"name": "anna", "role": "viewer", "scopes": ["monitoring"]})
    await api.send("POST", "/users/anna/password", json={"password": PASSWORD})
    login = await api.send("POST", "/auth/login", json={"name": "anna", "password": PASSWORD})
    key = await api.send("POST", "/api-keys", 201, json={"name": "ci", "role": "viewer", "scopes": ["monitoring"]})
    other = await api.send("POST", f"/api-keys/{key['api_key']['id']}/rotate", json={})
    await api.send("PATCH", "/config", json={"limits.setup_timeout_s": 4}, headers={"if-match": "*"})
    enrolment = await api.send("POST", "/enrollments", 201, json={"device_id": "porch"})
    async with api.client() as stranger:
        enrolled = (await stranger.post("/api/v1/enroll", json={"token": enrolment["token"]})).json()
        assert (await stranger.post("/api/v1/enroll", json={"token": enrolment["token"]})).status_code == 403
        wrong = await stranger.post("/api/v1/auth/login", json={"name": "anna", "password": "wrong" * 3})
        problem(wrong, 401, "unauthenticated")
    backup = await api.send("POST", "/backups", 201)
    await api.send("DELETE", f"/backups/{backup['id']}", 204)
    events = await told(api)
    kinds = [event["kind"] for event in events]
    assert kinds == [
        "user.created",
        "user.password_changed",
        "session.opened",
        "api_key.created",
        "api_key.rotated",
        "config.changed",
        "enrolment.created",
        "device.enrolled",
        "enrolment.refused",
        "session.refused",
        "backup.created",
        "backup.deleted",
    ]
    assert events[7]["subject"] == "porch"
    assert events[9]["data"]["reason"] == "login_refused"
    written = json.dumps(events)
    for secret in (
        PASSWORD,
        user["password"],
        login["access_token"],
        login["refresh_token"],
        key["secret"],
        other["secret"],
        enrolment["token"],
        enrolled["token"],
    ):
        assert secret not in written


async def test_what_did_not_happen_is_not_told(api: Api) -> None:
    """Neither a rehearsal nor a refusal."""
    await api.send("POST", "/devices?dry_run=1", 201, json={"id": "kitchen"})
    await api.send("POST", "/devices", 201, json={"id": "porch"})
    problem(await api.http.post("/api/v1/devices", json={"id": "porch"}), 409, "conflict")
    stale = await api.http.patch("/api/v1/devices/porch", json={"profile": "x"}, headers={"if-match": '"7"'})
    problem(stale, 412, "precondition-failed")
    await api.send("DELETE", "/devices/porch?dry_run=1", 204, headers={"if-match": "*"})
    assert [event["kind"] for event in await told(api)] == ["device.created"]


@pytest.mark.parametrize(("role", "seen"), [(Role.ADMIN, True), (Role.VIEWER, False), (Role.OPERATOR, False)])
async def test_who_may_not_list_users_learns_none_of_them_from_events(api: Api, role: Role, seen: bool) -> None:
    """Fault 98: a device of the same name does not open them either."""
    await api.send("POST", "/devices", 201, json={"id": "anna"})
    await api.send("POST", "/users", 201, json={"name": "anna", "role": "viewer", "scopes": []})
    async with await api.user(role) as somebody:
        for path in ("/api/v1/events?limit=100", "/api/v1/devices/anna/events"):
            rows = (await somebody.get(path)).json()["data"]
            kinds = {row["kind"] for row in rows}
            assert "device.created" in kinds
            assert ("user.created" in kinds) == (seen and "devices" not in path)
        listening = Listening(somebody, "/api/v1/stream/events?ttl=0", {"last-event-id": "0"})
        await listening.ended()
        assert any(event["kind"] == "user.created" for event in listening.events) == seen
