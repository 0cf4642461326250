"""Logins, users and API keys over HTTP: what holds, what ends, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.control.roles import Role
from tests.admin.api import PASSWORD, Api, problem


async def log_in(api: Api, name: str, password: str = PASSWORD) -> Any:
    return await api.send("POST", "/auth/login", json={"name": name, "password": password})


async def added(api: Api, name: str, role: str = "viewer") -> None:
    """A user with this password who need not change it."""
    body = {"name": name, "role": role, "scopes": ["monitoring"]}
    await api.send("POST", "/users", 201, json=body)
    await api.send("POST", f"/users/{name}/password", json={"password": PASSWORD, "must_change": False})


async def status(api: Api, token: str, path: str = "/api/v1/auth/me") -> int:
    async with api.client(token) as somebody:
        return (await somebody.get(path)).status_code


async def test_a_login_is_refreshed_and_a_stolen_refresh_token_ends_it(api: Api) -> None:
    await added(api, "anna")
    first = await log_in(api, "anna")
    second = await api.send("POST", "/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert second["refresh_token"] != first["refresh_token"]
    assert await status(api, second["access_token"]) == 200
    again = await api.http.post("/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    problem(again, 401, "unauthenticated")
    assert await status(api, second["access_token"]) == 401
    late = await api.http.post("/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
    problem(late, 401, "unauthenticated")


async def test_who_guesses_passwords_is_told_to_wait(api: Api) -> None:
    """Fault 63: the same answer for a wrong password and for a name that nobody has, then 429 with a time."""
    await added(api, "anna")
    answers = [
        await api.http.post("/api/v1/auth/login", json={"name": name, "password": "wrong" * 3})
        for name in ("anna", "nobody") * 3
    ]
    assert len({answer.json()["detail"] for answer in answers}) == 1
    for _ in range(10):
        answer = await api.http.post("/api/v1/auth/login", json={"name": "anna", "password": "wrong" * 3})
    problem(answer, 429, "too-many-requests")
    assert int(answer.headers["retry-after"]) > 0
    right = await api.http.post("/api/v1/auth/login", json={"name": "anna", "password": PASSWORD})
    problem(right, 429, "too-many-requests")


async def test_ones_own_password(api: Api) -> None:
    """It needs the old one; a key has none; a short one is told where."""
    await added(api, "anna")
    token = (await log_in(api, "anna"))["access_token"]
    async with api.client(token) as anna:
        body = {"old_password": "x" * 12, "new_password": PASSWORD + "!"}
        problem(await anna.post("/api/v1/auth/password", json=body), 401, "unauthenticated")
        short = await anna.post("/api/v1/auth/password", json={"old_password": PASSWORD, "new_password": "short"})
        assert problem(short, 422, "invalid")["errors"][0]["pointer"]
    async with await api.key(Role.VIEWER) as key:
        body = {"old_password": PASSWORD, "new_password": PASSWORD + "!"}
        problem(await key.post("/api/v1/auth/password", json=body), 409, "conflict")


@pytest.mark.parametrize("how", ["disabled", "deleted", "reset"])
async def test_a_login_ends_with_what_it_stands_on(api: Api, how: str) -> None:
    await added(api, "anna")
    token = (await log_in(api, "anna"))["access_token"]
    assert await status(api, token) == 200
    if how == "disabled":
        await api.send("PATCH", "/users/anna", json={"enabled": False}, headers={"if-match": "*"})
    elif how == "deleted":
        await api.send("DELETE", "/users/anna", 204, headers={"if-match": "*"})
    else:
        await api.send("POST", "/users/anna/password", json={})
    assert await status(api, token) == 401
    if how != "reset":
        problem(
            await api.http.post("/api/v1/auth/login", json={"name": "anna", "password": PASSWORD}),
            401,
            "unauthenticated",
        )


async def test_a_change_of_rights_holds_for_the_next_request(api: Api) -> None:
    await added(api, "anna")
    token = (await log_in(api, "anna"))["access_token"]
    assert await status(api, token, "/api/v1/node") == 200
    assert await status(api, token, "/api/v1/devices") == 403
    await api.send("PATCH", "/users/anna", json={"scopes": ["devices"]}, headers={"if-match": "*"})
    assert await status(api, token, "/api/v1/node") == 403
    assert await status(api, token, "/api/v1/devices") == 200


async def test_the_last_administrator_stays(api: Api) -> None:
    body = {"name": "root", "role": "admin", "scopes": ["users"]}
    await api.send("POST", "/users", 201, json=body)
    any_version = {"if-match": "*"}
    for change in ({"enabled": False}, {"role": "viewer"}, {"scopes": []}):
        problem(await api.http.patch("/api/v1/users/root", json=change, headers=any_version), 422, "invalid")
    problem(await api.http.delete("/api/v1/users/root", headers=any_version), 422, "invalid")
    await api.send("POST", "/users", 201, json={**body, "name": "second"})
    await api.send("DELETE", "/users/root", 204, headers=any_version)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "no blanks", "role": "viewer", "scopes": []}, "/name"),
        ({"name": "x", "role": "king", "scopes": []}, "/role"),
        ({"name": "x", "role": "viewer", "scopes": ["everything"]}, "/scopes"),
        ({"name": "x", "role": "viewer"}, "/scopes"),
        ({"name": "x", "role": "viewer", "scopes": [], "admin": True}, "/admin"),
        ({"name": "x", "role": "viewer", "scopes": [], "password": "short"}, "/password"),
    ],
)
async def test_what_is_no_user(api: Api, body: dict[str, Any], pointer: str) -> None:
    """Fault 98: no field that is not known, no scope that nobody has."""
    errors = problem(await api.http.post("/api/v1/users", json=body), 422, "invalid")["errors"]
    assert any(error["pointer"].startswith(pointer) for error in errors), errors
    problem(await api.http.get(f"/api/v1/users/{body['name']}"), 404, "not-found")


async def test_a_key_is_shown_once_and_lasts_as_it_says(api: Api) -> None:
    body = {"name": "ci", "role": "viewer", "scopes": ["monitoring"]}
    made = await api.send("POST", "/api-keys", 201, json=body)
    secret, path = made["secret"], f"/api-keys/{made['api_key']['id']}"
    assert secret.startswith("gk_")
    assert secret not in (await api.http.get(f"/api/v1{path}")).text
    assert secret not in (await api.http.get("/api/v1/api-keys")).text
    assert await status(api, secret, "/api/v1/node") == 200
    rotated = await api.send("POST", f"{path}/rotate", json={"overlap_s": 60})
    assert await status(api, secret) == await status(api, rotated["secret"]) == 200
    last = await api.send("POST", f"{path}/rotate", json={})
    assert [await status(api, each) for each in (secret, rotated["secret"], last["secret"])] == [401, 401, 200]
    await api.send("PATCH", path, json={"enabled": False}, headers={"if-match": "*"})
    assert await status(api, last["secret"]) == 401
    await api.send("PATCH", path, json={"enabled": True}, headers={"if-match": "*"})
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert await status(api, last["secret"]) == 200
    answer = await api.http.patch(f"/api/v1{path}", json={"expires_at": past}, headers={"if-match": "*"})
    assert answer.status_code in (200, 422)
    await api.send("DELETE", path, 204, headers={"if-match": "*"})
    assert await status(api, last["secret"]) == 401


async def test_a_key_never_gets_scopes_for_people(api: Api) -> None:
    for scope in ("users", "api_keys"):
        body = {"name": "ci", "role": "admin", "scopes": [scope]}
        problem(await api.http.post("/api/v1/api-keys", json=body), 422, "invalid")
    assert (await api.get("/api-keys"))["data"] == []


async def test_scopes_are_told(api: Api) -> None:
    scopes = await api.get("/auth/scopes")
    assert {scope["name"] for scope in scopes["scopes"] if scope["login_only"]} == {"users", "api_keys"}
    assert scopes["roles"]["viewer"] == ["read"]


async def test_a_code_logs_in_once_whoever_has_not_set_a_password_yet(api: Api) -> None:
    """The first administrator, whose password is to be changed: not before the first look, and then without it."""
    await api.send("POST", "/users", 201, json={"name": "first", "role": "admin", "scopes": ["users", "monitoring"]})
    made = await api.send("POST", "/auth/codes", 201, json={"user": "first"})
    assert made["user"] == "first"
    tokens = await api.send("POST", "/auth/login", json={"code": made["code"]})
    assert not tokens["user"]["must_change_password"]
    again = await api.http.post("/api/v1/auth/login", json={"code": made["code"]})
    problem(again, 401, "unauthenticated")
    tokens = await api.send("POST", "/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    async with api.client(tokens["access_token"]) as first:
        assert not (await first.get("/api/v1/auth/me")).json()["must_change_password"]
        assert (await first.get("/api/v1/node")).status_code == 200
        assert (await first.post("/api/v1/auth/password", json={"new_password": PASSWORD})).status_code == 200
        assert (await first.get("/api/v1/node")).status_code == 401
    async with api.client((await log_in(api, "first"))["access_token"]) as first:
        refused = await first.post("/api/v1/auth/password", json={"new_password": PASSWORD + "!"})
        assert problem(refused, 422, "invalid")["errors"][0]["pointer"] == "/old_password"
    rows = (await api.get("/audit?limit=20"))["data"]
    done = [(row["action"], row["outcome"]) for row in rows if row["action"] in ("session.code", "session.login")]
    assert done[-3:] == [("session.login", "refused"), ("session.login", "ok"), ("session.code", "ok")]
    assert made["code"] not in str(rows)


async def test_codes_for_others_are_for_who_holds_the_keys_of_the_node(api: Api) -> None:
    async with await api.user(Role.ADMIN) as admin:
        problem(await admin.post("/api/v1/auth/codes", json={"user": "anna"}), 409, "conflict")
        assert (await admin.post("/api/v1/auth/codes", json={})).json()["user"] == "admin"
    made = await api.send("POST", "/auth/codes", 201, json={"user": "admin"})
    both = await api.http.post("/api/v1/auth/login", json={"name": "admin", "code": made["code"]})
    problem(both, 422, "invalid")
    problem(await api.http.post("/api/v1/auth/codes", json={"user": "nobody"}), 404, "not-found")
