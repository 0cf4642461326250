"""Who may use which operation of the admin API: a walk over all of them, as everybody there is (fault 98)."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from gateway.admin import application as module
from gateway.admin.access import Operation
from gateway.admin.application import application, operations
from gateway.admin.reference import DOCUMENT
from gateway.control.roles import SCOPES, Action, Role, permits
from gateway.policy.principal import Kind
from tests.admin.api import PASSWORD, TESTER, Api, problem

SAMPLES = {
    "serial": "1",
    "id": "1",
    "kind": "Spool",
    "name": "nobody",
    "revision": "1",
    "version": "1",
    "slug": "not-found",
}


def walk() -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation: method, path, description, as committed; `make lint` compares that with the code."""
    return [
        (method.upper(), path, description)
        for path, methods in json.loads(DOCUMENT.read_bytes())["paths"].items()
        for method, description in methods.items()
    ]


def filled(path: str) -> str:
    if path.startswith("/api/v1/routes/"):
        return "/api/v1/routes/00000000-0000-0000-0000-000000000001"
    path = re.sub(r"\{(\w+)\}", lambda match: SAMPLES[match[1]], path)
    return f"{path}?ttl=0" if "/stream/" in path else path


async def ask(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    body = {} if method in ("POST", "PUT", "PATCH") else None
    headers = {"if-match": "*"} if method in ("PATCH", "DELETE") else {}
    return await client.request(method, filled(path), json=body, headers=headers)


def test_every_operation_says_who_may_use_it() -> None:
    """Fault 98: deny by default. One without a scope and an action, or a reason to be open, fails here."""
    every = operations(application())
    assert len(every) == len(walk()) > 70
    for operation in every:
        assert isinstance(operation, Operation)
        extra = operation.openapi_extra or {}
        if "x-open" in extra:
            assert len(extra["x-open"]) > 10, operation.path
            assert "x-scope" not in extra
        else:
            assert operation.scope in (*SCOPES, "any")
            assert operation.action in Action
            assert extra["x-roles"], operation.path


def test_what_is_open_is_what_is_meant_to_be() -> None:
    assert {f"{method} {path}" for method, path, description in walk() if "x-open" in description} == {
        "GET /.well-known/jwks.json",
        "GET /ca.pem",
        "GET /healthz",
        "GET /problems/{slug}",
        "GET /api/v1/console/rsocket",
        "POST /api/v1/auth/login",
        "POST /api/v1/auth/refresh",
        "POST /api/v1/enroll",
        "POST /api/v1/enroll/fleet",
    }


def test_an_operation_without_a_scope_cannot_be_made() -> None:
    router = APIRouter(route_class=Operation)
    with pytest.raises(TypeError, match="neither a scope nor a reason"):
        router.add_api_route("/secret", lambda: None)


def test_a_route_that_is_no_operation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    router.add_api_route("/secret", lambda: None)
    monkeypatch.setattr(module, "ROUTERS", (*module.ROUTERS, router))
    with pytest.raises(TypeError, match="says nothing of who may use it"):
        operations(FastAPI())


async def test_without_a_token_everything_is_401(api: Api) -> None:
    """Fault 98: whatever else is wrong with the request, and with the same answer for every bad token."""
    async with api.client() as stranger:
        for method, path, description in walk():
            answer = await ask(stranger, method, path)
            if "x-open" in description:
                assert answer.status_code != 403, (method, path)
            else:
                assert problem(answer, 401, "unauthenticated"), (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_what_it_may(api: Api, role: Role) -> None:
    """Fault 98: 403 for what the role may not, and something else for what it may."""
    async with await api.user(role) as somebody:
        for method, path, description in walk():
            if "x-open" in description or path == "/api/v1/auth/logout":
                continue
            answer = await ask(somebody, method, path)
            scope, action = description["x-scope"], Action(description["x-action"])
            allowed = scope == "any" or permits(role, SCOPES, scope, action)
            assert (role in description["x-roles"]) == allowed
            if allowed:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
                assert answer.status_code < 500, (method, path, answer.text)
                assert str(answer.status_code) in description["responses"], (method, path, answer.text)
            else:
                problem(answer, 403, "forbidden")


async def test_a_role_without_the_scope_may_nothing(api: Api) -> None:
    """A missing scope is 403 even for what is not there: nobody learns what exists."""
    async with await api.key(Role.ADMIN, scopes=()) as key:
        for method, path, description in walk():
            if "x-open" not in description and description["x-scope"] != "any":
                problem(await ask(key, method, path), 403, "forbidden")


async def test_a_key_makes_neither_keys_nor_users(api: Api) -> None:
    async with await api.key(Role.ADMIN) as key:
        for path in ("/api/v1/users", "/api/v1/api-keys"):
            problem(await key.get(path), 403, "forbidden")
            problem(await key.post(path, json={}), 403, "forbidden")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Basic YTpi", "Bearer x", "Bearer gk_a_b", "Bearer " + "a" * 9000, "Bearer eyJ.e.e"],
)
async def test_bad_credentials_are_all_alike(api: Api, authorization: str) -> None:
    """Fault 63."""
    async with api.client() as stranger:
        answer = await stranger.get("/api/v1/node", headers={"authorization": authorization})
    assert problem(answer, 401, "unauthenticated")["detail"]


async def test_tokens_of_the_data_plane_do_not_open_it(api: Api) -> None:
    """Another audience, another kind: nothing that a device has lets it in here."""
    mint = api.node.identity.mint

    for kind, audience in ((Kind.ADMIN, "gateway"), (Kind.DEVICE, "gateway-admin"), (Kind.USER, "gateway-admin")):
        token = mint("kitchen", kind, (), ("*",), 900, time.time(), audience=audience)
        async with api.client(token) as device:
            problem(await device.get("/api/v1/node"), 401, "unauthenticated")


async def test_logging_out_ends_it(api: Api) -> None:
    async with await api.user(Role.VIEWER) as somebody:
        assert (await somebody.get("/api/v1/auth/me")).json()["id"] == "viewer"
        assert (await somebody.post("/api/v1/auth/logout")).status_code == 204
        problem(await somebody.get("/api/v1/auth/me"), 401, "unauthenticated")


async def test_a_password_that_must_be_changed_comes_first(api: Api) -> None:
    """Fault 100: until then nothing else is allowed."""
    await api.control.users.create("anna", None, role=Role.ADMIN, scopes=SCOPES, by=TESTER)
    await api.control.users.set_password("anna", PASSWORD, by=TESTER, must_change=True)
    login = await api.http.post("/api/v1/auth/login", json={"name": "anna", "password": PASSWORD})
    assert login.json()["user"]["must_change_password"]
    async with api.client(login.json()["access_token"]) as anna:
        problem(await anna.get("/api/v1/node"), 403, "forbidden")
        body = {"old_password": PASSWORD, "new_password": PASSWORD + "!"}
        assert (await anna.post("/api/v1/auth/password", json=body)).status_code == 200
    again = await api.http.post("/api/v1/auth/login", json={"name": "anna", "password": PASSWORD + "!"})
    async with api.client(again.json()["access_token"]) as anna:
        assert (await anna.get("/api/v1/node")).status_code == 200
