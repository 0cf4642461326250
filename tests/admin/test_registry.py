"""Devices, enrolments, fleets, issuers and revocations over HTTP."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.admin.api import Api, problem

LINES = {"content-type": "application/x-ndjson"}
CSV = {"content-type": "text/csv"}


async def test_devices_are_found(api: Api) -> None:
    rows = [
        {"id": "anna", "profile": "thermo", "labels": {"floor": "1"}, "groups": ["home"]},
        {"id": "bert", "profile": "thermo", "labels": {"floor": "2"}, "enabled": False},
        {"id": "carl", "kind": "service", "notes": "by the window", "firmware": "1.2"},
    ]
    for row in rows:
        await api.send("POST", "/devices", 201, json=row)
    client = await api.local.client(subject="anna", kind="device", serving=("anna",))
    for query, expected in (
        ({"profile": "thermo"}, ["anna", "bert"]),
        ({"profile": "thermo", "sort": "-id"}, ["bert", "anna"]),
        ({"label": "floor"}, ["anna", "bert"]),
        ({"label": "floor=2"}, ["bert"]),
        ({"label": "floor=3"}, []),
        ({"group": "home"}, ["anna"]),
        ({"enabled": "false"}, ["bert"]),
        ({"kind": "service"}, ["carl"]),
        ({"q": "WINDOW"}, ["carl"]),
        ({"seen_since": "2020-01-01T00:00:00Z"}, []),
    ):
        page = await api.get("/devices", params={**query, "count": "1"})
        assert [row["id"] for row in page["data"]] == expected, query
        assert page["meta"]["count"] == len(expected)
    anna, bert, _ = (await api.get("/devices"))["data"]
    assert (anna["online"], bert["online"]) == (True, False)
    assert anna["connections"] == [str(api.local.connection(client).number)]
    (session,) = (await api.get("/devices/anna/sessions"))["data"]
    assert session["state"] == "open"
    assert (await api.send("POST", "/devices/anna/kick?dry_run=1"))["kicked"] == 1
    assert (await api.send("POST", "/devices/anna/kick"))["kicked"] == 1
    await client.close()
    await api.local.settle()
    (session,) = (await api.get("/devices/anna/sessions"))["data"]
    assert (session["state"], session["reason"]) == ("closed", "kicked")
    for wrong in ({"sort": "colour"}, {"limit": "0"}, {"limit": "1001"}, {"cursor": "x"}, {"enabled": "perhaps"}):
        problem(await api.http.get("/api/v1/devices", params=wrong), 422, "invalid")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": ""}, "/id"),
        ({"id": "a/b"}, "/id"),
        ({"id": "export"}, "/id"),
        ({"id": "x" * 65}, "/id"),
        ({"id": "x", "kind": "admin"}, "/kind"),
        ({"id": "x", "enabled": 1}, "/enabled"),
        ({"id": "x", "services": [""]}, "/services"),
        ({"id": "x", "labels": {"a": 1}}, "/labels"),
        ({"id": "x", "version": 7}, "/version"),
        ({"id": "x", "issue": {"ttl_s": 0}}, "/issue"),
    ],
)
async def test_what_is_no_device(api: Api, body: dict[str, Any], pointer: str) -> None:
    """Fault 98: told where it is wrong, and nothing of it is there."""
    errors = problem(await api.http.post("/api/v1/devices", json=body), 422, "invalid")["errors"]
    assert any(error["pointer"].startswith(pointer) for error in errors), errors
    assert (await api.get("/devices"))["data"] == []


async def test_good_rows_are_imported_and_bad_ones_told(api: Api) -> None:
    await api.send("POST", "/devices", 201, json={"id": "there"})
    text = (
        "\ufeffid,profile,labels,enabled\r\na,thermo,floor=1;room=7,false\r\nno blanks,,,\r\nthere,,,\r\nb,,,maybe\r\n"
    )
    dry = await api.send("POST", "/devices:bulk?dry_run=1", content=text.encode(), headers=CSV)
    done = await api.send("POST", "/devices:bulk", content=text.encode(), headers=CSV)
    assert dry == done
    assert (done["created"], done["failed"]) == (1, 3)
    assert [(each["row"], each["id"]) for each in done["failures"]] == [(2, "no blanks"), (3, "there"), (4, "b")]
    a = await api.get("/devices/a")
    assert (a["profile"], a["labels"], a["enabled"]) == ("thermo", {"floor": "1", "room": "7"}, False)
    lines = '{"id":"c"}\n\nnot json\n[1]\n{"id":"c"}\n'
    done = await api.send("POST", "/devices:bulk", content=lines, headers=LINES)
    assert (done["created"], [each["row"] for each in done["failures"]]) == (1, [2, 3, 4])
    for content, headers, status, slug in (
        (b"id,colour\na,b\n", CSV, 422, "invalid"),
        (b"profile\na\n", CSV, 422, "invalid"),
        (b"\xff\xfe", LINES, 400, "bad-request"),
        (b"{}", {"content-type": "application/json"}, 415, "unsupported-media-type"),
    ):
        problem(await api.http.post("/api/v1/devices:bulk", content=content, headers=headers), status, slug)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
async def test_what_is_exported_can_be_imported(api: Api, format: str) -> None:
    """Except that a spreadsheet must not take a text for a formula: there it has an apostrophe in front."""
    rows = [
        {"id": "a", "profile": 'with "quotes", and é 😀', "labels": {"floor": "1", "room": "7"}, "groups": ["x", "y"]},
        {"id": "b", "notes": "two\nlines", "services": [], "routes": ["thermo.*"], "enabled": False},
        {"id": "c", "notes": "=1+1"},
    ]
    for row in rows:
        await api.send("POST", "/devices", 201, json=row)
    exported = await api.http.get("/api/v1/devices/export", params={"format": format})
    assert exported.headers["content-disposition"] == f'attachment; filename="devices.{format}"'
    shown = ("kind", "profile", "labels", "groups", "services", "routes", "notes", "enabled")
    before = {row["id"]: {name: row[name] for name in shown} for row in (await api.get("/devices"))["data"]}
    for row in rows:
        await api.send("DELETE", f"/devices/{row['id']}", 204, headers={"if-match": "*"})
    headers = CSV if format == "csv" else LINES
    done = await api.send("POST", "/devices:bulk", content=exported.content, headers=headers)
    assert (done["created"], done["failed"]) == (3, 0), done
    after = {row["id"]: {name: row[name] for name in shown} for row in (await api.get("/devices"))["data"]}
    if format == "csv":
        assert after["c"].pop("notes") == "'" + before["c"].pop("notes")
        # An empty cell says nothing, so it leaves the default.
        assert before["b"].pop("services") == []
        after["b"].pop("services")
        assert len(list(csv.reader(io.StringIO(exported.text)))) == 4
    else:
        assert [json.loads(line)["id"] for line in exported.text.split("\n")[:-1]] == ["a", "b", "c"]
    assert after == before


async def test_an_enrolment_is_used_once(api: Api) -> None:
    made = await api.send("POST", "/enrollments", 201, json={"device_id": "kitchen", "profile": "thermo"})
    path = f"/enrollments/{made['enrollment']['id']}"
    drawn = await api.http.post(f"/api/v1{path}/qr.svg", json={"token": made["token"]})
    assert drawn.headers["content-type"] == "image/svg+xml"
    assert b"<svg" in drawn.content
    async with api.client() as device:
        claim = {"token": made["token"], "firmware": "1.0"}
        done = (await device.post("/api/v1/enroll", json=claim)).json()
        assert done["device_id"] == "kitchen"
        assert done["url"] == api.node.advertised_url
        assert done["token"]
        again = problem(await device.post("/api/v1/enroll", json=claim), 403, "forbidden")
        unknown = problem(await device.post("/api/v1/enroll", json={"token": "x"}), 403, "forbidden")
        assert again["detail"] == unknown["detail"]
    assert made["token"] not in (await api.http.get(f"/api/v1{path}")).text
    assert (await api.get(path))["used"] == 1
    assert (await api.get("/devices/kitchen"))["profile"] == "thermo"
    assert [row["id"] for row in (await api.get("/enrollments?active=true"))["data"]] == []
    other = await api.send("POST", "/enrollments", 201, json={})
    await api.send("DELETE", f"/enrollments/{other['enrollment']['id']}", 204)
    problem(await api.http.post("/api/v1/enroll", json={"token": other["token"], "device_id": "b"}), 403, "forbidden")
    problem(await api.http.get("/api/v1/devices/b"), 404, "not-found")
    for wrong in ({"uses": 0}, {"ttl_s": 0}, {"ttl_s": 1e9}, {"device_id": "a", "uses": 2}, {"x": 1}):
        problem(await api.http.post("/api/v1/enrollments", json=wrong), 422, "invalid")


async def test_credentials_are_listed_and_revoked(api: Api) -> None:
    made = await api.send("POST", "/devices", 201, json={"id": "kitchen", "issue": {"ttl_s": 600}})
    (row,) = (await api.get("/devices/kitchen/credentials"))["data"]
    assert row["token_id"] == made["credential"]["token_id"]
    assert made["credential"]["token"] not in json.dumps(row)
    assert (await api.send("POST", f"/credentials/{row['id']}/revoke?dry_run=1", json={}))["revoked_at"]
    assert (await api.get("/devices/kitchen/credentials"))["data"][0]["revoked_at"] is None
    await api.send("POST", f"/credentials/{row['id']}/revoke", json={"reason": "lost"})
    assert (await api.get("/devices/kitchen/credentials?active=true"))["data"] == []
    (kept,) = (await api.get("/devices/kitchen/credentials?active=false"))["data"]
    assert kept["reason"] == "lost"
    problem(await api.http.post("/api/v1/devices/kitchen/keys", json={"public_key": "no PEM"}), 422, "invalid")


async def test_revocations_are_lifted(api: Api) -> None:
    made = await api.send("POST", "/revocations", 201, json={"kind": "subject", "value": "kitchen", "reason": "stolen"})
    assert [row["value"] for row in (await api.get("/revocations?kind=subject"))["data"]] == ["kitchen"]
    assert (await api.get("/revocations?kind=key"))["data"] == []
    await api.send("DELETE", f"/revocations/{made['id']}", 204)
    problem(await api.http.delete(f"/api/v1/revocations/{made['id']}"), 404, "not-found")
    body = {"kind": "token", "value": "x", "not_before": "2026-01-01T00:00:00Z"}
    problem(await api.http.post("/api/v1/revocations", json=body), 422, "invalid")


@pytest.mark.parametrize(
    "body",
    [
        {"issuer": "https://a", "keys": {"keys": []}, "jwks_url": "https://a/jwks"},
        {"issuer": "https://a"},
        {"issuer": "https://a", "keys": {"keys": [{"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"}]}},
        {"issuer": "https://a", "jwks_url": "file:///etc/passwd"},
        {"issuer": "https://a", "keys": {"keys": []}, "kinds": ["admin"]},
    ],
)
async def test_what_is_no_issuer(api: Api, body: dict[str, Any]) -> None:
    """No secret keys as public ones, no files, no administrators from elsewhere."""
    problem(await api.http.post("/api/v1/issuers", json=body), 422, "invalid")
    assert (await api.get("/issuers"))["data"] == []
