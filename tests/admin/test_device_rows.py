"""What a row of the devices says of now: who is here, how the last connection ended; and snippets of a token."""

from __future__ import annotations

import re

import pytest

from gateway.admin.static import FOLDER
from gateway.control.snippets import PROGRAMS, parsed
from gateway.forwarding.closing import CloseReason
from tests.admin.api import Api, problem
from tests.local_node import until


async def ids(api: Api, **params: str) -> list[str]:
    return [row["id"] for row in (await api.get("/devices", params=params))["data"]]


async def test_who_is_here_and_how_the_last_connection_ended(api: Api) -> None:
    for name in ("here", "gone", "never"):
        await api.send("POST", "/devices", 201, json={"id": name})
    await api.local.client(subject="here", kind="device", serving=("here",))
    await api.local.client(subject="gone", kind="device", serving=("gone",))
    assert (await api.send("POST", "/devices/gone/kick"))["kicked"] == 1
    await until(lambda: bool(api.node.plane.register.closed))
    rows = {row["id"]: row for row in (await api.get("/devices"))["data"]}
    assert [rows[name]["online"] for name in ("here", "gone", "never")] == [True, False, False]
    assert (rows["here"]["node"], rows["gone"]["node"]) == (api.node.config.node.name, "")
    assert (rows["here"]["closed"], rows["never"]["closed"]) == (None, None)
    assert (rows["gone"]["closed"]["reason"], rows["gone"]["closed"]["text"]) == ("kicked", "closed by an operator")
    assert (await api.get("/devices/gone"))["closed"] == rows["gone"]["closed"]
    assert (await ids(api, online="true"), await ids(api, online="false")) == (["here"], ["gone", "never"])
    assert await ids(api, online="false", q="nev") == ["never"]
    page = await api.get("/devices", params={"online": "false", "limit": "1", "count": "true"})
    assert ([row["id"] for row in page["data"]], page["meta"]["count"]) == (["gone"], 2)
    assert await ids(api, online="false", limit="1", cursor=page["meta"]["next"]) == ["never"]


async def test_a_credential_written_down(api: Api) -> None:
    made = await api.send("POST", "/devices", 201, json={"id": "kitchen", "issue": {}})
    given = made["credential"]
    shown = await api.send("POST", "/devices/kitchen/snippets", json={"token": given["token"]})
    assert parsed(shown["line"]) == (given["url"], given["token"])
    assert shown["qr_svg"].startswith("<svg")
    assert (shown["reach"], shown["note"]) == ("this-machine", "")
    assert [each["platform"] for each in shown["snippets"]] == list(PROGRAMS)
    assert all(given["token"] in each["text"] for each in shown["snippets"])
    long = await api.send("POST", "/devices/kitchen/snippets", json={"token": "x" * 4096})
    assert long["qr_svg"] is None
    problem(await api.http.post("/api/v1/devices/nobody/snippets", json={"token": "x"}), 404, "not-found")


@pytest.mark.parametrize("reason", [each.label for each in CloseReason])
def test_each_reason_has_words(reason: str) -> None:
    """The dashboard says why a device is offline, and what to do about it."""
    words = (FOLDER / "app" / "words" / "reasons.js").read_text("utf-8")
    for key in (f"reason.{reason}", f"advice.{reason}"):
        assert re.search(rf'^  "{re.escape(key)}": ".+",$', words, re.MULTILINE), key
