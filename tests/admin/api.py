"""A node with its admin API open, and somebody who asks it over loopback HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from gateway.control.audit import Actor
from gateway.control.plane import ControlPlane
from gateway.control.roles import LOGIN_ONLY, SCOPES, Role
from gateway.policy.principal import Kind
from tests.local_node import LocalNode, until

TESTER = Actor("system", "tests")
PASSWORD = "correct horse battery staple"


class Api:
    """`local` is the node. The methods ask as whoever holds the keys of the data directory."""

    def __init__(self, local: LocalNode) -> None:
        self.local = local
        self.node = local.node
        self.url = local.node.addresses["admin"]
        self.http = self.client(self.local_token())

    @classmethod
    async def start(cls, data: Path, more: Mapping[str, object] | None = None, *, dev: bool = True) -> Self:
        settings = {"admin.listen": "127.0.0.1:0", "admin.requests_per_second": 0, **(more or {})}
        return cls(await LocalNode.start(data, settings, dev=dev))

    @property
    def control(self) -> ControlPlane:
        assert self.node.control is not None
        return self.node.control

    def local_token(self, ttl: float = 900) -> str:
        return self.node.identity.mint("operator", Kind.ADMIN, (), ("*",), ttl, time.time(), audience="gateway-admin")

    def client(self, token: str | None = None, **more: Any) -> httpx.AsyncClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        # Without TLS; reading the authorities that it would trust takes longer than most tests.
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20, **{"verify": False, **more})

    async def key(self, role: Role, scopes: tuple[str, ...] = tuple(set(SCOPES) - LOGIN_ONLY)) -> httpx.AsyncClient:
        """Somebody with an API key."""
        _, secret = await self.control.api_keys.create("test", role=role, scopes=scopes, by=TESTER)
        return self.client(secret)

    async def user(self, role: Role, scopes: tuple[str, ...] = SCOPES) -> httpx.AsyncClient:
        """Somebody who has logged in."""
        await self.control.users.create(role.value, PASSWORD, role=role, scopes=scopes, by=TESTER)
        answer = await self.http.post("/api/v1/auth/login", json={"name": role.value, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["access_token"])

    async def get(self, path: str, **more: Any) -> Any:
        """The JSON of an answer that must be 200."""
        answer = await self.http.get(f"/api/v1{path}", **more)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    async def send(self, method: str, path: str, expect: int = 200, **more: Any) -> Any:
        """The JSON of an answer that must have this status; None of an empty one."""
        answer = await self.http.request(method, f"/api/v1{path}", **more)
        assert answer.status_code == expect, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def finish(self) -> None:
        await self.http.aclose()
        if not self.local.stopped:
            # An answer ends a moment after its reader has gone; an issuer that was just added is asked for its keys.
            await until(lambda: not [task for task in asyncio.all_tasks() if _is_ending(task)])
        await self.local.finish()


def _is_ending(task: asyncio.Task[Any]) -> bool:
    return any(name in repr(task.get_coro()) for name in ("run_asgi", "Issuers._fetch"))


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem of an answer that must be this one."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{slug}", document
    assert document["status"] == status
    assert document["trace_id"] == answer.headers["x-request-id"]
    return document
