"""What every change of the admin API has in common: If-Match, idempotency keys, dry runs. Each on all that have it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.control.roles import Role
from tests.admin.api import Api, problem
from tests.admin.place import OPERATIONS, ask, place_in


def with_parameter(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, description)
        for method, path, description in OPERATIONS
        if name in {parameter["name"] for parameter in description.get("parameters", ())}
    ]


async def everything(api: Api) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the database."""

    def work(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: [tuple(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in tables}

    return await api.control.database.read(work)


async def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    """Not a row in any table, no event, no setting; and what it answers is documented."""
    async with place_in(tmp_path / "data") as place:
        api = place.api
        for method, path, description in with_parameter("dry_run"):
            operation = description["operationId"]
            there, more = await place.working(operation, path)
            before = await everything(api), (await api.get("/config"))["settings"], (await api.get("/node"))["state"]
            latest = (await api.get("/events", params={"limit": 1}))["data"]
            more["params"] = {**more.get("params", {}), "dry_run": "1"}
            more["headers"] = {**more.get("headers", {}), "idempotency-key": operation}
            answer = await ask(api.http, method, there, more)
            assert answer.is_success, (operation, answer.text)
            after = await everything(api), (await api.get("/config"))["settings"], (await api.get("/node"))["state"]
            assert after == before, operation
            assert (await api.get("/events", params={"limit": 1}))["data"] == latest, operation
        assert len(api.node.plane.connections) > 1


async def test_a_change_needs_the_version_that_was_seen(tmp_path: Path) -> None:
    """428 without If-Match, 412 with another's or none that is ours; with the right one it is done, once."""
    conditional = with_parameter("if-match")
    assert len(conditional) >= 10
    async with place_in(tmp_path / "data") as place:
        api = place.api
        for method, path, description in conditional:
            operation = description["operationId"]
            there, more = await place.working(operation, path)
            shown = "/api/v1/config" if there.startswith("/api/v1/config") else there.removesuffix("/rollback")
            tag = (await api.http.get(shown)).headers["etag"]
            problem(await api.http.request(method, there, **more), 428, "precondition-required")
            wrong = (f'"{int(tag.strip(chr(34))) + 1}"', "W/" + tag, "x", '"x"', tag.strip('"'), '"' + "9" * 19 + '"')
            for other in wrong:
                answer = await api.http.request(method, there, headers={"if-match": other}, **more)
                problem(answer, 412, "precondition-failed")
            assert (await api.http.get(shown)).headers["etag"] == tag, operation
            done = await api.http.request(method, there, headers={"if-match": tag}, **more)
            assert done.is_success, (operation, done.text)
            again = await api.http.request(method, there, headers={"if-match": tag}, **more)
            # A rule goes from its document, which is still there and has another version.
            gone = method == "DELETE" and operation not in ("revoke_fleet", "delete_mapping")
            assert again.status_code == (404 if gone else 412), operation
            if method == "PATCH":
                assert done.headers["etag"] == (await api.http.get(shown)).headers["etag"] != tag, operation


async def test_of_two_who_change_at_once_one_is_told(api: Api) -> None:
    made = await api.http.post("/api/v1/devices", json={"id": "kitchen"})
    headers = {"if-match": made.headers["etag"]}
    answers = await asyncio.gather(
        *(api.http.patch("/api/v1/devices/kitchen", json={"profile": f"p{n}"}, headers=headers) for n in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert (await api.get("/devices/kitchen"))["profile"] == won.json()["profile"]


async def test_what_is_sent_again_is_done_once(tmp_path: Path) -> None:
    """The first answer again, marked as such; the key does not serve another request, nor another caller."""
    creating = with_parameter("Idempotency-Key")
    assert len(creating) >= 9
    async with place_in(tmp_path / "data") as place, await place.api.user(Role.ADMIN) as somebody:
        api = place.api
        for method, path, description in creating:
            operation = description["operationId"]
            there, more = await place.working(operation, path)
            more["headers"] = {"idempotency-key": operation}
            first = await ask(api.http, method, there, more)
            assert first.status_code == 201, (operation, first.text)
            await place.at_rest()
            rows = {name: len(table) for name, table in (await everything(api)).items()}
            again = await ask(api.http, method, there, more)
            assert (again.status_code, again.content) == (201, first.content), operation
            assert again.headers["idempotency-replayed"] == "true"
            assert again.headers.get("etag") == first.headers.get("etag")
            assert {name: len(table) for name, table in (await everything(api)).items()} == rows, operation
            other = await ask(api.http, method, there, {**more, "params": {"x": "1"}})
            problem(other, 409, "idempotency-conflict")
            own = await ask(somebody, method, there, more)
            assert "idempotency-replayed" not in own.headers, operation


async def test_a_key_is_free_again_when_nothing_was_done(api: Api) -> None:
    """After a refusal, a rehearsal, a body that is wrong; what is no key is 400."""
    send = api.http.post
    headers = {"idempotency-key": "k"}
    await api.send("POST", "/devices", 201, json={"id": "taken"})
    problem(await send("/api/v1/devices", json={"id": "taken"}, headers=headers), 409, "conflict")
    problem(await send("/api/v1/devices", json={"id": ""}, headers=headers), 422, "invalid")
    assert (await send("/api/v1/devices?dry_run=1", json={"id": "new"}, headers=headers)).status_code == 201
    made = await send("/api/v1/devices", json={"id": "new"}, headers=headers)
    assert (made.status_code, "idempotency-replayed" in made.headers) == (201, False)
    for bad in ("", "x" * 129, "a b", "\x7f"):
        for path in ("/api/v1/devices", "/api/v1/devices?dry_run=1"):
            answer = await send(path, json={"id": "other"}, headers={"idempotency-key": bad})
            problem(answer, 400, "bad-request")


async def test_the_same_twice_at_once_is_done_once(api: Api) -> None:
    """Whichever comes second is told that the first is under way, or gets its answer."""
    for path, body in (("/enrollments", {}), ("/fleets", {"name": "f"})):
        headers = {"idempotency-key": path}
        answers = await asyncio.gather(*(api.http.post(f"/api/v1{path}", json=body, headers=headers) for _ in range(4)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert len((await api.get(path))["data"]) == 1


@pytest.mark.parametrize("sort", ["id", "-created_at", "updated_at"])
async def test_pages_of_a_list_that_changes(api: Api, sort: str) -> None:
    """What stands all the time comes once; what comes and goes meanwhile shifts nothing."""
    lines = "\n".join(f'{{"id":"d{number:03}"}}' for number in range(60))
    await api.send("POST", "/devices:bulk", content=lines, headers={"content-type": "application/x-ndjson"})
    found: list[str] = []
    cursor: str | None = None
    gone: set[str] = set()
    for round in range(100):
        page = await api.get("/devices", params={"sort": sort, "limit": 7, **({"cursor": cursor} if cursor else {})})
        found += [row["id"] for row in page["data"]]
        cursor = page["meta"]["next"]
        if cursor is None:
            break
        # One that was shown, the last one, on which the cursor stands; and new ones at both ends.
        gone.add(found[-1])
        await api.send("DELETE", f"/devices/{found[-1]}", 204, headers={"if-match": "*"})
        await api.send("POST", "/devices", 201, json={"id": f"a{round}"})
        await api.send("POST", "/devices", 201, json={"id": f"z{round}"})
    assert len(found) == len(set(found))
    assert {f"d{number:03}" for number in range(60)} <= set(found)
