"""What a person needs to put a credential into a device: the line, its QR code, and a program for each platform."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gateway.admin.access import Operations
from gateway.admin.context import Here
from gateway.admin.drawing import drawn
from gateway.admin.problem import Problem
from gateway.admin.resources.devices import Id
from gateway.admin.shapes import Shown, Taken
from gateway.control.snippets import PROGRAMS, Credential

operations = Operations("device-snippets", "devices")


class DeviceToken(Taken):
    token: str = Field(min_length=1, max_length=8192, pattern=r"^[!-~]+$")


class SnippetView(Shown):
    """`platform` is a stable word, `title` is for a person."""

    platform: str
    title: str
    text: str


class DeviceSnippets(Shown):
    """`line`: address, device and token in one, for programs and the phone page. `qr_svg`: the same, drawn;
    null where it is too long for that. `reach`: who can use the address of it: others, only this machine, or nobody;
    `note` says why nobody can."""

    line: str
    url: str
    qr_svg: str | None
    reach: Literal["others", "this-machine", "nobody"]
    note: str
    snippets: list[SnippetView]


@operations.post("/devices/{id}/snippets", response_model=DeviceSnippets)
async def write_device_snippets(here: Here, id: Id, body: DeviceToken) -> Any:
    """Write a token of a device as it can be copied. The token has to be sent: it is kept nowhere."""
    await here.control.devices.get(id)
    ca = here.identity.ca_path.read_bytes() if here.node.issues_certificate else None
    given = Credential(id, here.node.advertised_url, body.token, "", ca)
    try:
        qr = (await drawn(given.line)).decode()
    except Problem:
        qr = None
    return DeviceSnippets(
        line=given.line,
        url=given.url,
        qr_svg=qr,
        reach="nobody" if given.unreachable else "this-machine" if given.local else "others",
        note=given.unreachable,
        snippets=[
            SnippetView(platform=platform, title=title, text=write(given))
            for platform, (title, write) in PROGRAMS.items()
        ],
    )
