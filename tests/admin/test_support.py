"""`POST /support-bundle`: what the caller may read, without secrets."""

from __future__ import annotations

import pytest

from gateway.control.roles import Role
from gateway.observe.support_bundle import ASKED
from tests.admin.api import PASSWORD, Api
from tests.cli.test_support_bundle import opened, raw

PATH = "/api/v1/support-bundle"


@pytest.fixture
async def device(api: Api) -> str:
    """The credential of one, which nobody else is to have."""
    await api.send("POST", "/devices", 201, json={"id": "kitchen-7"})
    return str((await api.send("POST", "/devices/kitchen-7/credentials", 201, json={}))["token"])


async def test_who_may_read_all_gets_all(api: Api, device: str) -> None:
    alice = await api.user(Role.ADMIN)
    answer = await alice.post(PATH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"].startswith('attachment; filename="gateway-support-')
    found = opened(answer.content)
    assert found["MANIFEST.json"]["missing"] == {}
    assert {f"{ask.name}.json" for ask in ASKED} <= set(found)
    assert found["node.json"]["name"] == "edge-1"
    assert found["devices-summary.json"]["total"] == 1
    assert "gateway_connections" in found["metrics.txt"]
    text = raw(answer.content)
    token = alice.headers["authorization"].removeprefix("Bearer ")
    for secret in (device, token, PASSWORD, "kitchen-7"):
        assert secret not in text
    (entry,) = (await api.get("/audit?action=support_bundle.create"))["data"]
    assert entry["outcome"] == "ok"

    shown = await alice.post(PATH, params={"redact": "false"})
    assert "kitchen-7" in raw(shown.content)
    assert device not in raw(shown.content)
    await alice.aclose()


async def test_what_the_caller_may_not_read_is_not_in_it(api: Api, device: str) -> None:
    key = await api.key(Role.ADMIN, ("system", "monitoring"))
    found = opened((await key.post(PATH)).content)
    assert "connections-open.json" not in found
    missing = found["MANIFEST.json"]["missing"]
    assert "connections" in missing["connections-open"]
    assert {"audit", "documents", "config"} <= set(missing)
    assert found["node.json"]["name"] == "edge-1"
    # Whom an event is about is hidden, though the caller may not list devices.
    assert "kitchen-7" not in str(found)
    await key.aclose()


async def test_it_is_for_administrators(api: Api) -> None:
    for role in (Role.VIEWER, Role.OPERATOR, Role.AUDITOR):
        client = await api.key(role)
        assert (await client.post(PATH)).status_code == 403
        await client.aclose()


async def test_a_dry_run_makes_none(api: Api) -> None:
    assert await api.send("POST", "/support-bundle?dry_run=1") == {"planned": True}
    assert (await api.get("/audit?action=support_bundle.create"))["data"] == []
