"""Changing the settings of a running node over the admin API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import load
from gateway.errors import StorageError
from tests.admin.api import Api, problem

CONFIG = "/api/v1/config"


async def setting(api: Api, name: str) -> dict[str, Any]:
    (found,) = [
        each for each in (await api.get("/config", params={"prefix": name}))["settings"] if each["name"] == name
    ]
    return dict(found)


async def change(api: Api, changes: dict[str, object], **more: Any) -> Any:
    return await api.send("PATCH", "/config", headers={"if-match": "*"}, json=changes, **more)


async def test_a_change_holds_for_live_connections_and_after_a_restart(api: Api) -> None:
    client = await api.local.client(kind="device", subject="kitchen")
    connection = api.local.connection(client)
    answer = await change(api, {"limits.device.max_streams": 7, "limits.setup_timeout_s": 2.5})
    assert answer == {
        "revision": 1,
        "changed": ["limits.setup_timeout_s", "limits.device.max_streams"],
        "restart_needed": [],
    }
    assert connection.grant.limits.max_streams == 7
    assert api.node.plane.snapshot.setup_timeout_s == 2.5
    assert (await setting(api, "limits.setup_timeout_s"))["source"] == "api"
    data = api.node.config.node.data
    assert load(None, {}, {"node.data": data}, secrets=Path("/none")).limits.setup_timeout_s == 2.5


async def test_a_dry_run_changes_nothing(api: Api) -> None:
    answer = await change(api, {"limits.setup_timeout_s": 2}, params={"dry_run": "1"})
    assert answer["changed"] == ["limits.setup_timeout_s"]
    assert answer["revision"] == 0
    assert api.node.plane.snapshot.setup_timeout_s == 5
    assert not api.node.settings.file.exists()


async def test_somebody_else_s_change_is_not_overwritten(api: Api) -> None:
    """412 with an old ETag, 428 without one."""
    first = await api.http.get(CONFIG)
    await change(api, {"limits.setup_timeout_s": 2})
    late = await api.http.patch(CONFIG, json={"limits.setup_timeout_s": 3}, headers={"if-match": first.headers["etag"]})
    problem(late, 412, "precondition-failed")
    problem(await api.http.patch(CONFIG, json={"limits.setup_timeout_s": 3}), 428, "precondition-required")
    now = await api.http.get(CONFIG)
    again = await api.http.patch(CONFIG, json={"limits.setup_timeout_s": 3}, headers={"if-match": now.headers["etag"]})
    assert again.status_code == 200
    assert again.headers["etag"] == '"2"'


@pytest.mark.parametrize(
    ("changes", "status", "slug", "pointer"),
    [
        ({"limits.drain_grace_s": 1}, 409, "config-locked", "/limits.drain_grace_s"),
        ({"listen.backlog": 5}, 409, "restart-needed", "/listen.backlog"),
        ({"limits.setup_timeout_s": -1}, 422, "invalid", "/limits.setup_timeout_s"),
        ({"limits.nothing": 1}, 422, "invalid", "/"),
        ({}, 422, "invalid", "/"),
    ],
)
async def test_what_cannot_be_changed(
    api: Api, changes: dict[str, object], status: int, slug: str, pointer: str
) -> None:
    """Fault 97: and nothing of it is."""
    before = await api.get("/config")
    answer = await api.http.patch(
        CONFIG, json={**changes, **({"limits.upgrade_timeout_s": 3} if changes else {})}, headers={"if-match": "*"}
    )
    assert pointer in {error["pointer"] for error in problem(answer, status, slug)["errors"]}
    assert await api.get("/config") == before


async def test_history_and_rollback(api: Api) -> None:
    await change(api, {"limits.setup_timeout_s": 2})
    await change(api, {"limits.setup_timeout_s": 3, "admin.max_streams": 2})
    history = (await api.get("/config/history"))["data"]
    assert [(each["revision"], each["by"]) for each in history] == [(2, "operator"), (1, "operator")]
    assert "setup_timeout_s = 2" in (await api.get("/config/history/1"))["text"]
    back = await api.send("POST", "/config/rollback/1", headers={"if-match": '"2"'})
    assert back["revision"] == 3
    assert set(back["changed"]) == {"limits.setup_timeout_s", "admin.max_streams"}
    assert api.node.config.limits.setup_timeout_s == 2
    assert api.node.config.admin.max_streams == 5
    problem(await api.http.post(f"{CONFIG}/rollback/99", headers={"if-match": "*"}), 404, "not-found")


async def test_validating_says_what_would_change(api: Api) -> None:
    changes = {"changes": {"limits.setup_timeout_s": 2}}
    assert await api.send("POST", "/config/validate", json=changes) == {
        "valid": True,
        "changed": ["limits.setup_timeout_s"],
        "restart_needed": [],
    }
    assert (await api.send("POST", "/config/validate", json={"toml": "[log]\nlevel = 'debug'\n"}))["changed"] == [
        "log.level"
    ]
    for wrong in ({"toml": "[log"}, {"toml": "[log]\nlevel = 3"}, {}, {"toml": "", "changes": {}}):
        problem(await api.http.post(f"{CONFIG}/validate", json=wrong), 422, "invalid")
    assert (await api.get("/config/schema"))["properties"]["limits"]


async def test_a_file_that_is_wrong_is_not_reloaded(tmp_path: Path) -> None:
    """Fault 97: what runs stays as it was, and the answer says what is wrong."""
    api = await Api.start(tmp_path / "data")
    api.node.settings.file.write_text("[limits]\nsetup_timeout_s = 1\n")
    assert (await api.send("POST", "/node/reload", params={"dry_run": 1}))["changed"] == ["limits.setup_timeout_s"]
    assert api.node.plane.snapshot.setup_timeout_s == 5
    assert (await api.send("POST", "/node/reload"))["changed"] == ["limits.setup_timeout_s"]
    assert api.node.plane.snapshot.setup_timeout_s == 1
    api.node.settings.file.write_text("[limits]\nsetup_timeout_s = -1\n")
    answer = problem(await api.http.post("/api/v1/node/reload"), 422, "invalid")
    assert "limits.setup_timeout_s" in answer["detail"]
    assert api.node.plane.snapshot.setup_timeout_s == 1
    await api.finish()


async def test_the_log_s_level_is_a_setting(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr("gateway.front.configure", lambda level, format: said.append((level, format)))
    assert (await api.send("POST", "/node/log-level", json={"level": "debug"})) == {"level": "debug"}
    assert said == [("debug", "auto")]
    assert (await setting(api, "log.level"))["value"] == "debug"
    problem(await api.http.post("/api/v1/node/log-level", json={"level": "loud"}), 422, "invalid")


async def test_a_change_that_cannot_be_audited_is_not_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 102."""

    async def full(*args: object, **more: object) -> None:
        raise StorageError("the audit cannot be written", reason="audit_failed")

    monkeypatch.setattr(type(api.control.config_history), "append", full)
    answer = await api.http.patch(CONFIG, json={"limits.setup_timeout_s": 2}, headers={"if-match": "*"})
    problem(answer, 503, "storage-unavailable")
    assert api.node.plane.snapshot.setup_timeout_s == 5
