"""A node with something of each kind to do things to, and for every operation of the API a request that works."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.control.audit import SYSTEM
from gateway.control.members import CENTRAL
from gateway.control.plane import ControlPlane
from tests.admin.api import Api
from tests.admin.test_access import walk
from tests.control.key_server import KeyServer
from tests.local_node import fnf, until
from tests.prepared import prepared

NOBODY = {
    "connections": "999999",
    "routes": "00000000-0000-0000-0000-000000000001",
    "config": "999999",
    "bundles": "999999",
    "backups": "20260101T000000.000000Z.tar",
    "mqtt/mappings": "nobody:topics:0",
    "device-configs": "device:nobody",
}
#: What a service that nobody has answers is an answer of the call.
ASKS_ANYBODY = {"call_service", "put_document"}
#: They end the login that asks, so they come last, each with a login of its own.
ENDING = {"change_password", "log_out"}
OPERATIONS = walk()
JSON_LINES = {"content-type": "application/x-ndjson"}


class Place:
    """A node with something of each kind to do things to."""

    def __init__(self, api: Api, keys: KeyServer) -> None:
        self.api = api
        self.keys = keys
        self._numbers = itertools.count(1)

    def fresh(self, what: str) -> str:
        return f"{what}-{next(self._numbers)}"

    async def user(self) -> str:
        name = self.fresh("user")
        await self.api.send("POST", "/users", 201, json={"name": name, "role": "viewer", "scopes": []})
        return name

    async def administrator(self) -> None:
        """There is one."""
        if not (await self.api.get("/users?role=admin"))["data"]:
            await self.api.send("POST", "/users", 201, json={"name": self.fresh("user"), "role": "admin", "scopes": []})

    async def key(self) -> str:
        made = await self.api.send("POST", "/api-keys", 201, json={"name": "k", "role": "viewer", "scopes": []})
        return str(made["api_key"]["id"])

    async def device(self) -> str:
        name = self.fresh("device")
        await self.api.send("POST", "/devices", 201, json={"id": name})
        return name

    async def configured(self) -> str:
        """A device with a configuration."""
        name = await self.device()
        body = {"document": {"interval_s": 5}}
        await self.api.send("PUT", f"/devices/{name}/config", headers={"if-match": "*"}, json=body)
        return name

    async def credential(self) -> str:
        made = await self.api.send("POST", f"/devices/{await self.device()}/credentials", 201, json={})
        return str(made["credential_id"])

    async def revocation(self) -> str:
        body = {"kind": "token", "value": self.fresh("token")}
        return str((await self.api.send("POST", "/revocations", 201, json=body))["id"])

    async def enrollment(self) -> str:
        return str((await self.api.send("POST", "/enrollments", 201, json={}))["enrollment"]["id"])

    async def fleet(self) -> str:
        """It has one device, whose serial is the fleet's id."""
        made = await self.api.send("POST", "/fleets", 201, json={"name": self.fresh("fleet")})
        serial = str(made["fleet"]["id"])
        await self.api.send("POST", f"/fleets/{serial}/serials", json={"serials": [serial]})
        await self.api.send("POST", "/enroll/fleet", json={"key": made["key"], "serial": serial})
        return serial

    async def firmware(self) -> str:
        params = {"board": "pico", "version": self.fresh("v")}
        made = await self.api.send("POST", "/firmware", 201, params=params, content=b"image")
        return str(made["id"])

    async def rollout(self) -> str:
        body = {"firmware": await self.firmware(), "labels": ["nobody"]}
        return str((await self.api.send("POST", "/rollouts", 201, json=body))["id"])

    async def connection(self) -> str:
        client = await self.api.local.client(subject=self.fresh("client"), kind="device")
        return str(self.api.local.connection(client).number)

    async def route(self) -> str:
        return str((await self.api.get("/routes?service=echo"))["data"][0]["id"])

    async def service(self) -> str:
        return "echo"

    async def issuer(self) -> str:
        """Its keys are fetched: nothing more happens to it by itself."""
        number = str((await self.api.send("POST", "/issuers", 201, json=self.new_issuer()))["id"])
        await self.at_rest()
        return number

    def new_issuer(self) -> dict[str, str]:
        return {"issuer": self.fresh("https://idp.example/"), "jwks_url": self.keys.url}

    async def peer(self) -> str:
        """A node that joined once; nothing links to it."""
        number = str(uuid.uuid4())
        own = self.api.control.members.own
        assert own is not None
        member = replace(own, id=number, name=self.fresh("peer"), role="edge")
        await self.api.control.members.put(member, by=SYSTEM)
        return number

    async def join_token(self) -> str:
        return str((await self.api.send("POST", "/join-tokens", 201, json={}))["join_token"]["id"])

    async def at_rest(self) -> None:
        """Wait until all that was begun behind an answer is done: an issuer that was added is asked for its keys."""

        async def asked() -> bool:
            issuers = (await self.api.get("/issuers"))["data"]
            return all(issuer["fetched_at"] for issuer in issuers if issuer["jwks_url"])

        async with asyncio.timeout(30):
            while not await asked():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def revision(self) -> str:
        changes = {"limits.setup_timeout_s": next(self._numbers) / 100 + 1}
        answer = await self.api.send("PATCH", "/config", headers={"if-match": "*"}, json=changes)
        return str(answer["revision"])

    async def backup(self) -> str:
        return str((await self.api.send("POST", "/backups", 201))["id"])

    async def document(self) -> str:
        name = self.fresh("document")
        text = f"kind: Spool\nname: {name}\nmatch: [{{service: {name}}}]\nminFree: 0%\nmaxBytes: 1MiB\n"
        await self.api.send("POST", "/documents:apply", json={"text": text})
        return name

    def new_bundle(self) -> dict[str, Any]:
        text = (
            f"kind: Spool\nname: bundled\nmatch: [{{service: {self.fresh('service')}}}]\nminFree: 0%\nmaxBytes: 1MiB\n"
        )
        return {"texts": [text], "labels": ["site=nowhere"]}

    async def bundle(self) -> str:
        """One that reaches no node."""
        made = await self.api.send("POST", "/bundles", 201, json=self.new_bundle())
        return str(made["bundle"]["version"])

    async def bridge(self) -> str:
        """One whose broker is not there, with one rule; it is always the same one."""
        name = "plant"
        body = {"mqtt": {"address": "mqtt://127.0.0.1:9"}, "topics": [{"pattern": "a/#", "direction": "in"}]}
        await self.api.send("PUT", f"/documents/Bridge/{name}", headers={"if-match": "*"}, json=body)
        return name

    async def mapping(self) -> str:
        return f"{await self.bridge()}:topics:0"

    async def spool(self) -> str:
        """One in which a message waits."""
        name = await self.document()
        client = await self.api.local.client()
        client.send(fnf(client, f"{name}.write", b"waits"))
        spool = f"{name}/{name}"
        depot = self.api.node.depot
        assert depot is not None
        await until(lambda: spool in depot.spools() and depot.spools()[spool].messages)
        return spool

    async def device_config(self) -> str:
        return f"device:{await self.configured()}"

    async def path(self, path: str) -> str:
        """A path with something that is there in it."""
        makers: dict[str, Callable[[], Awaitable[str]]] = {
            "users": self.user,
            "api-keys": self.key,
            "devices": self.device,
            "credentials": self.credential,
            "revocations": self.revocation,
            "enrollments": self.enrollment,
            "fleets": self.fleet,
            "firmware": self.firmware,
            "rollouts": self.rollout,
            "connections": self.connection,
            "routes": self.route,
            "services": self.service,
            "issuers": self.issuer,
            "peers": self.peer,
            "join-tokens": self.join_token,
            "config": self.revision,
            "backups": self.backup,
            "documents": self.document,
            "bundles": self.bundle,
            "mqtt/bridges": self.bridge,
            "mqtt/mappings": self.mapping,
            "device-configs": self.device_config,
        }
        return filled(path, await makers[noun_of(path)]()) if "{" in path else path

    async def working(self, operation: str, path: str) -> tuple[str, dict[str, Any]]:
        """A path and what goes with it, so that the operation does its work."""
        more = await self.request(operation, path)
        instead = more.pop("instead", None)
        return (filled(path, instead) if instead else await self.path(path)), more

    async def request(self, operation: str, path: str) -> dict[str, Any]:
        """What goes with the path, so that it works."""
        match operation:
            case "create_user":
                return {"json": {"name": self.fresh("user"), "role": "viewer", "scopes": []}}
            case "create_login_code":
                await self.administrator()
                return {"json": {}}
            case "create_api_key":
                return {"json": {"name": "k", "role": "viewer", "scopes": []}}
            case "create_device":
                return {"json": {"id": self.fresh("device")}}
            case "import_devices":
                return {"content": json.dumps({"id": self.fresh("device")}), "headers": JSON_LINES}
            case "change_user" | "change_api_key":
                return {"json": {"scopes": ["monitoring"]}}
            case "change_device":
                return {"json": {"profile": "thermo"}}
            case "put_config_of_device" | "put_device_config":
                return {"json": {"document": {"interval_s": next(self._numbers)}}}
            case "withdraw_config_of_device":
                return {"instead": await self.configured()}
            case "get_device_config_diff" | "roll_back_device_config":
                target = await self.device_config()
                version = (await self.api.get(f"/device-configs/{target}"))["version"]
                if operation == "get_device_config_diff":
                    return {"params": {"before": version}, "instead": target}
                return {"json": {"version": version}, "instead": target}
            case "change_issuer":
                return {"json": {"services": ["a.*"]}}
            case "change_config":
                return {"json": {"limits.setup_timeout_s": next(self._numbers) / 100 + 1}}
            case "validate_config":
                return {"json": {"changes": {"limits.setup_timeout_s": 2}}}
            case "set_log_level":
                return {"json": {"level": "info"}}
            case "write_device_snippets":
                return {"json": {"token": "aa.bb.cc"}}
            case "add_device_key":
                public = Ed25519PrivateKey.generate().public_key()
                pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                return {"json": {"public_key": pem.decode()}}
            case "create_revocation":
                return {"json": {"kind": "token", "value": self.fresh("token")}}
            case "draw_enrollment":
                made = await self.api.send("POST", "/enrollments", 201, json={})
                return {"json": {"token": made["token"]}, "instead": made["enrollment"]["id"]}
            case "add_firmware":
                return {"params": {"board": "pico", "version": self.fresh("v")}, "content": b"image"}
            case "start_rollout":
                return {"json": {"firmware": await self.firmware()}}
            case "change_rollout":
                return {"json": {"percentage": 5}}
            case "create_fleet":
                return {"json": {"name": self.fresh("fleet")}}
            case "add_serials":
                return {"json": {"serials": [self.fresh("serial")]}}
            case "create_issuer":
                return {"json": self.new_issuer()}
            case "apply_documents":
                match = f"match: [{{service: {self.fresh('service')}}}]"
                return {"json": {"text": f"kind: Spool\nname: a\n{match}\nmaxBytes: 1MiB\nminFree: 0%"}}
            case "publish_bundle":
                return {"json": self.new_bundle()}
            case "change_bundle":
                return {"json": {"percentage": 5}}
            case "diff_bundle":
                return {"params": {"to": await self.bundle()}}
            case "put_document":
                return {"json": {"match": [{"service": self.fresh("service")}], "minFree": "0%", "maxBytes": "1MiB"}}
            case "create_bridge":
                return {"json": {"name": self.fresh("bridge"), "body": {"mqtt": {"address": "mqtt://127.0.0.1:9"}}}}
            case "put_bridge":
                return {"json": {"mqtt": {"address": "mqtt://127.0.0.1:9"}}}
            case "create_mapping":
                return {
                    "json": {"bridge": await self.bridge(), "rule": {"pattern": self.fresh("topic"), "direction": "in"}}
                }
            case "put_mapping":
                return {"json": {"pattern": self.fresh("topic"), "direction": "in"}}
            case "check_policy":
                return {"json": {"subject": "d1", "service": "thermostat", "route": "get"}}
            case "draft_policy":
                return {"json": {"flows": [{"subject": "d1", "service": "thermostat", "route": "get"}]}}
            case "check_mapping":
                return {"json": {"topic": "a/b"}}
            case "list_spool_messages":
                return {"params": {"spool": await self.spool()}}
            case "replay_spool" | "drop_messages":
                return {"json": {"spool": await self.spool()}}
            case "measure_latency":
                return {"json": {"target": "edge-1", "count": 1}}
            case "stream_events" | "stream_stats" | "stream_flows":
                return {"params": {"ttl": 0}}
        return {} if path.startswith("/api/v1/auth/") else {"json": {}}


def noun_of(path: str) -> str:
    first, *rest = path.removeprefix("/api/v1/").split("/")
    return f"{first}/{rest[0]}" if first == "mqtt" else first


def filled(path: str, name: str) -> str:
    path = path.replace("{kind}", "Spool")
    for hole in ("{id}", "{name}", "{serial}", "{revision}", "{version}"):
        path = path.replace(hole, name)
    return path


async def ask(client: httpx.AsyncClient, method: str, path: str, more: dict[str, Any]) -> httpx.Response:
    more = dict(more)
    headers = more.pop("headers", {}) | (
        {"if-match": "*"} if method in ("PUT", "PATCH", "DELETE") or "rollback" in path else {}
    )
    if method in ("GET", "DELETE"):
        more.pop("json", None)
    return await client.request(method, path, headers=headers, **more)


@asynccontextmanager
async def place_in(data: Path) -> AsyncIterator[Place]:
    keys = KeyServer()
    await keys.start()
    keys.add_key("k1")
    # A central node, so that others can join it.
    async with await ControlPlane.offline(prepared(data)) as control:
        await control.members.put(control.members.itself("edge-1", CENTRAL, (), ""), by=SYSTEM)
    api = await Api.start(data)
    await api.local.servant()
    try:
        yield Place(api, keys)
    finally:
        await api.finish()
        await keys.stop()
