"""`/firmware` and `/rollouts`: images that come as a stream, and what becomes of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.boundary import MAX_BODY_BYTES
from gateway.control.devices import NewDevice
from gateway.control.roles import Role
from gateway.control.rollout_reports import report_of
from tests.admin.api import TESTER, Api, problem

LARGE = bytes(range(256)) * 12_000  # 3 MB
WHAT = {"board": "pico", "version": "1.0.0"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    more = {"firmware.max_image_bytes": len(LARGE), "firmware.max_bytes": 2 * len(LARGE) + 1000}
    api = await Api.start(tmp_path / "data", more)
    yield api
    await api.finish()


def stored(api: Api) -> list[str]:
    directory = api.control.firmware.images.directory
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


async def pieces(count: int, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


async def added(api: Api, content: bytes = b"image", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.send("POST", "/firmware", 201, params=WHAT | more, content=content)
    return made


async def started(api: Api, **more: Any) -> dict[str, Any]:
    body = {"firmware": (await added(api))["id"], **more}
    made: dict[str, Any] = await api.send("POST", "/rollouts", 201, json=body)
    return made


async def test_an_image_is_uploaded_once(api: Api) -> None:
    """Larger than any other body may be."""
    assert len(LARGE) > MAX_BODY_BYTES
    digest = hashlib.sha256(LARGE).hexdigest()
    answer = await api.http.post("/api/v1/firmware", params=WHAT | {"sha256": digest, "notes": "new"}, content=LARGE)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/api/v1/firmware/{made['id']}"
    assert (made["size"], made["sha256"], made["damaged"]) == (len(LARGE), digest, "")
    assert await api.get(f"/firmware/{made['id']}") == made
    assert (await api.get("/firmware", params={"board": "pico"}))["data"] == [made]
    assert await api.send("POST", "/firmware", 200, params=WHAT, content=LARGE) == made
    problem(await api.http.post("/api/v1/firmware", params=WHAT, content=b"another"), 409, "conflict")
    assert stored(api) == [digest]
    other = await added(api, LARGE[1:], version="1.1.0")
    full = await api.http.post("/api/v1/firmware", params=WHAT | {"version": "2"}, content=bytes(1002))
    problem(full, 507, "storage-full")
    assert stored(api) == sorted([digest, other["sha256"]])
    await api.send("DELETE", f"/firmware/{other['id']}", 204)
    await api.send("DELETE", f"/firmware/{made['id']}", 204, params={"dry_run": "1"})
    await api.send("DELETE", f"/firmware/{made['id']}", 204)
    assert stored(api) == []


async def test_what_is_refused_leaves_nothing(api: Api) -> None:
    ask = api.http.post
    problem(await ask("/api/v1/firmware", params=WHAT, content=LARGE + b"!"), 413, "body-too-large")
    problem(await ask("/api/v1/firmware", params=WHAT, content=pieces(60)), 413, "body-too-large")
    problem(await ask("/api/v1/firmware", params=WHAT | {"sha256": "0" * 64}, content=b"x"), 422, "invalid")
    problem(await ask("/api/v1/firmware", params=WHAT | {"signature": "x"}, content=b"x"), 422, "invalid")
    problem(await ask("/api/v1/firmware", params=WHAT, content=b""), 422, "invalid")
    problem(await ask("/api/v1/firmware", params={"board": "a b", "version": "1"}, content=b"x"), 422, "invalid")
    assert (await ask("/api/v1/firmware", params=WHAT | {"dry_run": "1"}, content=b"x")).status_code == 201
    assert (await api.get("/firmware"))["data"] == []
    assert stored(api) == []


async def test_an_upload_that_is_broken_off_leaves_nothing(api: Api) -> None:
    begun = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(api.http.post("/api/v1/firmware", params=WHAT, content=slowly()))
    await begun.wait()
    async with asyncio.timeout(30):
        while not stored(api):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        while stored(api):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_rollout_from_its_start_to_its_end(api: Api) -> None:
    made = await started(api, labels=["ring=1"], percentage=50, max_failures=1, confirm_s=60)
    path = f"/rollouts/{made['id']}"
    assert (made["state"], made["board"], made["firmware_version"]) == ("running", "pico", "1.0.0")
    assert set(made["devices"].values()) == {0}
    assert made["reached"] is None
    assert (await api.get(path, params={"count": "1"}))["reached"] == 0
    answer = await api.http.patch(f"/api/v1{path}", json={"percentage": 80})
    problem(answer, 428, "precondition-required")
    await api.send("PATCH", path, 412, headers={"if-match": '"7"'}, json={"percentage": 80})
    grown = await api.send("PATCH", path, headers={"if-match": '"1"'}, json={"percentage": 80})
    assert (grown["percentage"], grown["version"]) == (80, 2)
    problem(await api.http.delete(f"/api/v1/firmware/{made['firmware_id']}"), 409, "conflict")
    paused = await api.send("POST", f"{path}/pause")
    assert (paused["state"], paused["reason"]) == ("paused", "by operator")
    assert (await api.get("/rollouts", params={"state": "paused"}))["data"] == [paused]
    assert (await api.send("POST", f"{path}/resume", json={"retry": True}))["state"] == "running"
    assert (await api.send("POST", f"{path}/resume", params={"dry_run": "1"}))["version"] == 5
    assert (await api.send("POST", f"{path}/abort"))["state"] == "aborted"
    problem(await api.http.post(f"/api/v1{path}/resume"), 409, "conflict")
    await api.send("DELETE", f"/firmware/{made['firmware_id']}", 204)
    assert (await api.get(path))["firmware_version"] == "1.0.0"
    kinds = [event.kind for event in api.node.admin.events.since(0, 1000)[0]]  # type: ignore[union-attr]
    wanted = ["firmware.added", "rollout.started", "rollout.changed", "rollout.paused", "rollout.resumed"]
    assert [kind for kind in kinds if kind.startswith(("firmware", "rollout"))] == [
        *wanted,
        "rollout.aborted",
        "firmware.deleted",
    ]


async def test_a_rollout_of_what_is_not_there(api: Api) -> None:
    problem(await api.http.post("/api/v1/rollouts", json={"firmware": "nothing"}), 404, "not-found")
    problem(await api.http.post("/api/v1/rollouts", json={"firmware": "x", "percentage": 0}), 422, "invalid")
    problem(await api.http.get("/api/v1/rollouts/nothing/devices"), 404, "not-found")


async def test_the_devices_of_a_rollout_a_page_at_a_time(api: Api) -> None:
    made = await started(api, max_failures=100)
    names = [f"device-{number:03}" for number in range(25)]
    await api.control.devices.create_many([NewDevice(name) for name in names], by=TESTER)
    for at, name in enumerate(names):
        said = {"board": "pico", "version": "0.9"}
        await api.control.reports.report(name, report_of(said), by=TESTER)
        if at % 5 == 0:
            said |= {"state": "failed", "id": made["firmware_id"], "reason": "no room"}
            await api.control.reports.report(name, report_of(said), by=TESTER)
    path = f"/rollouts/{made['id']}"
    shown = await api.get(path, params={"count": "1"})
    assert (shown["devices"]["offered"], shown["devices"]["failed"], shown["failures"], shown["reached"]) == (
        20,
        5,
        5,
        25,
    )
    seen: list[str] = []
    cursor = None
    while cursor is not None or not seen:
        page = await api.get(f"{path}/devices", params={"limit": 10, **({"cursor": cursor} if cursor else {})})
        seen += [row["device_id"] for row in page["data"]]
        cursor = page["meta"]["next"]
    assert seen == names
    failed = (await api.get(f"{path}/devices", params={"state": "failed"}))["data"]
    assert [row["device_id"] for row in failed] == names[::5]
    assert (failed[0]["reason"], failed[0]["ended_at"] is None) == ("no room", False)


async def test_an_operator_stops_a_rollout_and_begins_none(api: Api) -> None:
    made = await started(api)
    async with await api.key(Role.OPERATOR) as operator:
        assert (await operator.post(f"/api/v1/rollouts/{made['id']}/pause")).status_code == 200
        problem(await operator.post("/api/v1/rollouts", json={"firmware": made["firmware_id"]}), 403, "forbidden")
        problem(await operator.post("/api/v1/firmware", params=WHAT, content=b"x"), 403, "forbidden")
