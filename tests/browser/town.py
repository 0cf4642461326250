"""What the dashboard is looked at with: a central node, an edge with fifty devices, a broker, something of each kind.

Every node, the broker and the devices are processes of their own, so that nothing of theirs waits for a test. The edge
is where there is most to see.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from bench.local_cluster import LocalCluster
from gateway.control.identity import Identity
from gateway.policy.principal import Kind
from tests.bridges.brokers import Broker

CENTRAL, EDGE = "central-1", "edge-a"
DEVICES = 50
NAMES = tuple(f"thermostat-{number}" for number in range(1, DEVICES + 1))
#: What a device may be called, and no page may take for more than letters. Tests look whether it has run.
MARKUP = "<img src=x onerror='window.ran=1'><script>window.ran=2</script>"
PASSWORD = "correct horse battery staple"
#: Users by name and role; each has every scope that the role may have.
USERS = {"ada": "admin", "olga": "operator", "vera": "viewer"}
SCOPES = (
    *("monitoring", "connections", "devices", "enrollment", "routing", "federation", "mqtt", "policy"),
    *("publish", "config", "system"),
)
ADMINS = (*SCOPES, "audit", "backup", "users", "api_keys")
DOCUMENTS = """
kind: Spool
name: history
match: [{{service: historian}}]
maxBytes: 64MiB
minFree: 0%
---
kind: Service
name: thermostat
routes:
  - match: [{{route: "get.*"}}]
    timeout: 3s
    idempotent: true
    retries: {{attempts: 2, retryOn: [rejected]}}
  - timeout: 5s
---
kind: Access
name: operators-only
action: DENY
dryRun: true
rules:
  - from: [{{notGroups: [ops]}}]
    to: [{{services: ["thermostat-*"], routes: ["set_target"]}}]
---
kind: Bridge
name: plant
mqtt: {{address: "mqtt://127.0.0.1:{broker}"}}
topics:
  - {{pattern: "{{sub}}/readings", direction: out, qos: 1, remote: "home/", route: telemetry.readings}}
  - {{pattern: "weather/#", direction: in}}
"""
START_S = 60.0


class Town:
    """`start` brings all of it up and `end` ends it; `api(name)` asks a node as whoever holds its keys."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        more = {"GATEWAY__ADMIN__REQUESTS_PER_SECOND": "0", "GATEWAY__LIMITS__DRAIN_GRACE_S": "1"}
        self.nodes = LocalCluster(root, (CENTRAL, EDGE), settings={CENTRAL: more, EDGE: more})
        self.broker = Broker(root / "broker", keep=False)
        #: Of what has a number and a page: one that is there, by the page.
        self.numbers: dict[str, str] = {}
        self._fleet: subprocess.Popen[bytes] | None = None

    def admin(self, name: str = EDGE) -> str:
        return f"http://127.0.0.1:{self.nodes.ports[name][2]}"

    def data(self, name: str = EDGE) -> Path:
        return Path(self.nodes.data(name))

    def api(self, name: str = EDGE) -> httpx.AsyncClient:
        """Paths are below /api/v1. What is refused raises, because nothing here is to be refused."""
        identity = Identity.open(self.data(name))
        token = identity.mint("operator", Kind.ADMIN, (), ("*",), 900, time.time(), audience="gateway-admin")
        client = httpx.AsyncClient(
            base_url=f"{self.admin(name)}/api/v1",
            headers={"authorization": f"Bearer {token}"},
            timeout=30,
            verify=False,
        )
        client.event_hooks["response"] = [_accepted]
        return client

    async def start(self) -> None:
        broker = asyncio.create_task(self.broker.start())
        await asyncio.to_thread(self.nodes.introduce)
        await asyncio.to_thread(self._start_nodes)
        await broker
        async with self.api() as edge, self.api(CENTRAL) as central:
            await asyncio.gather(self._furnish(edge), self._people(central), self._people(edge))
            await self._waits(edge)
            await self._linked(edge)
            self.numbers["connection"] = (await edge.get("/devices/thermostat-2")).json()["connections"][0]

    def _start_nodes(self) -> None:
        for name in self.nodes.names:
            self.nodes.start(name, wait=False)
        for name in self.nodes.names:
            self.nodes.started(name)

    async def _people(self, api: httpx.AsyncClient) -> None:
        for name, role in USERS.items():
            scopes = ADMINS if role == "admin" else SCOPES
            body = {"name": name, "role": role, "scopes": scopes, "password": PASSWORD}
            made = (await api.post("/users", json=body)).json()
            assert made, name

    async def _furnish(self, edge: httpx.AsyncClient) -> None:
        """Whatever there can be one of."""
        rows: list[dict[str, Any]] = [
            {"id": name, "profile": "thermostat", "labels": {"floor": str(number % 5)}, "routes": ["telemetry.*"]}
            for number, name in enumerate(NAMES, 1)
        ]
        rows.append({"id": "spare", "profile": MARKUP, "labels": {"room": MARKUP}, "notes": MARKUP, "firmware": MARKUP})
        body = "\n".join(map(json.dumps, rows))
        done = await edge.post("/devices:bulk", content=body, headers={"content-type": "application/x-ndjson"})
        assert done.json()["created"] == len(rows), done.text
        self._populate()
        text = DOCUMENTS.format(broker=self.broker.port)
        await edge.post("/documents:apply", json={"text": text})
        await edge.post("/devices/spare/disable", json={})
        await edge.put("/devices/thermostat-1/config", json={"document": {"interval_s": 5}}, headers={"if-match": "*"})
        await edge.post("/devices/thermostat-1/credentials", json={})
        await edge.post("/enrollments", json={})
        fleet = (await edge.post("/fleets", json={"name": "spring batch"})).json()["fleet"]["id"]
        await edge.post(f"/fleets/{fleet}/serials", json={"serials": ["A-100", "A-101"]})
        image = await edge.post("/firmware", params={"board": "pico", "version": "1.1.0"}, content=b"image")
        rollout = await edge.post("/rollouts", json={"firmware": image.json()["id"], "labels": ["floor=1"]})
        self.numbers["rollout"] = rollout.json()["id"]
        await edge.post("/revocations", json={"kind": "token", "value": "stolen"})
        await edge.post("/api-keys", json={"name": MARKUP, "role": "viewer", "scopes": ["monitoring"]})
        await edge.patch("/config", json={"limits.setup_timeout_s": 9}, headers={"if-match": "*"})
        await edge.post("/backups", json={})

    def _populate(self) -> None:
        with (self.root / "fleet.log").open("ab") as log:
            url, data = self.nodes.url(EDGE), self.nodes.data(EDGE)
            command = [sys.executable, "-m", "tests.browser.fleet", url, data, str(DEVICES)]
            self._fleet = subprocess.Popen(command, stdout=log, stderr=log, cwd=Path(__file__).parents[2])

    async def _waits(self, edge: httpx.AsyncClient) -> None:
        """Until the devices are there, a message waits, and somebody has gone again."""

        async def there() -> bool:
            assert self._fleet is not None
            assert self._fleet.poll() is None, (self.root / "fleet.log").read_text()
            stats: dict[str, Any] = (await edge.get("/node/stats")).json()
            if stats["connections"]["open"].get("client", 0) < DEVICES + 2:
                return False
            spools = (await edge.get("/spools")).json()["data"]
            closed = (await edge.get("/connections", params={"state": "closed"})).json()["data"]
            return any(each["messages"] for each in spools) and bool(closed)

        await _until(there)

    async def _linked(self, edge: httpx.AsyncClient) -> None:
        async def linked() -> bool:
            peers = (await edge.get("/peers")).json()["data"]
            return any(link["state"] == "active" for peer in peers for link in peer["links"])

        await _until(linked)

    def end(self) -> None:
        if self._fleet is not None:
            self._fleet.terminate()
            try:
                self._fleet.wait(10)
            except subprocess.TimeoutExpired:
                self._fleet.kill()
                self._fleet.wait()
        self.nodes.end()
        self.broker.kill()


async def _accepted(response: httpx.Response) -> None:
    if response.is_error:
        await response.aread()
        raise AssertionError(f"{response.request.method} {response.request.url}: {response.text}")


async def _until(condition: Any) -> None:
    async with asyncio.timeout(START_S):
        while not await condition():  # noqa: ASYNC110  (what a node does sets no events here)
            await asyncio.sleep(0.05)
