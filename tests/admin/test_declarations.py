"""Documents over the admin API and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from gateway.admin.resources.declarations import KindName
from gateway.control.roles import Role
from gateway.documents.kinds import KINDS
from tests.admin.api import Api, problem

ONE = "kind: Spool\nname: a\nmatch: [{service: historian}]\n"


async def test_documents_over_the_api(api: Api) -> None:
    done = await api.send("POST", "/documents:apply", json={"text": ONE})
    assert [(each["document"]["name"], each["outcome"]) for each in done["applied"]] == [("a", "created")]
    assert [row["name"] for row in (await api.get("/documents?kind=Spool"))["data"]] == ["a"]
    answer = await api.http.get("/api/v1/documents/Spool/a")
    assert answer.headers["etag"] == '"1"'
    body = {"match": [{"service": "archive"}]}
    new = {"if-match": '"0"'}
    problem(await api.http.put("/api/v1/documents/Spool/a", json=body, headers=new), 412, "precondition-failed")
    headers = {"if-match": '"1"'}
    changed = await api.send("PUT", "/documents/Spool/a", json=body, headers=headers)
    assert changed["applied"][0]["document"]["version"] == 2
    await api.send("PUT", "/documents/Spool/b", json={"match": [{"service": "c"}]}, headers=new)
    problem(await api.http.delete("/api/v1/documents/Spool/a"), 428, "precondition-required")
    await api.send("DELETE", "/documents/Spool/a", 204, headers={"if-match": "*"})
    assert set(await api.get("/documents/schema")) == set(KINDS) == set(get_args(KindName))
    kinds = [event.kind for event in api.node.admin.events.since(0, 1000)[0]] if api.node.admin else []
    assert [kind for kind in kinds if kind.startswith("document.")] == [
        "document.applied",
        "document.applied",
        "document.applied",
        "document.deleted",
    ]


async def test_what_is_wrong_has_a_code_a_pointer_and_a_line(api: Api) -> None:
    answer = await api.http.post("/api/v1/documents:apply", json={"text": ONE + "maxAge: 0\n"})
    document = problem(answer, 422, "invalid-document")
    assert document["errors"] == [
        {
            "pointer": "/maxAge",
            "detail": "maxAge is 0",
            "code": "GW0112",
            "document": "Spool/a",
            "line": 4,
            "fix": "maxAge: 7d",
        }
    ]


async def test_who_may(api: Api) -> None:
    async with await api.key(Role.VIEWER, ("policy",)) as viewer:
        assert (await viewer.get("/api/v1/documents")).status_code == 200
        problem(await viewer.post("/api/v1/documents:apply", json={"text": ONE}), 403, "forbidden")
    async with await api.key(Role.ADMIN, ("devices",)) as stranger:
        problem(await stranger.get("/api/v1/documents"), 403, "forbidden")


async def test_a_dry_run(api: Api, tmp_path: Path) -> None:
    await api.send("POST", "/documents:apply?dry_run=1", json={"text": ONE})
    assert (await api.get("/documents"))["data"] == []
