"""What every request passes before anything looks at it: host, rate, size, time, headers (faults 98 and 99)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.admin import problem as problems
from gateway.admin.boundary import MAX_BODY_BYTES, Boundary, Rate
from gateway.errors import InvalidChange, StorageError, TooManyAttempts
from gateway.problems import PROBLEMS
from tests.admin.api import Api, problem
from tests.admin.http_exchange import ask


class Behind:
    """A small application behind the boundary, asked without a socket."""

    def __init__(self, timeout_s: float = 30) -> None:
        self.app = FastAPI()
        problems.install(self.app, lambda path: [])
        self.hosts = {"gateway.example"}
        self.boundary = Boundary(
            self.app,
            hosts=lambda: self.hosts,
            requests_per_second=0,
            timeout_s=timeout_s,
            endless=("/endless",),
        )

    def client(self, **more: object) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.boundary, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "gateway.example@evil", "127.0.0.1.nip.io", "a b", "[::1", "x:y:z"],
)
async def test_another_host_is_421(host: str) -> None:
    """Fault 99: a name that was pointed here from outside (DNS rebinding) is not answered."""
    async with Behind().client() as client:
        problem(await client.get("/", headers={"host": host}), 421, "misdirected")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9878", "127.0.0.1:9878", "[::1]:9878", "192.168.7.1", "gateway.example:443"]
)
async def test_a_host_of_this_node_is_answered(host: str) -> None:
    async with Behind().client() as client:
        problem(await client.get("/", headers={"host": host}), 404, "not-found")


async def test_a_request_without_a_host_or_with_two(api: Api) -> None:
    """Fault 99."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.node.admin_port)
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert b"421" in await reader.readline()
    writer.close()


async def test_no_page_of_another_site_is_let_read(api: Api) -> None:
    """Fault 99: no CORS header whatever the Origin, no preflight, no cookie."""
    async with api.client() as browser:
        for path in ("/healthz", "/api/v1/node"):
            preflight = await browser.options(
                path, headers={"origin": "https://evil.example", "access-control-request-method": "GET"}
            )
            problem(preflight, 405, "method-not-allowed")
            answer = await browser.get(path, headers={"origin": "https://evil.example", "cookie": "session=1"})
            for headers in (preflight.headers, answer.headers):
                assert not [name for name in headers if name.startswith("access-control") or name == "set-cookie"]


async def test_a_cookie_is_no_credential(api: Api) -> None:
    """Fault 99: so there is no CSRF."""
    async with api.client() as browser:
        cookie = {"cookie": f"token={api.local_token()}; authorization=Bearer {api.local_token()}"}
        problem(await browser.post("/api/v1/node/drain", headers=cookie), 401, "unauthenticated")
    assert not api.node.plane.draining


async def test_nothing_is_kept_by_caches(api: Api) -> None:
    for path in ("/healthz", "/api/v1/node", "/nothing", "/ca.pem"):
        headers = (await api.http.get(path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


async def test_a_request_id_is_echoed_or_made(api: Api) -> None:
    answer = await api.http.get("/nothing", headers={"x-request-id": "mine-1.2"})
    assert answer.headers["x-request-id"] == answer.json()["trace_id"] == "mine-1.2"
    for bad in ("x" * 65, "a b", "a;b"):
        made = (await api.http.get("/nothing", headers={"x-request-id": bad})).headers["x-request-id"]
        assert made != bad
        assert len(made) == 32


@pytest.mark.parametrize(
    "path",
    ["/api/v1/../v1/node", "/api/v1/%2e%2e/node", "//api/v1/node", "/api/v1/node/", "/api/v1/devices/..%2f..%2fetc"],
)
async def test_path_tricks_are_404(api: Api, path: str) -> None:
    """Fault 98."""
    answer = await ask(api.node.admin_port, path)
    assert answer.status in (401, 404)


async def test_a_body_that_is_too_large_is_413(api: Api) -> None:
    """At the limit, above it, and above it without saying so."""
    path = "/api/v1/config/validate"
    for size, slug in ((MAX_BODY_BYTES, "invalid"), (MAX_BODY_BYTES + 1, "body-too-large")):
        padding = "x" * (size - len('{"toml":""}'))
        answer = await api.http.post(path, content=json.dumps({"toml": padding}, separators=(",", ":")).encode())
        problem(answer, 413 if slug == "body-too-large" else 422, slug)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield bytes(64 * 1024)

    problem(await api.http.post(path, content=chunks()), 413, "body-too-large")


async def test_each_token_has_its_rate() -> None:
    """20 a second of one token, or of one address without one; others are not held back."""
    behind = Behind()
    moment = [1000.5]
    behind.boundary._rate = Rate(3, lambda: moment[0])
    async with behind.client() as client:
        mine = {"authorization": "Bearer mine"}
        for _ in range(3):
            problem(await client.get("/", headers=mine), 404, "not-found")
        refused = await client.get("/", headers=mine)
        problem(refused, 429, "too-many-requests")
        assert refused.headers["retry-after"] == "1"
        problem(await client.get("/", headers={"authorization": "Bearer other"}), 404, "not-found")
        problem(await client.get("/"), 404, "not-found")
        moment[0] += 1
        problem(await client.get("/", headers=mine), 404, "not-found")


async def test_the_rate_is_a_setting(tmp_path: Path) -> None:
    api = await Api.start(tmp_path / "data", {"admin.requests_per_second": 2})
    found: set[int] = set()
    async with asyncio.timeout(30):
        # A machine that is busy may need a second for each.
        while found != {200, 429}:
            found |= {a.status_code for a in await asyncio.gather(*(api.http.get("/healthz") for _ in range(10)))}
    await api.finish()


async def test_what_takes_too_long_is_given_up() -> None:
    behind = Behind(timeout_s=0.05)
    ended: list[str] = []

    @behind.app.get("/slow")
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    @behind.app.get("/endless")
    async def endless() -> str:
        await asyncio.sleep(0.1)
        return "done"

    async with behind.client() as client:
        problem(await client.get("/slow"), 503, "timeout")
        assert ended == ["slow"]
        assert (await client.get("/endless")).json() == "done"


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (ZeroDivisionError("secret"), 500, "internal"),
        (StorageError("no", reason="storage_full"), 507, "storage-full"),
        (StorageError("no", reason="audit_failed"), 503, "storage-unavailable"),
        (InvalidChange("no", "/labels"), 422, "invalid"),
        (TooManyAttempts("no", 2.5), 429, "too-many-requests"),
    ],
)
async def test_every_error_is_a_problem(error: Exception, status: int, slug: str) -> None:
    """Fault 102: what cannot be audited is 503. A bug shows nothing of itself."""
    behind = Behind()

    @behind.app.get("/")
    async def broken() -> None:
        raise error

    async with behind.client() as client:
        document = problem(await client.get("/"), status, slug)
    assert "secret" not in json.dumps(document)


async def test_every_problem_has_its_page(api: Api) -> None:
    async with api.client() as stranger:
        for slug, kind in PROBLEMS.items():
            answer = await stranger.get(kind.type)
            assert answer.status_code == 200
            assert kind.remedy in answer.text
            assert slug in answer.text
        problem(await stranger.get("/problems/none-such"), 404, "not-found")


async def test_malformed_requests_are_told_where(api: Api) -> None:
    """Fault 98: mass assignment and huge pages are 422, with a pointer."""
    body = {"id": "kitchen", "labels": {"a": 1}, "last_seen_at": "2026-01-01T00:00:00Z", "enabled": 1}
    document = problem(await api.http.post("/api/v1/devices", json=body), 422, "invalid")
    assert {error["pointer"] for error in document["errors"]} == {"/labels/a", "/last_seen_at", "/enabled"}
    document = problem(await api.http.get("/api/v1/devices", params={"limit": 1_000_000}), 422, "invalid")
    assert document["errors"][0]["pointer"] == "#query/limit"
    problem(await api.http.post("/api/v1/devices", content=b"{"), 422, "invalid")
